"""What a job costs: Redis commands, bytes to and from Redis, cpu seconds by process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks import tasks
from benchmarks.bench import Bench, Run
from benchmarks.contenders import PEERS, REUSING, RQ, RQD
from benchmarks.contenders.base import WORKERS, Contender
from benchmarks.labels import RQ as RQ_LABEL
from benchmarks.labels import RQD as RQD_LABEL
from benchmarks.monitor import monitored
from benchmarks.processes import running, wait_for
from benchmarks.results import Claimed, Quantity, Ratio
from benchmarks.server import Server
from benchmarks.throughput import jobs_for
from benchmarks.usage import PARTS, cpu_seconds

_ONE_BY_ONE = 15
_PAUSE_S = 0.06
_LOOK_S = 0.05
_LOOKS = 20
_GUESS = 300.0
_REDIS = "to and from Redis a job: commands, bytes"
_CPU = "cpu time a job, microseconds"


class Commands:
    """Counted, not timed, so once. A backlog's share includes the workers' boot."""

    name = "commands"
    quantities: tuple[Quantity, ...] = (
        Quantity("commands.enqueue", _REDIS, "enqueue", 2),
        Quantity("commands", _REDIS, "with backlog", 2),
        Quantity("commands.idle", _REDIS, "when idle", 2),
        Quantity("bytes", _REDIS, "bytes"),
        *(Quantity(f"cpu.{part}", _CPU, part, chart="stacked") for part in PARTS),
        Quantity("cpu", _CPU, "all"),
    )
    claims: tuple[Claimed, ...] = (
        Ratio("Redis commands a job: rqd / RQ", "commands", RQD_LABEL, (RQ_LABEL,), 0.1, True),
        Ratio("bytes a job: rqd / RQ", "bytes", RQD_LABEL, (RQ_LABEL,), 0.1, True),
        Ratio("cpu time a job: rqd / RQ", "cpu", RQD_LABEL, (RQ_LABEL,), 0.1, True),
    )

    def runs(self, bench: Bench) -> list[Run]:
        """Each of them once."""
        contenders = bench.available({**RQ, **RQD, **PEERS}) + bench.available(REUSING)
        return [Run(one.label, partial(_measure, bench, one), rounds=1) for one in contenders]


def _measure(bench: Bench, contender: Contender) -> dict[str, float]:
    found = _count(bench.server, contender, bench.effort.command_jobs)
    return found | _use(bench, contender)


def _count(server: Server, contender: Contender, jobs: int) -> dict[str, float]:
    """The last is a median over jobs, so that what idle workers send by the clock doesn't count."""
    server.empty()
    contender.enqueue(tasks.noop)
    server.empty()
    with monitored(server) as enqueued:
        contender_jobs = [contender.enqueue(tasks.noop) for _ in range(jobs)]
    each = enqueued.total() / jobs
    log = server.folder / "contender.log"
    target = len(contender_jobs)

    def is_done() -> bool:
        return contender.finished() >= target

    with monitored(server) as worked, running(contender.command, server.env, log) as process:
        wait_for(is_done, f"{contender.label}, counting", 60.0, process, log)
        worked_off = worked.total()
        contender.enqueue_many(tasks.noop, 2 * WORKERS)
        target += 2 * WORKERS
        wait_for(is_done, f"{contender.label}, counting", 60.0, process, log)
        time.sleep(0.5)
        singly = []
        for _ in range(_ONE_BY_ONE):
            before = worked.total()
            contender.enqueue(tasks.noop)
            time.sleep(_PAUSE_S)
            singly.append(worked.total() - before)
    return {
        "commands.enqueue": each,
        "commands": each + worked_off / jobs,
        "commands.idle": statistics.median(singly),
    }


def _use(bench: Bench, contender: Contender) -> dict[str, float]:
    """Bytes of enqueue and a whole run; cpu time between a tenth of the jobs and all of them."""
    jobs = jobs_for(bench, contender, _GUESS, bench.effort.backlog_s)
    server = bench.server
    server.empty()
    before = _traffic(server)
    contender.enqueue_many(tasks.noop, jobs)
    log = server.folder / "contender.log"
    looks = 1  # one without a wait

    def has_finished(count: int) -> bool:
        nonlocal looks
        looks += 1
        return contender.finished() >= count

    what = f"{contender.label}, {jobs} jobs"
    with running(contender.command, server.env, log) as process:
        wait_for(partial(has_finished, jobs // 10), what, 60.0, process, log)
        early, began_with = cpu_seconds(process.pid, server.pid), contender.finished()
        wait_for(partial(has_finished, jobs), what, 60.0, process, log, every_s=_LOOK_S)
        late = cpu_seconds(process.pid, server.pid)
        traffic = _traffic(server) - before
    a_look_at_traffic = _bytes_of(server, contender.finished, 0)
    a_look = (_bytes_of(server, contender.finished, _LOOKS) - a_look_at_traffic) / _LOOKS
    traffic -= round(looks * a_look + a_look_at_traffic)
    counted = max(1, jobs - began_with)
    parts = {f"cpu.{part}": (late[part] - early[part]) / counted for part in PARTS}
    parts["cpu"] = sum(parts.values())
    return {"bytes": traffic / jobs, **{name: seconds * 1e6 for name, seconds in parts.items()}}


def _bytes_of(server: Server, look: Callable[[], object], times: int) -> int:
    """What so many looks cost, and the one at the server's counters."""
    before = _traffic(server)
    for _ in range(times):
        look()
    return _traffic(server) - before


def _traffic(server: Server) -> int:
    info: Any = server.client.info("stats")
    return int(info["total_net_input_bytes"]) + int(info["total_net_output_bytes"])
