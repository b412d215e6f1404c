"""A worker's child, seen from its master: gets jobs, and answers for them.

Two kinds stand behind this interface: `SingleUse`, the default, and `Reused`, which has a mailbox.
"""

from __future__ import annotations

import fcntl
import select
import termios
from abc import ABC, abstractmethod
from collections.abc import Mapping

from rqd.daemon.host.pidfd import show_stack_by_pidfd
from rqd.daemon.workers.attempt import HARD_KILL_AFTER_S, Attempt
from rqd.daemon.workers.forensics import catches
from rqd.daemon.workers.stack_file import StackFile
from rqd.daemon.zygote import protocol
from rqd.daemon.zygote.protocol import FrameError, FrameReader
from rqd.daemon.zygotes.events import Forked
from rqd.daemon.zygotes.process import ZygoteProcess
from rqd.model.call import DEFAULT_PAYLOAD_LIMIT_BYTES
from rqd.model.outcome import Outcome

_MOST_READS, _READ_BYTES = 16, 256 * 1024
# The largest result, and room for the fields beside it.
_LONGEST_ANSWER_BYTES = DEFAULT_PAYLOAD_LIMIT_BYTES + 1024 * 1024


class Link(ABC):
    """A child in its worker's slot, with the master's end of its channel."""

    def __init__(self, forked: Forked, parent: ZygoteProcess | None, jobs: int) -> None:
        """`parent` is its zygote; None for a child that is this process itself."""
        self._forked = forked
        self.worker = forked.worker
        self.pid = forked.pid
        self.pidfd = forked.pidfd
        self.channel = forked.channel
        self.parent = parent
        self.parent_pid = parent.pid if parent is not None else 0
        self.zygote = parent.generation if parent is not None else 0
        self.jobs_left = jobs
        self.outbox = memoryview(b"")
        self._reader = FrameReader(_LONGEST_ANSWER_BYTES)
        self.is_watched = False  # its channel is in the loop
        self.is_deaf = False  # its end of the channel is closed
        self.is_broken = (
            False  # it sent bytes that are no frames of ours: nothing reads it any more
        )
        self.unknown_frames = 0  # that belong to no job
        self.has_left_unread = False  # it died with a job's frame in its socket
        self.cpu_us = 0
        self.leave_by: float | None = None  # when it has to be gone; None while it may run a job
        self.is_overdue = False  # its zygote was asked to kill it

    # -- the two kinds differ here ------------------------------------------------------------

    @abstractmethod
    def give(self, attempt: Attempt, now: float) -> bool:
        """Gives it a job to run now; False if it has no room for it."""

    @abstractmethod
    def prefetch(self, current: Attempt, waiting: list[Attempt]) -> None:
        """Hands over jobs to run behind the current one, as far as it may."""

    @abstractmethod
    def recall(self, held: list[Attempt]) -> bool:
        """Takes back the jobs that it has not read; True if there are any.

        `held`: its worker's attempts in order, the current first.
        """

    @abstractmethod
    def end_jobs(self) -> None:
        """Closes the way by which jobs come. The child leaves when it reads that end."""

    @abstractmethod
    def retire(self, now: float, *, is_at_work: bool) -> None:
        """Has it leave, after the job that it has begun if it `is_at_work`."""

    @abstractmethod
    def note_answers(self, now: float) -> None:
        """Notes that it has answered for all jobs that it has got."""

    def without_refusals(self, frames: list[protocol.Frame]) -> list[protocol.Frame]:
        """Returns the frames but the ones by which it refuses further jobs; here all."""
        return frames

    def outcome_of_refused(self, kind: int, attempt: Attempt) -> Outcome | None:  # noqa: ARG002 - for the reused kind
        """Returns the outcome of a job that it got and did not begin; None for other answers."""
        return None

    # -- frames -------------------------------------------------------------------------------

    def queue_frame(self, frame: bytes) -> None:
        """Puts a frame behind the bytes that wait for `push`."""
        # Behind a record, say, that an earlier job has asked for and not read.
        self.outbox = memoryview(bytes(self.outbox) + frame)

    def push(self) -> bool:
        """Writes more of its outbox; True if bytes are left until it is writable again."""
        if not self.outbox:
            return False
        try:
            self.outbox = self.outbox[self.channel.send(self.outbox) :]
        except BlockingIOError:
            return True
        except (BrokenPipeError, ConnectionResetError):
            # It died before it had read the job; its exit is on its way.
            self.has_left_unread, self.outbox = True, memoryview(b"")
        return bool(self.outbox)

    def read(self, *, is_alive: bool) -> tuple[list[protocol.Frame], FrameError | None]:
        """Reads the frames that have come; notes the channel's end.

        `is_alive`: bytes that are left will wake the master. Also returns the error of the bytes
        behind the frames, None if all were frames.
        """
        frames: list[protocol.Frame] = []
        # The reads are limited, as a process may write without end: the next wake reads the rest. A
        # dead child never leaves more than that.
        for _ in range(_MOST_READS):
            try:
                data = self.channel.recv(_READ_BYTES)
            except BlockingIOError:
                break
            except ConnectionResetError:
                self.has_left_unread = self.is_deaf = True
                break
            if not data:
                self.is_deaf = True
                break
            try:
                frames += self._reader.feed(data)
            except FrameError as error:
                return frames + error.before, error
            if is_alive and len(data) < _READ_BYTES:
                break  # that was all; if the channel has ended, the next wake finds it
        return frames, None

    def has_unread(self) -> bool:
        """True if bytes sent to the channel are unread.

        The kernel's count is asked, because a process that the child has left may hold the other
        end open: then its death breaks no connection.
        """
        return any(fcntl.ioctl(self.channel, termios.TIOCOUTQ, bytes(4)))

    def has_hung_up(self) -> bool:
        """True if no process has the other end. The kernel then counts no unread bytes any more."""
        watch = select.poll()
        watch.register(self.channel, 0)
        return bool(watch.poll(0))

    # -- its stacks ---------------------------------------------------------------------------

    @property
    def stacks(self) -> StackFile | None:
        """The file to which it writes its stacks; None for a child that is this process itself."""
        return self.parent.stacks[self.worker] if self.parent is not None else None

    def ask_for_stacks(self) -> int | None:
        """Has it write its stacks; returns the byte at which they will begin.

        None if it can't: it is gone, or the job has become another program, which would die of the
        signal.
        """
        if (stacks := self.stacks) is None or not catches(self.pid, protocol.STACK_SIGNAL):
            return None
        start = stacks.written_bytes
        show_stack_by_pidfd(self.pidfd)
        return start

    # -- its end ------------------------------------------------------------------------------

    def give_up(self, now: float) -> None:
        """Reads it no more, and has it killed."""
        self.jobs_left, self.is_broken, self.is_deaf = 0, True, True
        if self.leave_by is None:
            self.leave_by = now

    def leave_soon(self, now: float) -> None:
        """Gives it five seconds to leave by itself."""
        self.leave_by = now + HARD_KILL_AFTER_S

    def ask_for_kill(self) -> None:
        """Has its zygote kill its group."""
        if self.parent is not None:
            self.parent.kill(self.worker, self.pid)

    def close(self) -> None:
        """Closes its descriptors. The child leaves once its job is done."""
        self._forked.close()


def queue_record(child: Link, attempt: Attempt, fields: Mapping[bytes, bytes]) -> None:
    """Queues a job's record for its child, as the job asked for it.

    Not before an earlier frame was read: a job that asks again and again can wait.
    """
    if attempt.updates is not None:
        attempt.updates.asks_record = False
    if not child.outbox:
        child.queue_frame(attempt.record_frame(fields))
