"""Ends children after a deadline: asks for their stacks, then has the zygote kill them.

If the zygote does not react within a second, the master sends SIGKILL itself.
"""

from __future__ import annotations

import math

from rqd.daemon.host.pidfd import kill_by_pidfd
from rqd.daemon.workers.job_stacks import JobStacks
from rqd.daemon.workers.slots import Slots
from rqd.daemon.workers.worker import Attempt, AttemptState, Worker
from rqd.daemon.workers.workers import Workers
from rqd.model.outcome import Outcome, TimedOut

_FALLBACK_S = 1.0


class Deadlines:
    """Kills children: at once, at a job's deadline, or if they stay after their last answer."""

    def __init__(self, workers: Workers, slots: Slots, stacks: JobStacks) -> None:
        self._workers = workers
        self._slots = slots
        self._stacks = stacks

    def kill(self, attempt: Attempt, verdict: Outcome, now: float) -> None:
        """Has a running job's whole group killed, for this reason."""
        worker = self._workers.by_number[attempt.worker]
        # If it ends by itself before that, the kill hits no other job.
        self._workers.retire_after_current(worker, now)
        if attempt.started_at is not None:
            if attempt.verdict is None:
                attempt.verdict = verdict
            attempt.state, attempt.killed_at = AttemptState.KILLED, now
        self._ask(worker)

    def perform(self, now: float) -> None:
        """Does the kills that are due: after a deadline, or as the zygote has not reacted."""
        for attempt in self._workers.current_attempts():
            self._end_in_time(attempt, now)
        for worker in self._workers:
            self._end_overdue(worker, now)

    def next_due(self) -> float:
        """The next moment at which `perform` has work; infinity for never."""
        pool = [worker.child for worker in self._workers if worker.child is not None]
        due = [child.leave_by for child in pool if child.leave_by is not None]
        for attempt in self._workers.current_attempts():
            if attempt.killed_at is not None:
                due.append(attempt.killed_at + _FALLBACK_S)
            elif attempt.deadline is not None:
                due.append(min(attempt.deadline, attempt.stack_due))
        return min(due, default=float("inf"))

    def _end_in_time(self, attempt: Attempt, now: float) -> None:
        if now >= min(attempt.stack_due, attempt.deadline or math.inf) and self._has_ended(attempt):
            return
        if now >= attempt.stack_due:
            attempt.is_stack_asked, attempt.stack_from = True, self._stacks.show(attempt) or 0
            attempt.put_kill_off(now)
        if attempt.deadline is not None and now >= attempt.deadline and attempt.killed_at is None:
            self.kill(attempt, TimedOut(attempt.limit_s, killed=True), now)
        elif attempt.killed_at is not None and now - attempt.killed_at >= _FALLBACK_S:
            child = self._workers.by_number[attempt.worker].child
            if child is not None:
                kill_by_pidfd(child.pidfd)  # the zygote is stopped, or too busy
            attempt.killed_at = now

    def _has_ended(self, attempt: Attempt) -> bool:
        """True if its process is at the next job: the answer of this job is there to be read."""
        worker = self._workers.by_number[attempt.worker]
        if not worker.has_queued or worker.child is None or worker.child.is_broken:
            return False
        worker.recall()
        return worker.attempt is attempt and worker.has_queued

    def _end_overdue(self, worker: Worker, now: float) -> None:
        """Has a child killed that should have left by now."""
        child = worker.child
        if child is None or child.leave_by is None or now < child.leave_by:
            return
        child.leave_by = now + _FALLBACK_S
        if child.is_overdue:
            kill_by_pidfd(child.pidfd)  # as for a job: the zygote does not react
        child.is_overdue = True
        self._ask(worker)

    def _ask(self, worker: Worker) -> None:
        parent = self._slots.parents.get(worker.number)
        if worker.child is not None and parent is not None:
            parent.kill(worker.number, worker.child.pid)
