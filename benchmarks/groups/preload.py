"""No-ops, a process for each, forked from one that holds an application; 4 at a time."""

from __future__ import annotations

import os
from functools import partial

from benchmarks.bench import Bench, Run
from benchmarks.contenders import Makers
from benchmarks.contenders.base import Contender
from benchmarks.contenders.rq import RqPool
from benchmarks.contenders.rqd import Rqd
from benchmarks.labels import RQ, RQD
from benchmarks.results import Bound, Claimed, Quantity, Ratio
from benchmarks.throughput import backlog_rate, jobs_for, work_off

_GUESS = 60.0
_MB = 60
_TITLE = "a process a job, forked from an application, 4 at a time, no-ops, jobs/s"
_BIG, _SLOW = "benchmarks.apps.big_app", "benchmarks.apps.slow_app"


class Preload:
    """An application of 60 MB; and jobs of a module that takes 300 ms to import."""

    name = "preload"
    quantities: tuple[Quantity, ...] = (
        Quantity("preload.big", _TITLE, f"{_MB} MB preloaded"),
        Quantity("preload.slow", _TITLE, "slow import preloaded"),
        Quantity("preload.imports", _TITLE, "imports of it"),
    )
    claims: tuple[Claimed, ...] = (
        Ratio(f"{_MB} MB preloaded: rqd / RQ's pool", "preload.big", RQD, (RQ,), 3),
        Ratio("slow import preloaded: rqd / RQ's pool", "preload.slow", RQD, (RQ,), 3),
        Bound("slow import preloaded: imports for all jobs", "preload.imports", RQD, 1, ""),
    )

    def runs(self, bench: Bench) -> list[Run]:
        """Both with both."""
        big: Makers = {
            "RQ": partial(RqPool, preload=_BIG),
            "rqd": partial(Rqd, preload=f"{_BIG},benchmarks.tasks"),
        }
        slow: Makers = {
            "RQ": partial(RqPool, preload=_SLOW),
            "rqd": partial(Rqd, preload=_SLOW),
        }
        return [
            *(Run(one.label, partial(_with_big, bench, one)) for one in bench.available(big)),
            *(Run(one.label, partial(_with_slow, bench, one)) for one in bench.available(slow)),
        ]


def _with_big(bench: Bench, contender: Contender) -> dict[str, float]:
    os.environ["BENCH_APP_MB"] = str(_MB)
    return {"preload.big": backlog_rate(bench, contender, _GUESS)}


def _with_slow(bench: Bench, contender: Contender) -> dict[str, float]:
    noted = bench.server.folder / "imports"
    os.environ["BENCH_IMPORTS"] = str(noted)
    from benchmarks.apps import slow_app  # the producer's own import comes before the count

    jobs = jobs_for(bench, contender, _GUESS, bench.effort.backlog_s)
    noted.write_text("")
    rate = work_off(bench.server, contender, jobs, 60.0, slow_app.noop)
    return {"preload.slow": rate, "preload.imports": float(len(noted.read_text().split()))}
