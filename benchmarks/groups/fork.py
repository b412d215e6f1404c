"""No-ops, a process for each: 4 and 8 at a time."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

from benchmarks.bench import Bench, Run
from benchmarks.contenders import Makers
from benchmarks.contenders.base import Contender
from benchmarks.contenders.rq import RqPool
from benchmarks.contenders.rqd import Rqd
from benchmarks.contenders.ruby import resque
from benchmarks.labels import BARE, RESQUE, RQ, RQD
from benchmarks.processes import BenchmarkError, running
from benchmarks.results import Claimed, Quantity, Ratio
from benchmarks.throughput import backlog_rate

_GUESS = 100.0
_BARE_GUESS = 700.0
_AT_A_TIME = (4, 8)


class Fork:
    """rqd, RQ's pool, Resque, and as the ceiling rqd's zygote without queue and master."""

    name = "fork"
    quantities: tuple[Quantity, ...] = tuple(
        Quantity(f"fork.{workers}", "a process a job, no-ops, jobs/s", f"{workers} at a time")
        for workers in _AT_A_TIME
    )
    claims: tuple[Claimed, ...] = tuple(
        Ratio(f"fork per job, {workers}: rqd / {what}", f"fork.{workers}", RQD, (row,), floor)
        for workers in _AT_A_TIME
        for what, row, floor in (
            ("RQ's pool", RQ, 12),
            ("Resque", RESQUE, 2.5),
            ("bare loop", BARE, 0.85),
        )
    )

    def runs(self, bench: Bench) -> list[Run]:
        """Those that are compared run one after the other."""
        runs: list[Run] = []
        for workers in _AT_A_TIME:
            makers: Makers = {
                "Resque": partial(resque, workers=workers),
                "RQ": partial(RqPool, workers=workers),
                "rqd": partial(Rqd, workers=workers),
            }
            quantity = f"fork.{workers}"
            runs += [
                Run(contender.label, partial(_rate, bench, contender, quantity))
                for contender in bench.available(makers)
            ]
            runs.append(Run(BARE, partial(_bare_rate, bench, workers, quantity)))
        return runs


def _rate(bench: Bench, contender: Contender, quantity: str) -> dict[str, float]:
    return {quantity: backlog_rate(bench, contender, _GUESS)}


def _bare_rate(bench: Bench, workers: int, quantity: str) -> dict[str, float]:
    key = f"bare {workers}"
    jobs = int(bench.expected.get(key, _BARE_GUESS) * bench.effort.backlog_s)
    log = bench.server.folder / "bare.log"
    command = [sys.executable, "-m", "benchmarks.bare", str(workers), str(jobs)]
    with running(command, bench.server.env, log) as process:
        try:
            status = process.wait(60.0)
        except subprocess.TimeoutExpired:
            status = -1
    if status != 0:
        raise BenchmarkError(f"{jobs} jobs: status {status}\n{log.read_text()}")
    bench.expected[key] = float(log.read_text().split()[-1])
    return {quantity: bench.expected[key]}
