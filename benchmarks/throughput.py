"""Jobs a second while a backlog is worked off, seen from outside and the same for all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks import tasks
from benchmarks.bench import Bench
from benchmarks.contenders.base import Contender
from benchmarks.processes import BenchmarkError, running, wait_for
from benchmarks.server import Server

# The clock starts when so much of the backlog is done: workers that boot one after the other are
# all at work by then.
WARM_UP_SHARE = 0.05
_CHECKED = 20  # results read back in each run


@dataclass
class Watch:
    """When the count of finished jobs passed which number."""

    contender: Contender
    target: int
    seen: list[tuple[float, int]] = field(default_factory=list)  # when and how many, if more

    def is_done(self) -> bool:
        """Looks; True if all are finished."""
        count = self.contender.finished()
        if not self.seen or count > self.seen[-1][1]:
            self.seen.append((time.perf_counter(), count))
        return count >= self.target

    def steady_rate(self, first: int, last: int, at_once: int) -> float:
        """The same where so many jobs end at once: a whole batch counts at either end."""
        began = [self._when(number) for number in range(first, first + at_once)]
        ended = [self._when(number) for number in range(last - at_once + 1, last + 1)]
        passed_s = statistics.mean(ended) - statistics.mean(began)
        if passed_s <= 0:
            raise BenchmarkError(f"{self.contender.label}: over before it was seen")
        return (last - first - at_once + 1) / passed_s

    def _when(self, number: int) -> float:
        return next(when for when, count in self.seen if count >= number)

    def rate(self, first: int, last: int) -> float:
        """Jobs a second between those two numbers of finished jobs."""
        began = next(one for one in self.seen if one[1] >= first)
        ended = next(one for one in self.seen if one[1] >= last)
        if began[1] == ended[1]:
            raise BenchmarkError(f"{self.contender.label}: over before it was seen")
        return (ended[1] - began[1]) / (ended[0] - began[0])


def backlog_rate(
    bench: Bench, contender: Contender, guess: float, function: Callable[[], int] = tasks.noop
) -> float:
    """Jobs a second, of as many as last about the effort's seconds."""
    jobs = jobs_for(bench, contender, guess, bench.effort.backlog_s)
    rate = work_off(bench.server, contender, jobs, 30 + 6 * bench.effort.backlog_s, function)
    bench.expected[key_of(contender)] = rate
    return rate


def jobs_for(bench: Bench, contender: Contender, guess: float, seconds: float) -> int:
    """How many no-ops last so long; `guess`, jobs a second, sizes a first, uncounted run."""
    key, effort = key_of(contender), bench.effort
    if key not in bench.expected:
        few = max(50, int(guess * effort.calibration_s))
        bench.expected[key] = work_off(bench.server, contender, few, 60.0)
    return max(50, int(bench.expected[key] * seconds))


def key_of(contender: Contender) -> str:
    """What tells contenders apart that are set up in different ways."""
    return " ".join(contender.command)


def work_off(
    server: Server,
    contender: Contender,
    jobs: int,
    timeout_s: float,
    function: Callable[[], int] = tasks.noop,
) -> float:
    """Enqueues the jobs, then starts the workers: the rate from warm-up to the last finished job.

    Raises BenchmarkError unless every job is finished, with its result.
    """
    server.empty()
    handles = contender.enqueue_many(function, jobs)
    watch = Watch(contender, jobs)
    log = server.folder / "contender.log"
    with running(contender.command, server.env, log) as process:
        what = f"{contender.label}, {jobs} jobs"
        wait_for(watch.is_done, what, timeout_s, process, log)
        check(contender, handles, lambda result: result == tasks.noop())
    return watch.rate(max(1, int(jobs * WARM_UP_SHARE)), jobs)


def check(contender: Contender, handles: Sequence[Any], is_right: Callable[[Any], bool]) -> None:
    """Raises BenchmarkError unless exactly these jobs are finished, and a sample has results."""
    seen = contender.finished()
    if seen != len(handles):
        raise BenchmarkError(f"{contender.label}: {seen} finished of {len(handles)} jobs")
    for handle in handles[:: max(1, len(handles) // _CHECKED)]:
        if not is_right(contender.result(handle)):
            raise BenchmarkError(f"{contender.label}: {handle!r} has no result")
