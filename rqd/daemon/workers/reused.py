"""A child that runs one job after the other: it gets them by a mailbox, several at a time.

The child goes on by itself, without a word to its master between two jobs. Until it has read a
job, the master can take the job back.
"""

from __future__ import annotations

from rqd.daemon.workers.attempt import Attempt
from rqd.daemon.workers.link import Link
from rqd.daemon.workers.mailbox import LONGEST_MESSAGE_BYTES, Mailbox
from rqd.daemon.workers.output_buffer import OutputSplitter
from rqd.daemon.zygote import protocol
from rqd.daemon.zygote.protocol import encode_frame, mark_of
from rqd.daemon.zygotes.events import Forked
from rqd.daemon.zygotes.process import ZygoteProcess
from rqd.model.outcome import Outcome, Released

# A child begins no prefetched job after so long, in case the master stood still: far less than a
# lease.
_BEGINS_S = 1.0


class Reused(Link):
    """A child with a mailbox. It prints a mark before the output of each prefetched job."""

    def __init__(
        self,
        forked: Forked,
        parent: ZygoteProcess | None,
        jobs: int,
        mailbox: Mailbox,
        splitter: OutputSplitter,
    ) -> None:
        super().__init__(forked, parent, jobs)
        self._mailbox = mailbox
        self._splitter = splitter
        self._by_channel: Attempt | None = None  # the latest that was too large for the mailbox
        self._expects_more = False  # it waits for jobs that will not come: see `note_answers`

    def give(self, attempt: Attempt, now: float) -> bool:
        """Puts a job into its mailbox; into its channel if it is too large, or finds no room."""
        frame, self._by_channel = attempt.frame(protocol.JOB), None
        if len(frame) > LONGEST_MESSAGE_BYTES or not self._mailbox.post(frame):
            # There may be no room for the job on hosts with small buffers.
            claim = attempt.claim
            large = encode_frame(protocol.LARGE, claim.id.encode(), claim.token.encode())
            if not self._mailbox.post(large):
                return False
            self._by_channel = attempt
            self.queue_frame(frame)
        attempt.start(now)
        self.jobs_left -= 1
        return True

    def prefetch(self, current: Attempt, waiting: list[Attempt]) -> None:
        """Puts the jobs that wait into its mailbox, as far as they may share it."""
        if current.is_held or current is self._by_channel or not current.may_share:
            return
        for attempt in waiting:
            if attempt.is_queued:
                continue
            if self.jobs_left < 1 or not attempt.may_share or attempt.claim.is_suspect:
                return
            frame = attempt.frame(protocol.NEXT, b"%f" % (attempt.claimed_at + _BEGINS_S))
            if len(frame) > LONGEST_MESSAGE_BYTES or not self._mailbox.post(frame):
                return
            attempt.queue(mark_of(attempt.claim.token.encode()))
            self.jobs_left -= 1
            self._splitter.expect(attempt.mark)

    def recall(self, held: list[Attempt]) -> bool:
        """Takes back the jobs that it has not read out of its mailbox; True if there are any.

        A job that stays queued was begun. Then the answer of the job before is there to be read.
        """
        given = [attempt for attempt in held if not attempt.is_held]
        if not given or given[0] is self._by_channel:
            return False
        tokens = self._mailbox.take_back()
        unread = [attempt for attempt in given if attempt.claim.token in tokens]
        for attempt in unread:
            self._splitter.forget(attempt.mark)
            attempt.take_back()
        for attempt in given:
            attempt.is_taken = attempt.is_taken or not attempt.is_held
        self.jobs_left += len(unread)
        return bool(unread)

    def without_refusals(self, frames: list[protocol.Frame]) -> list[protocol.Frame]:
        """Returns the frames but LAST, by which it refuses further jobs."""
        return [frame for frame in frames if frame[0] != protocol.LAST]

    def outcome_of_refused(self, kind: int, attempt: Attempt) -> Outcome | None:
        """Returns the outcome of a queued job that it read too late to begin it."""
        if kind != protocol.TOO_LATE or not attempt.mark:
            return None
        return Released("its master had stood still", is_usual=True)

    def end_jobs(self) -> None:
        """Closes the mailbox. The child reads the end after the jobs that are there."""
        self._mailbox.end()

    def retire(self, now: float, *, is_at_work: bool) -> None:
        """Has it leave, after the job that it has begun if it `is_at_work`."""
        if self.jobs_left < 1:
            return
        self.jobs_left = 0
        # After a running job the end comes with the answer: nothing else would have it leave.
        self._expects_more = is_at_work
        if not is_at_work:
            self.end_jobs()
            self.leave_soon(now)

    def note_answers(self, now: float) -> None:
        """Expects its exit, and ends the jobs if it waits for more."""
        if self._expects_more:
            self.end_jobs()
        self.leave_soon(now)
