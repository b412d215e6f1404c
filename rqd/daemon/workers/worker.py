"""A worker of the master: its slot, the child in the slot, and the attempts that it holds."""

from __future__ import annotations

import fcntl
import math
import os
import select
import socket
import termios
import time
from dataclasses import dataclass, field
from enum import Enum

from rqd.daemon.workers.forensics import Tail
from rqd.daemon.workers.mailbox import Mailbox
from rqd.daemon.workers.output_buffer import OutputSplitter
from rqd.daemon.workers.updates import PendingUpdates
from rqd.daemon.zygote import protocol
from rqd.daemon.zygote.protocol import FrameReader, encode_frame, mark_of
from rqd.model.call import DEFAULT_PAYLOAD_LIMIT_BYTES
from rqd.model.outcome import Outcome
from rqd.model.records import Claim
from rqd.model.resources import NO_RESOURCE_LIMITS, ResourceLimits

HARD_KILL_AFTER_S = 5.0
# A busy worker prefetches up to so many jobs, enough for about so long. The next job then starts as
# soon as there is a process for it. A turn settles and claims many jobs.
_MOST_AHEAD = 48
_AHEAD_S = 0.02
# A suspect waits so long for the other jobs to end, and they for it once it has begun. A longer
# wait, or an endless wait, would keep a whole daemon from its work.
ALONE_S = 60.0
# Time for a process to write its stacks before it is killed.
_STACK_BEFORE_KILL_S = 0.2
# The largest result, and room for the fields beside it.
_LONGEST_ANSWER_BYTES = DEFAULT_PAYLOAD_LIMIT_BYTES + 1024 * 1024


class AttemptState(Enum):
    """Where an attempt stands here; the value says so in words."""

    HELD = "claimed, in the master"
    QUEUED = "in its child's mailbox, behind another job"
    RUNNING = "given to its child"
    STOPPING = "to end: its verdict is set, or its kill is planned"
    KILLED = "its process group is being killed"


@dataclass(slots=True)
class Attempt:
    """An attempt: a claimed job in its worker. Instants are monotonic seconds.

    `sent_at` is None until a child has got it, `deadline` while no kill is planned.
    """

    claim: Claim
    worker: int
    state: AttemptState = AttemptState.HELD
    started_at: float | None = None
    deadline: float | None = None
    verdict: Outcome | None = None  # the reason why the master stops or kills it
    stop_by: float = math.inf  # when the kill is due, after an order to stop
    killed_at: float | None = None
    limits: ResourceLimits = NO_RESOURCE_LIMITS
    is_stack_asked: bool = False
    stack_from: int = 0  # the byte of its slot's stack file at which its last stacks begin
    memory_bytes: int | None = None  # the latest sample
    peak_bytes: int | None = None  # the highest sample
    sampled_at: float = -math.inf
    cpu_before_s: float = 0.0  # the cpu time that its process had used when the job was sent
    signalled_at: float = -math.inf  # when its child last got the signal that its cpu time is over
    updates: PendingUpdates = field(default_factory=PendingUpdates)
    granted_s: float = 0.0  # more time, from outside
    followed_until: float = 0.0  # a client reads its output as it comes, until then
    published_bytes: int = 0  # output bytes that are there for it; -1 until its first read
    row_pid: int = 0  # the pid in the worker's row; 0 where the claim came before its child
    is_taken: bool = False  # its child has read it, as far as is known
    is_posted: bool = False  # it was put into its child's mailbox
    is_behind: bool = False  # and was behind another job there
    claimed_at: float = 0.0
    moved_at: float = 0.0  # when it came from another worker; 0 for never

    @property
    def limit_s(self) -> float:
        """The time limit in seconds, with all that was granted since; 0 or less for no limit."""
        return self.claim.timeout_s + self.granted_s + self.updates.extended_s

    @property
    def waited_s(self) -> float:
        """Seconds that it waited although it could run: in its queue, and behind others here."""
        here_s = 0.0 if self.started_at is None else max(0.0, self.started_at - self.claimed_at)
        return self.claim.waited_ms / 1000 + here_s

    @property
    def stack_due(self) -> float:
        """The moment to ask for its stacks, shortly before the kill at its deadline.

        Infinity without a deadline, once they were asked for, and once it is being killed.
        """
        is_over = self.deadline is None or self.is_stack_asked or self.killed_at is not None
        return (
            math.inf if self.deadline is None or is_over else self.deadline - _STACK_BEFORE_KILL_S
        )

    def put_kill_off(self, now: float) -> None:
        """Moves the deadline so that its process has time to write its stacks.

        The master may have been late to ask for them.
        """
        if self.deadline is not None:
            self.deadline = max(self.deadline, now + _STACK_BEFORE_KILL_S)

    def start(self, now: float) -> None:
        """Notes that a child gets it now."""
        self.state, self.started_at = AttemptState.RUNNING, now
        self.set_deadline()

    def frame(self, kind: int, *more: bytes) -> bytes:
        """The frame for its child: a JOB, or a NEXT with `more`, the field that only NEXT has."""
        claim = self.claim
        return encode_frame(
            kind,
            claim.id.encode(),
            claim.token.encode(),
            *more,
            b"%d" % claim.attempt,
            claim.queue.encode(),
            claim.func_name.encode(),
            claim.payload or b"",
            claim.serializer.encode(),
            b"%f" % self.limit_s,
            *((claim.terms.encode(errors="replace"),) if claim.terms else ()),
        )

    def large_frame(self) -> bytes:
        """The frame for its child's mailbox where the job itself does not fit there."""
        return encode_frame(protocol.LARGE, self.claim.id.encode(), self.claim.token.encode())

    @property
    def is_moved(self) -> bool:
        """True if it moved to another worker since its claim, so that Redis may name the old
        worker.
        """
        return self.moved_at > 0

    @property
    def is_given(self) -> bool:
        """True if its child has it, or finds it in its mailbox."""
        return self.is_posted or self.started_at is not None

    @property
    def is_free(self) -> bool:
        """True for a job without a limit of memory or cpu time, and without an order to end it.

        Only such a job may share a mailbox: it may be behind another job, and others behind it.
        """
        is_to_end = self.verdict is not None or self.killed_at is not None
        return not (is_to_end or self.limits or self.stop_by < math.inf)

    def is_to_be_alone(self, now: float) -> bool:
        """True for a suspect during its first minute of waiting and its first of running."""
        since = self.claimed_at if self.started_at is None else self.started_at
        return self.claim.is_suspect and now < since + ALONE_S

    @property
    def mark(self) -> bytes:
        """The delimiter before its output; empty unless its child got it behind another job."""
        return mark_of(self.claim.token.encode()) if self.is_behind else b""

    def take_back(self) -> None:
        """Resets it, as its child has not begun it and never will."""
        self.state = AttemptState.HELD
        self.started_at = self.deadline = self.killed_at = self.verdict = None
        self.is_posted = self.is_behind = self.is_stack_asked = False

    def set_deadline(self) -> None:
        """Sets the deadline by the present time limit and the order to stop, if any."""
        if self.claim.timeout_s > 0 and self.started_at is not None:
            self.deadline = self.started_at + self.limit_s + HARD_KILL_AFTER_S
        if self.stop_by < (self.deadline or math.inf):
            self.deadline = self.stop_by


@dataclass(slots=True)
class Child:
    """A process in a worker's slot."""

    pid: int
    channel: socket.socket
    pidfd: int
    jobs_left: int
    zygote: int = 0  # the generation of the zygote that forked it
    mailbox: Mailbox | None = None
    reader: FrameReader = field(default_factory=lambda: FrameReader(_LONGEST_ANSWER_BYTES))
    outbox: memoryview = field(default_factory=lambda: memoryview(b""))
    unread: bool = False  # it died with a job's frame in its socket
    is_deaf: bool = False  # its end of the channel is closed
    cpu_us: int = 0
    is_broken: bool = False  # it sent bytes that are no frames of ours: nothing reads it any more
    strange: int = 0  # frames that belong to no job
    expects_more: bool = False  # it waits for jobs that will not come: see `end_jobs`
    is_overdue: bool = False  # its zygote was asked to kill it
    leave_by: float | None = None  # when it has to be gone; None while it may get or run a job
    is_watched: bool = False  # its channel is in the loop

    def has_unread(self) -> bool:
        """True if bytes sent to the channel are unread.

        The kernel's count is asked, because a process that the child has left may hold the other
        end open: then its death breaks no connection.
        """
        unread = fcntl.ioctl(self.channel, termios.TIOCOUTQ, bytes(4))
        return any(unread)

    def has_hung_up(self) -> bool:
        """True if no process has the other end. The kernel then counts no unread bytes any more."""
        watch = select.poll()
        watch.register(self.channel, 0)
        return bool(watch.poll(0))

    def end_jobs(self) -> None:
        """Closes the way by which jobs come. The child leaves when it reads that end."""
        if self.mailbox is None:
            self.channel.shutdown(socket.SHUT_WR)
        else:
            self.mailbox.end()

    def close(self) -> None:
        """Closes its descriptors. The child leaves once its job is done."""
        # Shut down first: a child that was forked before these ends reached us has copies of them.
        self.channel.shutdown(socket.SHUT_RDWR)
        self.channel.close()
        os.close(self.pidfd)
        if self.mailbox is not None:
            self.mailbox.close()


@dataclass(slots=True)
class Worker:
    """A slot of the master, with its child and its attempts."""

    number: int
    wanted: bool = True
    child: Child | None = None
    has_lived: bool = False  # it had a child once
    lacks_child: bool = False  # no child could be had for it, so far
    row_has_pid: bool = False  # its row names a process
    is_quiet: bool = False  # reads of its child are batched: see `may_batch_reads`
    attempt: Attempt | None = None
    ahead: list[Attempt] = field(
        default_factory=list
    )  # prefetched, in order; empty if `run` is None
    ended_at: float = 0.0  # the end of its latest job
    pace_s: float = math.inf  # seconds a job by now, with the wait for its process
    tail: Tail = field(default_factory=Tail)
    segments: OutputSplitter = field(default_factory=OutputSplitter)  # of its children's output
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
    def began_at(self) -> float:
        """The moment from which its current job could run here; without a job, its latest end."""
        attempt = self.attempt
        return (
            self.ended_at
            if attempt is None
            else max(attempt.claimed_at, attempt.moved_at, self.ended_at)
        )

    def ahead_wanted(self, now: float) -> int:
        """How many more jobs it may prefetch.

        As many as it will have run in 20 ms, going by its pace. So no job waits here while another
        master has nothing to do.
        """
        has_rested = self.attempt is None and now > self.ended_at + _AHEAD_S
        if not self.wanted or has_rested or self.lacks_child:
            return 0
        pace_s = self.pace_s if self.attempt is None else max(self.pace_s, now - self.began_at)
        soon = int(_AHEAD_S / max(pace_s, _AHEAD_S / _MOST_AHEAD))
        return max(0, soon - len(self.ahead))

    def ahead_lasts_s(self, now: float) -> float:
        """Estimates how many seconds the last prefetched job will wait for its start, by the pace.

        0 without a waiting job.
        """
        waiting = sum(not attempt.is_taken for attempt in self.ahead)
        return waiting * max(self.pace_s, now - self.began_at) if waiting else 0.0

    @property
    def has_queued(self) -> bool:
        """True if its child has a job in its mailbox behind the job that it runs."""
        return bool(self.ahead) and self.ahead[0].is_posted

    @property
    def is_out_of_sync(self) -> bool:
        """True if its child has begun the next job, but the current job's answer was not read."""
        return bool(self.ahead) and self.ahead[0].is_taken

    @property
    def may_batch_reads(self) -> bool:
        """True if the master need not act as soon as its job ends.

        Either the child goes on with the next job in its mailbox, or it leaves. Then the next job
        waits for the child's exit, which the zygote reports.
        """
        child, attempt = self.child, self.attempt
        if (
            child is None
            or attempt is None
            or attempt.started_at is None
            or child.outbox
            or not self.ahead
        ):
            return False
        return self.has_queued or child.jobs_left < 1

    def held(self) -> list[Attempt]:
        """All its attempts: the current attempt, then the prefetched ones in their order."""
        return [self.attempt, *self.ahead] if self.attempt is not None else []

    def recall(self) -> None:
        """Takes back the jobs that its child has not read out of its mailbox.

        A job that stays posted was begun. If it is behind another job, the answer of that job is
        there to be read.
        """
        child = self.child
        if (
            child is None
            or child.mailbox is None
            or not any(attempt.is_posted for attempt in self.held())
        ):
            return
        tokens = child.mailbox.take_back()
        unread = [
            attempt
            for attempt in self.held()
            if attempt.is_posted and attempt.claim.token in tokens
        ]
        for attempt in unread:
            self.segments.forget(attempt.mark)
            attempt.take_back()
        for attempt in self.held():
            attempt.is_taken = attempt.is_taken or attempt.is_posted
        child.jobs_left += len(unread)
        # The child may have read a job between two that were taken back.
        self._hold(sorted(self.held(), key=lambda attempt: not attempt.is_given))
        if self.attempt is not None and self.attempt.is_posted and self.attempt.started_at is None:
            self.attempt.start(time.monotonic())

    def release_unstarted(self) -> list[Attempt]:
        """Gives up the attempts that no child of it has begun, and returns them.

        They belong to no worker then.
        """
        self.recall()
        held = self.held()
        self._hold([attempt for attempt in held if attempt.is_given])
        return [attempt for attempt in held if not attempt.is_given]

    def release_prefetched(self) -> list[Attempt]:
        """Gives up the prefetched attempts that no child has, and returns them.

        Unlike `release_unstarted` it keeps the current attempt, even if that has not started.
        """
        self.recall()
        waiting = [attempt for attempt in self.ahead if not attempt.is_given]
        self.ahead = [attempt for attempt in self.ahead if attempt.is_given]
        return waiting

    def give_stolen(self) -> list[Attempt]:
        """Gives up the first half of the attempts that wait behind its job, for another worker."""
        waiting = self.release_prefetched()
        half = (len(waiting) + 1) // 2
        self.ahead += waiting[half:]
        return waiting[:half]

    def take_ahead(self, attempts: list[Attempt], now: float) -> None:
        """Adds attempts that another worker has given up, from `now` on."""
        for attempt in attempts:
            attempt.worker, attempt.moved_at = self.number, now
        self._hold([*self.held(), *attempts])

    def let_go(self, attempt: Attempt) -> None:
        """Forgets an attempt that no child has got."""
        self._hold([other for other in self.held() if other is not attempt])

    def end_attempt(self, now: float | None = None) -> None:
        """Ends its current attempt here; the next attempt that it holds becomes the current.

        `now` if the attempt ended by itself: if its child has the next job, that job's time begins
        then. None if the child is gone or the attempt was taken away.
        """
        if self.attempt is not None and now is not None:
            self.ended_at = now
        self.attempt = self.ahead.pop(0) if self.ahead else None
        if self.attempt is not None and self.attempt.is_posted and now is not None:
            self.attempt.start(now)  # its child has gone on by itself

    def note_pace(self, took_s: float) -> None:
        """Updates the pace by the seconds that a job has taken.

        The pace falls by half at most: a seemingly quick job may only have been read late.
        """
        self.pace_s = took_s if self.pace_s == math.inf else max(took_s, self.pace_s / 2)

    def _hold(self, attempts: list[Attempt]) -> None:
        self.attempt, self.ahead = (attempts[0], attempts[1:]) if attempts else (None, [])
