"""Jobs a second while a backlog is worked off, seen from outside and the same for all."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass

from benchmarks import tasks
from benchmarks.contenders import WORKERS, Contender
from benchmarks.processes import BenchmarkError, running, wait_for
from benchmarks.server import Server

# The clock starts when so much of the backlog is done: workers that boot one after the other are
# all at work by then.
WARM_UP_SHARE = 0.05
_CHECKED = 20  # results read back in each run


@dataclass(frozen=True, slots=True)
class Rate:
    """One run of a backlog."""

    jobs: int
    per_s: float


def measure_backlog(server: Server, contender: Contender, jobs: int, timeout_s: float) -> Rate:
    """Enqueues the jobs, then starts the workers: the rate from warm-up to the last finished job.

    Raises BenchmarkError unless every job is finished, with its result.
    """
    server.empty()
    handles = contender.enqueue_many(tasks.noop, jobs)
    first = max(1, int(jobs * WARM_UP_SHARE))
    seen, began, ended = 0, 0.0, 0.0
    began_with = 0

    def is_done() -> bool:
        nonlocal seen, began, began_with, ended
        seen = server.count(*contender.counter)
        ended = time.perf_counter()
        if not began and seen >= first:
            began, began_with = ended, seen
        return seen >= jobs

    log = server.folder / "contender.log"
    with running(contender.command, server.env, log) as process:
        wait_for(is_done, f"{contender.label}, {jobs} jobs", timeout_s, process, log)
        _check(contender, handles, seen)
    if began_with >= jobs:
        raise BenchmarkError(f"{contender.label}: {jobs} jobs were over before they were seen")
    return Rate(jobs, (seen - began_with) / (ended - began))


def measure_bare(server: Server, jobs: int, timeout_s: float) -> Rate:
    """The bare loop of the zygote, in a process of its own."""
    log = server.folder / "bare.log"
    command = [sys.executable, "-m", "benchmarks.bare", str(WORKERS), str(jobs)]
    with running(command, server.env, log) as process:
        try:
            status = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            status = -1
    if status != 0:
        raise BenchmarkError(f"the bare loop, {jobs} jobs: status {status}\n{log.read_text()}")
    return Rate(jobs, float(log.read_text().split()[-1]))


def _check(contender: Contender, handles: list[object], seen: int) -> None:
    if seen != len(handles):
        raise BenchmarkError(f"{contender.label}: {seen} finished of {len(handles)} jobs")
    for handle in handles[:: max(1, len(handles) // _CHECKED)]:
        if contender.result(handle) != tasks.noop():
            raise BenchmarkError(f"{contender.label}: {handle!r} has no result")
