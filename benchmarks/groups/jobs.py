"""Jobs that take 1, 10 and 100 ms, waiting and computing: what is added to the jobs' own time."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

from benchmarks import tasks
from benchmarks.bench import Bench, Run
from benchmarks.contenders import PEERS, REUSING, RQ, RQD
from benchmarks.contenders.base import WORKERS, Contender
from benchmarks.labels import PEERS as PEER_LABELS
from benchmarks.labels import REUSED
from benchmarks.labels import RQ as RQ_LABEL
from benchmarks.labels import RQD as RQD_LABEL
from benchmarks.processes import running, wait_for
from benchmarks.results import Bound, Claimed, Quantity, Ratio
from benchmarks.throughput import Watch, check, jobs_for

_MILLISECONDS = (1, 10, 100)
_FORK_GUESS, _REUSE_GUESS = 100.0, 1500.0
_LOOK_S = 0.005
_TIMEOUT_S = 90.0
# Of a stretch: where two kinds of jobs overlap, as workers fetch some ahead and start in any order.
_HEAD, _TAIL = 0.15, 0.15
_LEAST = 20 * WORKERS


@dataclass(frozen=True, slots=True)
class _Kind:
    """Jobs that wait, on all workers at once; or that compute, on as many as there are cores."""

    function: Callable[..., Any]
    milliseconds: int

    @property
    def name(self) -> str:
        return f"{self.function.__name__}.{self.milliseconds}"

    @property
    def ideal_per_s(self) -> float:
        """Were there nothing but the jobs."""
        cores = len(os.sched_getaffinity(0))
        at_once = WORKERS if self.function is tasks.sleep else min(cores, WORKERS)
        return at_once * 1000 / self.milliseconds


_KINDS = [_Kind(call, ms) for call in (tasks.sleep, tasks.burn) for ms in _MILLISECONDS]


def _claims() -> list[Claimed]:
    made: list[Claimed] = [
        Bound("10 ms of sleep, overhead: rqd", "sleep.10", RQD_LABEL, 5, "%"),
        Bound("10 ms of sleep, overhead: reused", "sleep.10", REUSED, 5, "%"),
    ]
    for kind in _KINDS:
        rate, what = f"{kind.name}.rate", f"{kind.milliseconds} ms of {kind.function.__name__}"
        made += [
            Ratio(f"{what}: rqd / RQ's pool", rate, RQD_LABEL, (RQ_LABEL,), 1),
            Ratio(f"{what}: reused / fastest peer", rate, REUSED, PEER_LABELS, 1),
        ]
    return made


class Jobs:
    """One backlog of all six kinds after one another, so that workers start once."""

    name = "jobs"
    quantities: tuple[Quantity, ...] = (
        *(
            Quantity(
                kind.name,
                "jobs of some length, 4 workers: time added, %",
                f"{kind.function.__name__} {kind.milliseconds} ms",
                1,
            )
            for kind in _KINDS
        ),
        *(
            Quantity(
                f"{kind.name}.rate",
                "jobs of some length, 4 workers: jobs/s",
                f"{kind.function.__name__} {kind.milliseconds} ms",
            )
            for kind in _KINDS
        ),
    )
    claims: tuple[Claimed, ...] = tuple(_claims())

    def runs(self, bench: Bench) -> list[Run]:
        """All of them, twice at most."""
        forking = bench.available({**RQ, **RQD})
        reusing = bench.available({**PEERS}) + bench.available(REUSING)
        return [
            *(Run(one.label, partial(_measure, bench, one, _FORK_GUESS), 2) for one in forking),
            *(Run(one.label, partial(_measure, bench, one, _REUSE_GUESS), 2) for one in reusing),
        ]


def _measure(bench: Bench, contender: Contender, guess: float) -> dict[str, float]:
    seconds = bench.effort.jobs_s
    most = jobs_for(bench, contender, guess, seconds)
    counts = [max(_LEAST, int(min(most, kind.ideal_per_s * seconds))) for kind in _KINDS]
    bench.server.empty()
    handles: list[Any] = []
    for kind, count in zip(_KINDS, counts, strict=True):
        handles += contender.enqueue_many(kind.function, count, kind.milliseconds / 1000)
    watch = Watch(contender, sum(counts))
    log = bench.server.folder / "contender.log"
    with running(contender.command, bench.server.env, log) as process:
        what = f"{contender.label}, {len(handles)} jobs"
        wait_for(watch.is_done, what, _TIMEOUT_S, process, log, every_s=_LOOK_S)
        check(contender, handles, lambda result: result is not None)
    found = {}
    for kind, (first, last) in zip(_KINDS, pairwise(accumulate(counts, initial=0)), strict=True):
        size = last - first
        rate = watch.steady_rate(first + int(_HEAD * size), last - int(_TAIL * size), WORKERS)
        found[f"{kind.name}.rate"] = rate
        found[kind.name] = (kind.ideal_per_s / rate - 1) * 100
    return found
