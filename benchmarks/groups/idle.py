"""What workers cost that have nothing to do."""

from __future__ import annotations

import time
from functools import partial

from benchmarks import tasks
from benchmarks.bench import Bench, Run
from benchmarks.contenders import PEERS, Makers
from benchmarks.contenders.base import WORKERS, Contender
from benchmarks.contenders.rq import RqPool
from benchmarks.contenders.rqd import Rqd
from benchmarks.labels import RQD
from benchmarks.monitor import monitored
from benchmarks.processes import running, wait_for
from benchmarks.results import Bound, Claimed, Quantity
from benchmarks.usage import exact_cpu_seconds

_QUEUES = ("default", "low", "lower", "lowest")
_SETTLE_S = 1.5
_TITLE = "idle, 4 workers"


class Idle:
    """rqd and RQ serve four queues, the others the one they have; after some jobs."""

    name = "idle"
    quantities: tuple[Quantity, ...] = (
        Quantity("idle.cpu", _TITLE, "% of a core", 3),
        Quantity("idle.commands", _TITLE, "Redis commands/s", 1),
    )
    claims: tuple[Claimed, ...] = (
        Bound("idle: cpu", "idle.cpu", RQD, 0.2, "%"),
        Bound("idle: Redis commands a second", "idle.commands", RQD, 3, ""),
    )

    def runs(self, bench: Bench) -> list[Run]:
        """Once each."""
        makers: Makers = {
            "rqd": partial(Rqd, queues=_QUEUES),
            "RQ": partial(RqPool, queues=_QUEUES),
            **PEERS,
        }
        return [Run(one.label, partial(_measure, bench, one), 1) for one in bench.available(makers)]


def _measure(bench: Bench, contender: Contender) -> dict[str, float]:
    log, jobs, seconds = bench.server.folder / "contender.log", 2 * WORKERS, bench.effort.idle_s
    contender.enqueue_many(tasks.noop, jobs)
    with running(contender.command, bench.server.env, log) as process:
        wait_for(lambda: contender.finished() >= jobs, contender.label, 60.0, process, log)
        time.sleep(_SETTLE_S)
        with monitored(bench.server) as seen:
            before, began = exact_cpu_seconds(process.pid), time.perf_counter()
            time.sleep(seconds)
            used_s = exact_cpu_seconds(process.pid) - before
            passed_s = time.perf_counter() - began
        return {"idle.cpu": used_s / passed_s * 100, "idle.commands": seen.total() / passed_s}
