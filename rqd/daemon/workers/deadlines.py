"""Ends children after a deadline: asks for their stacks, then has the zygote kill them.

If the zygote does not react within a second, the master sends SIGKILL itself.
"""

from __future__ import annotations

import math

from rqd.daemon.host.pidfd import kill_by_pidfd
from rqd.daemon.workers.attempt import Attempt
from rqd.daemon.workers.link import Link
from rqd.daemon.workers.worker import KILL_AGAIN_S, Worker
from rqd.model.outcome import TimedOut


def end_due(worker: Worker, now: float) -> None:
    """Kills a worker's child if it is due: at its job's deadline, or if it stays after its end."""
    if worker.attempt is not None:
        _end_in_time(worker, worker.attempt, now)
    if worker.child is not None:
        _end_overdue(worker.child, now)


def next_due(worker: Worker) -> float:
    """The next moment at which `end_due` has work for a worker; infinity for never."""
    due = math.inf
    if worker.child is not None and worker.child.leave_by is not None:
        due = worker.child.leave_by
    if (attempt := worker.attempt) is not None:
        if attempt.killed_at is not None:
            due = min(due, attempt.killed_at + KILL_AGAIN_S)
        elif attempt.deadline is not None:
            due = min(due, attempt.deadline, attempt.stack_due)
    return due


def _end_in_time(worker: Worker, attempt: Attempt, now: float) -> None:
    if now >= min(attempt.stack_due, attempt.deadline or math.inf) and _has_ended(worker):
        return
    if now >= attempt.stack_due:
        start = worker.child.ask_for_stacks() if worker.child is not None else None
        attempt.is_stack_asked, attempt.stack_from = True, start or 0
        attempt.put_kill_off(now)
    if attempt.deadline is not None and now >= attempt.deadline and attempt.killed_at is None:
        worker.kill(TimedOut(attempt.limit_s, killed=True), now)
    elif attempt.killed_at is not None and now - attempt.killed_at >= KILL_AGAIN_S:
        if worker.child is not None:
            kill_by_pidfd(worker.child.pidfd)  # the zygote is stopped, or too busy
        attempt.killed_at = now


def _has_ended(worker: Worker) -> bool:
    """True if its process is at the next job: the answer of this job is there to be read."""
    if not worker.has_queued or worker.child is None or worker.child.is_broken:
        return False
    attempt = worker.attempt
    worker.recall()
    return worker.attempt is attempt and worker.has_queued


def _end_overdue(child: Link, now: float) -> None:
    """Has a child killed that should have left by now."""
    if child.leave_by is None or now < child.leave_by:
        return
    child.leave_by = now + KILL_AGAIN_S
    if child.is_overdue:
        kill_by_pidfd(child.pidfd)  # as for a job: the zygote does not react
    child.is_overdue = True
    child.ask_for_kill()
