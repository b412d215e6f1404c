"""rqd with much of everything: a rate over the length of the backlog, queues, workers, masters."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from benchmarks import tasks
from benchmarks.bench import Bench, Run
from benchmarks.contenders.base import WORKERS
from benchmarks.contenders.rqd import Rqd
from benchmarks.processes import running, wait_for
from benchmarks.results import Claimed, Flat, Quantity
from benchmarks.throughput import WARM_UP_SHARE, Watch, jobs_for

_GUESS = 500.0
_LOOK_S = 0.05  # seldom, as a look at a thousand queues costs
_AT_ONCE = 10_000  # handles held while a backlog is made
_TITLE = "a process a job, no-ops, jobs/s by size"
_QUEUES, _WORKERS, _MASTERS = (1, 100, 1000), (1, 2, 4, 8, 16, 32, 64), (1, 2, 4, 8)
_FLAT = 1.3
_RUN_SHARE = 0.6  # of the effort's seconds: there are many sizes


class Scaling:
    """Where not said otherwise one queue, four workers, one master."""

    name = "scaling"
    quantities: tuple[Quantity, ...] = tuple(
        Quantity(f"scaling.{what}", _TITLE, what, chart="lines")
        for what in ("backlog", "queues", "workers", "masters")
    )
    claims: tuple[Claimed, ...] = (
        Flat("backlog, from 1,000 on: largest fall", "scaling.backlog", _FLAT),
        Flat("1 to 1,000 queues: largest fall", "scaling.queues", _FLAT),
        Flat("4 to 64 workers: largest fall", "scaling.workers", _FLAT, first=f"{WORKERS}"),
        Flat("1 to 8 masters: largest fall", "scaling.masters", _FLAT),
    )

    def runs(self, bench: Bench) -> list[Run]:
        """Twice, but for the largest backlog, which takes long to make."""
        backlogs = [1_000, bench.effort.largest_backlog // 10, bench.effort.largest_backlog]
        runs = [
            Run(f"{size:,}", partial(_backlog, bench, size), 1 if size == backlogs[-1] else 2)
            for size in backlogs
        ]
        for count in _QUEUES:
            queues = tuple(f"q{number}" for number in range(count))
            measure = partial(_spread, bench, Rqd(bench.server, queues=queues), 1, "queues")
            runs.append(Run(f"{count:,}", measure, 2))
        for count in _WORKERS:
            measure = partial(_spread, bench, Rqd(bench.server, workers=count), 1, "workers")
            runs.append(Run(f"{count}", measure, 2))
        for count in _MASTERS:
            measure = partial(_spread, bench, Rqd(bench.server), count, "masters")
            runs.append(Run(f"{count}", measure, 2))
        return runs


def _backlog(bench: Bench, size: int) -> dict[str, float]:
    """Some seconds' worth of it, and the whole if that is less."""
    rqd = Rqd(bench.server)
    jobs = min(size, _some(bench, rqd))
    return {"scaling.backlog": _rate(bench, rqd, size, jobs, 1)}


def _spread(bench: Bench, rqd: Rqd, masters: int, what: str) -> dict[str, float]:
    jobs = _some(bench, Rqd(bench.server))
    return {f"scaling.{what}": _rate(bench, rqd, jobs, jobs, masters)}


def _some(bench: Bench, rqd: Rqd) -> int:
    return jobs_for(bench, rqd, _GUESS, _RUN_SHARE * bench.effort.backlog_s)


def _rate(bench: Bench, rqd: Rqd, size: int, jobs: int, masters: int) -> float:
    bench.server.empty()
    for done in range(0, size, _AT_ONCE):
        rqd.enqueue_many(tasks.noop, min(_AT_ONCE, size - done))
    watch = Watch(rqd, jobs)
    with ExitStack() as stack:
        logs = [bench.server.folder / f"master-{number}.log" for number in range(masters)]
        first, *_ = [
            stack.enter_context(running(rqd.command, bench.server.env, log)) for log in logs
        ]
        wait_for(watch.is_done, f"{size} jobs", 90.0, first, logs[0], every_s=_LOOK_S)
    return watch.rate(max(1, int(jobs * WARM_UP_SHARE)), jobs)
