"""A worker of the master: its slot, the child in the slot, and the attempts that it holds."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from rqd.daemon.timers import Timer
from rqd.daemon.workers.attempt import Attempt
from rqd.daemon.workers.link import Link
from rqd.daemon.workers.output_buffer import OutputSplitter, Tail
from rqd.model.outcome import Outcome

# If the zygote has not reacted to a kill after this time, the master sends SIGKILL itself.
KILL_AGAIN_S = 1.0


@dataclass(slots=True, eq=False)
class Worker:
    """A slot of the master, with its child and its attempts.

    `timer` is the pool's: due when a kill, a deadline or a job of any worker needs attention.
    """

    number: int
    timer: Timer = field(default_factory=Timer)
    wanted: bool = True
    child: Link | None = None
    has_lived: bool = False  # it had a child once
    lacks_child: bool = False  # no child could be had for it, so far
    row_has_pid: bool = False
    is_quiet: bool = False  # reads of its child are batched: see `may_batch_reads`
    attempt: Attempt | None = None
    # In their order, behind the current attempt; empty without it.
    prefetched: list[Attempt] = field(default_factory=list)
    ended_at: float = 0.0  # the end of its latest job
    pace_s: float = math.inf  # recent seconds for a job, with the wait for its process
    tail: Tail = field(default_factory=Tail)
    splitter: OutputSplitter = field(default_factory=OutputSplitter)
    last_error: str = ""
    worked_s: float = 0.0

    @property
    def is_present(self) -> bool:
        """False once it was taken out of service and its last job has ended."""
        return self.wanted or self.attempt is not None

    @property
    def is_free(self) -> bool:
        """True if it can run a job now: it holds none, and has a child or will have it soon."""
        return self.wanted and self.attempt is None and not self.lacks_child

    @property
    def has_waiting_child(self) -> bool:
        """True if its child can get another job."""
        return self.child is not None and self.child.jobs_left > 0

    @property
    def began_at(self) -> float:
        """The moment from which its current job could run here; without a job, its latest end."""
        attempt = self.attempt
        if attempt is None:
            return self.ended_at
        return max(attempt.claimed_at, attempt.moved_at, self.ended_at)

    @property
    def has_queued(self) -> bool:
        """True if its child has a job in its mailbox behind the job that it runs."""
        return bool(self.prefetched) and self.prefetched[0].is_queued

    @property
    def is_out_of_sync(self) -> bool:
        """True if its child has begun the next job, but the current job's answer was not read.

        False for a child that nothing reads any more.
        """
        is_readable = self.child is not None and not self.child.is_broken
        return is_readable and bool(self.prefetched) and self.prefetched[0].is_taken

    @property
    def may_batch_reads(self) -> bool:
        """True if the master need not act as soon as its job ends.

        Either the child goes on with the next job in its mailbox, or it leaves. Then the next job
        waits for the child's exit, which the zygote reports.
        """
        child, attempt = self.child, self.attempt
        if child is None or attempt is None or attempt.is_held:
            return False
        if child.outbox or not self.prefetched:
            return False
        return self.has_queued or child.jobs_left < 1

    def held(self) -> list[Attempt]:
        """All its attempts: the current attempt, then the prefetched ones in their order."""
        return [self.attempt, *self.prefetched] if self.attempt is not None else []

    # -- attempts come and go -----------------------------------------------------------------

    def recall(self) -> None:
        """Takes back the jobs that its child has not read.

        Keeps a job that the child has begun: the answer of the job before it can then be read.
        """
        if self.child is None:
            return
        if self.child.recall(self.held()):
            # Sorted, as the child may have begun a job between two that were taken back.
            self._hold(sorted(self.held(), key=lambda attempt: attempt.is_held))
            if self.attempt is not None and self.attempt.is_queued:
                self.attempt.start(time.monotonic())
                self.timer.hasten(self.attempt.stack_due)
            self.timer.hasten(0.0)  # they are to be given again
        if self.is_out_of_sync:
            self.timer.hasten(0.0)

    def release_unstarted(self) -> list[Attempt]:
        """Gives up the attempts that no child of it has begun, and returns them.

        They belong to no worker then.
        """
        self.recall()
        held = self.held()
        self._hold([attempt for attempt in held if not attempt.is_held])
        return [attempt for attempt in held if attempt.is_held]

    def release_prefetched(self) -> list[Attempt]:
        """Gives up the prefetched attempts that no child has, and returns them.

        Unlike `release_unstarted` it keeps the current attempt, even if that has not started.
        """
        self.recall()
        waiting = [attempt for attempt in self.prefetched if attempt.is_held]
        self.prefetched = [attempt for attempt in self.prefetched if not attempt.is_held]
        return waiting

    def add_stolen(self, attempts: list[Attempt], now: float) -> None:
        """Adds attempts that another worker has given up, from `now` on."""
        for attempt in attempts:
            attempt.worker, attempt.moved_at = self.number, now
        self._hold([*self.held(), *attempts])

    def drop(self, attempt: Attempt) -> None:
        """Forgets an attempt that no child has got."""
        self._hold([other for other in self.held() if other is not attempt])

    def end_attempt(self, now: float | None = None) -> None:
        """Ends its current attempt here; the next attempt that it holds becomes the current.

        `now` if the attempt ended by itself: if its child has the next job, that job's time begins
        then. None if the child is gone or the attempt was taken away.
        """
        if self.attempt is not None and now is not None:
            self.ended_at = now
        self.attempt = self.prefetched.pop(0) if self.prefetched else None
        if self.attempt is not None and self.attempt.is_queued and now is not None:
            self.attempt.start(now)  # its child has gone on by itself
            self.timer.hasten(self.attempt.stack_due)

    def _hold(self, attempts: list[Attempt]) -> None:
        self.attempt, self.prefetched = (attempts[0], attempts[1:]) if attempts else (None, [])

    # -- its child ----------------------------------------------------------------------------

    def start_next(self, now: float) -> bool:
        """Gives its job to its waiting child; False if the child has no room for it."""
        attempt, child = self.attempt, self.child
        assert attempt is not None
        assert child is not None
        if not child.give(attempt, now):
            self.timer.hasten(now + KILL_AGAIN_S)  # tried again then, if nothing happens before
            return False
        self.timer.hasten(attempt.stack_due)
        return True

    def stop(self, verdict: Outcome, kill_at: float, now: float) -> Link | None:
        """Notes that its attempt is to stop, and when it is killed otherwise.

        Returns its child, which gets no more jobs; None if no child has begun the attempt.
        """
        self.retire_after_current(now)
        attempt = self.attempt
        if attempt is None or attempt.started_at is None:
            return None
        attempt.stop(verdict, kill_at)
        self.timer.hasten(attempt.stack_due)
        return self.child

    def kill(self, verdict: Outcome, now: float) -> None:
        """Has its running job's whole group killed, for this reason."""
        # If the job ends by itself before that, the kill hits no other job.
        self.retire_after_current(now)
        if self.attempt is not None and self.attempt.started_at is not None:
            self.attempt.kill(verdict, now)
            self.timer.hasten(now + KILL_AGAIN_S)
        if self.child is not None:
            self.child.ask_for_kill()

    def retire_after_current(self, now: float) -> None:
        """Has its child leave, after the job that it has begun, if any."""
        self.recall()
        if self.child is not None:
            attempt = self.attempt
            self.child.retire(now, is_at_work=attempt is not None and not attempt.is_held)
            self.timer.hasten(self.child.leave_by or math.inf)

    def detach(self) -> None:
        """Closes and forgets its child, after taking back the jobs that it has not read."""
        if self.child is not None:
            self.recall()
            self.child.close()
            self.child = None
