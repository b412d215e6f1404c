"""A child that runs a single job, the default: gets it by its channel, answers, and leaves."""

from __future__ import annotations

import socket

from rqd.daemon.workers.attempt import Attempt
from rqd.daemon.workers.link import Link
from rqd.daemon.zygote import protocol
from rqd.daemon.zygotes.events import Forked
from rqd.daemon.zygotes.process import ZygoteProcess


class SingleUse(Link):
    """A child with a channel only. Other jobs of its worker wait in the master for the next."""

    def __init__(self, forked: Forked, parent: ZygoteProcess | None) -> None:
        super().__init__(forked, parent, jobs=1)

    def give(self, attempt: Attempt, now: float) -> bool:
        """Gives it its job."""
        attempt.start(now)
        self.jobs_left = 0
        self.queue_frame(attempt.frame(protocol.JOB))
        return True

    def prefetch(self, current: Attempt, waiting: list[Attempt]) -> None:
        """Does nothing: there is no job behind its job."""

    def recall(self, held: list[Attempt]) -> bool:  # noqa: ARG002 - the interface of both kinds
        """Takes nothing back: the job that it was given is begun."""
        return False

    def end_jobs(self) -> None:
        """Closes the way by which its job comes."""
        self.channel.shutdown(socket.SHUT_WR)

    def retire(self, now: float, *, is_at_work: bool) -> None:  # noqa: ARG002 - see `recall`
        """Has it leave without a job; a child at its job leaves by itself."""
        if self.jobs_left:
            self.jobs_left = 0
            self.end_jobs()
            self.leave_soon(now)

    def note_answers(self, now: float) -> None:
        """Expects its exit. If another process answered in its place, it may never come."""
        self.leave_soon(now)
