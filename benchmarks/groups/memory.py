"""Memory of all processes together, at rest, after some jobs."""

from __future__ import annotations

import os
import sys
import time
from functools import partial

from benchmarks import tasks
from benchmarks.bench import Bench, Run
from benchmarks.contenders import PEERS, REUSING, RQ, RQD, Makers
from benchmarks.contenders.base import WORKERS, Contender
from benchmarks.contenders.rq import RqPool
from benchmarks.contenders.rqd import Rqd
from benchmarks.labels import RQ as RQ_LABEL
from benchmarks.labels import RQD as RQD_LABEL
from benchmarks.processes import running, wait_for
from benchmarks.results import Claimed, Quantity, Ratio
from benchmarks.usage import proportional_bytes

_MB = 200
_BIG = "benchmarks.apps.big_app"
_ALONE = "the application alone"
_TITLE = "memory of the whole tree (PSS), 4 workers, MB"
_SETTLE_S = 0.7


class Memory:
    """A page that several share counts once."""

    name = "memory"
    quantities: tuple[Quantity, ...] = (
        Quantity("memory.empty", _TITLE, "no application"),
        Quantity("memory.app", _TITLE, f"{_MB} MB preloaded"),
    )
    claims: tuple[Claimed, ...] = (
        Ratio("memory: rqd / RQ's pool", "memory.empty", RQD_LABEL, (RQ_LABEL,), 0.333, True),
        Ratio("memory: rqd / its application", "memory.app", RQD_LABEL, (_ALONE,), 1.3, True),
    )

    def runs(self, bench: Bench) -> list[Run]:
        """Once: it doesn't scatter."""
        os.environ["BENCH_APP_MB"] = str(_MB)
        empty = bench.available({**RQ, **RQD, **PEERS}) + bench.available(REUSING)
        big: Makers = {
            "RQ": partial(RqPool, preload=_BIG),
            "rqd": partial(Rqd, preload=f"{_BIG},benchmarks.tasks"),
        }
        return [
            *(Run(one.label, partial(_measure, bench, one, "memory.empty"), 1) for one in empty),
            *(
                Run(one.label, partial(_measure, bench, one, "memory.app"), 1)
                for one in bench.available(big)
            ),
            Run(_ALONE, partial(_measure_alone, bench), 1),
        ]


def _measure(bench: Bench, contender: Contender, quantity: str) -> dict[str, float]:
    os.environ["BENCH_APP_MB"] = str(_MB)
    log, jobs = bench.server.folder / "contender.log", 10 * WORKERS
    contender.enqueue_many(tasks.noop, jobs)
    with running(contender.command, bench.server.env, log) as process:
        wait_for(lambda: contender.finished() >= jobs, f"{contender.label}", 60.0, process, log)
        time.sleep(_SETTLE_S)
        return {quantity: proportional_bytes(process.pid) / 1e6}


def _measure_alone(bench: Bench) -> dict[str, float]:
    os.environ["BENCH_APP_MB"] = str(_MB)
    log = bench.server.folder / "alone.log"
    code = f"import {_BIG}, time; print('ready', flush=True); time.sleep(60)"
    with running([sys.executable, "-c", code], bench.server.env, log) as process:
        wait_for(lambda: "ready" in log.read_text(), _ALONE, 60.0, process, log)
        return {"memory.app": proportional_bytes(process.pid) / 1e6}
