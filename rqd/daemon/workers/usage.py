"""Watches the memory and cpu time of jobs.

For a job with a limit all its processes count together, and it is ended above the limit. Other jobs
are sampled for display.
"""

from __future__ import annotations

import time

from rqd.daemon.host.pidfd import send_cpu_limit_by_pidfd
from rqd.daemon.host.procfs import cpu_s, group_of, own_bytes
from rqd.daemon.timers import Timers
from rqd.daemon.workers.attempt import HARD_KILL_AFTER_S, Attempt
from rqd.daemon.workers.pool import Pool
from rqd.daemon.workers.worker import Worker
from rqd.model.outcome import OutOfMemory, TimedOut

_INTERVAL_S = 0.1
# The share of the master's time. The walk through the memory of large jobs is slow, so it is rarer.
_LARGEST_SHARE = 0.05
# A round of measurements lasts at most so long, and a walk more; so does a round of samples.
_LOOKING_S = 0.03
# As for a time limit: code that swallows the exception gets it again.
_REPEAT_S = 0.5


class UsageMonitor:
    """Measures jobs, and ends jobs above their limits."""

    def __init__(self, pool: Pool, timers: Timers, looking_s: float = _LOOKING_S) -> None:
        self._pool = pool
        self._looking_s = looking_s
        self._due = 0.0
        self._timer = timers.timer(self._measure)

    def wake(self) -> None:
        """Sets its timer if there are jobs that have a limit."""
        if self._pool.workers.limited:
            self._timer.hasten(self._due)

    def _measure(self, now: float) -> None:
        """Measures the jobs that have a limit.

        Out of hundreds it measures as many as there is time for, and the others the next time.
        """
        workers = self._pool.workers
        begun = time.monotonic()
        limited = [attempt for attempt in workers.limited if workers.holds(attempt)]
        seen = 0
        for attempt in limited:
            self._look(attempt, now)
            seen += 1
            if time.monotonic() >= begun + self._looking_s:
                break
        workers.limited = limited[seen:] + limited[:seen]
        took_s = time.monotonic() - begun
        self._due = now + max(_INTERVAL_S, took_s / _LARGEST_SHARE)

    def sample(self, now: float) -> None:
        """Samples the memory of running jobs. The highest sample is a job's peak.

        Out of hundreds it samples as many as there is time for, and the others the next time.
        """
        self._pool.forking.oom_counter.sample(now)
        give_up_at = time.monotonic() + self._looking_s
        for attempt in sorted(
            self._pool.workers.current_attempts(), key=lambda attempt: attempt.sampled_at
        ):
            worker = self._pool.workers.by_number[attempt.worker]
            if attempt.started_at is None or worker.child is None:
                continue
            seen = own_bytes([worker.child.pid], worker.child.parent_pid)
            attempt.sampled_at = now
            if seen is not None:
                attempt.memory_bytes, attempt.peak_bytes = seen, max(seen, attempt.peak_bytes or 0)
            if time.monotonic() >= give_up_at:
                return

    def _look(self, attempt: Attempt, now: float) -> None:
        worker = self._pool.workers.by_number[attempt.worker]
        child = worker.child
        if child is None or attempt.started_at is None or attempt.killed_at is not None:
            return
        pids = group_of(child.pid, child.parent_pid)
        if attempt.limits.memory_bytes is not None:
            self._judge_memory(worker, attempt, pids, attempt.limits.memory_bytes, now)
        if attempt.limits.cpu_s is not None:
            self._judge_cpu(worker, attempt, cpu_s(pids) - attempt.cpu_before_s, now)

    def _judge_memory(
        self, worker: Worker, attempt: Attempt, pids: list[int], limit_bytes: int, now: float
    ) -> None:
        parent_pid = worker.child.parent_pid if worker.child is not None else 0
        used_bytes = own_bytes(pids, parent_pid, limit_bytes)
        if used_bytes is None:
            return
        attempt.peak_bytes = max(used_bytes, attempt.peak_bytes or 0)
        half = limit_bytes // 2
        if used_bytes > limit_bytes:
            self._pool.kill(attempt, OutOfMemory(used_bytes, limit_bytes), now)
        elif worker.has_waiting_child and (own_bytes(pids, parent_pid, half) or 0) > half:
            # The memory that it leaves in its process would count for the next job there.
            worker.retire_after_current(now)

    def _judge_cpu(self, worker: Worker, attempt: Attempt, used_s: float, now: float) -> None:
        limit_s = attempt.limits.cpu_s
        if limit_s is None or used_s < limit_s or now < attempt.signalled_at + _REPEAT_S:
            return
        if attempt.signalled_at < 0:
            over, kill_at = TimedOut(limit_s, killed=False, is_cpu=True), now + HARD_KILL_AFTER_S
            if worker.stop(over, kill_at, now) is None:
                return  # another job ran there
        attempt.signalled_at = now
        if worker.child is not None:
            send_cpu_limit_by_pidfd(worker.child.pidfd)
