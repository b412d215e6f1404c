"""A worker of the master: its place, the child that is in it, the run of the job it holds."""

from __future__ import annotations

import fcntl
import math
import os
import select
import socket
import termios
import time
from dataclasses import dataclass, field

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
# A worker that has much to do holds so many more jobs, for about so long: the next one starts as
# soon as there is a process for it, and a turn settles and claims many.
_MOST_AHEAD = 48
_AHEAD_S = 0.02
# A suspect waits so long for others to end, and they for it once it has begun. A longer one, or one
# without a limit, would keep a whole daemon from its work.
ALONE_S = 60.0
# What a process may take to write its stacks, before it is killed.
_STACK_BEFORE_KILL_S = 0.2
# The largest result, and room for what is said of it.
_LONGEST_ANSWER_BYTES = DEFAULT_PAYLOAD_LIMIT_BYTES + 1024 * 1024


@dataclass(slots=True)
class Run:
    """A claimed job in its worker. Instants are monotonic seconds; None until it was sent."""

    claim: Claim
    worker: int
    sent_at: float | None = None
    deadline: float | None = None
    verdict: Outcome | None = None  # why the master had it killed
    stop_by: float = math.inf  # somebody wants it stopped: the kill is due then
    killed_at: float | None = None
    limits: ResourceLimits = NO_RESOURCE_LIMITS
    is_stack_asked: bool = False
    stack_from: int = 0  # the byte of its place's file from which its last stacks are
    memory_bytes: int | None = None  # the latest sample
    peak_bytes: int | None = None  # the highest one
    sampled_at: float = -math.inf
    cpu_before_s: float = 0.0  # what its process had used when the job was sent
    told_at: float = -math.inf  # that its cpu time is over
    news: PendingUpdates = field(default_factory=PendingUpdates)
    granted_s: float = 0.0  # more time, from outside
    followed_until: float = 0.0  # somebody reads its output as it comes
    published_bytes: int = 0  # so much of that is there
    shown_pid: int = 0  # what the worker's row says; 0 where the claim came before its child
    is_taken: bool = False  # its child has read it, as far as is known
    is_posted: bool = False  # it was put into its child's mailbox
    is_behind: bool = False  # and was behind another one there
    claimed_at: float = 0.0
    moved_at: float = 0.0  # to its worker, from another one; 0 for never

    @property
    def limit_s(self) -> float:
        """How long it may run, with what was granted meanwhile; not above 0 for no limit."""
        return self.claim.timeout_s + self.granted_s + self.news.extended_s

    @property
    def waited_s(self) -> float:
        """How long it could have been run and was not: in its queue, and behind others here."""
        here_s = 0.0 if self.sent_at is None else max(0.0, self.sent_at - self.claimed_at)
        return self.claim.waited_ms / 1000 + here_s

    @property
    def stack_due(self) -> float:
        """When to ask for its stacks, as the kill comes next."""
        is_over = self.deadline is None or self.is_stack_asked or self.killed_at is not None
        return (
            math.inf if self.deadline is None or is_over else self.deadline - _STACK_BEFORE_KILL_S
        )

    def put_kill_off(self, now: float) -> None:
        """Until its process had the time to write its stacks, if the master was late to ask."""
        if self.deadline is not None:
            self.deadline = max(self.deadline, now + _STACK_BEFORE_KILL_S)

    def start(self, now: float) -> None:
        """A child gets it."""
        self.sent_at = now
        self.set_deadline()

    def frame(self, kind: int, *more: bytes) -> bytes:
        """What its child is sent: a JOB, or a NEXT with its own field more."""
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
        """What its child finds in its mailbox where the job itself does not fit there."""
        return encode_frame(protocol.LARGE, self.claim.id.encode(), self.claim.token.encode())

    @property
    def is_moved(self) -> bool:
        """True if Redis may name another worker: it was not claimed for the one that has it, or was
        elsewhere meanwhile.
        """
        return self.moved_at > 0

    @property
    def is_given(self) -> bool:
        """True if its child has it, or finds it in its mailbox."""
        return self.is_posted or self.sent_at is not None

    @property
    def is_free(self) -> bool:
        """True for a job that nothing holds to: its process may have more to do behind it, and it
        may be behind another one.
        """
        is_to_end = self.verdict is not None or self.killed_at is not None
        return not (is_to_end or self.limits or self.stop_by < math.inf)

    def is_to_be_alone(self, now: float) -> bool:
        """True for a suspect, in the first minute that it waits and in the first that it runs."""
        since = self.claimed_at if self.sent_at is None else self.sent_at
        return self.claim.is_suspect and now < since + ALONE_S

    @property
    def mark(self) -> bytes:
        """What stands before its output; empty if it was given to its child behind no other."""
        return mark_of(self.claim.token.encode()) if self.is_behind else b""

    def take_back(self) -> None:
        """Its child has not begun it, and never will: as if it had not been given to it."""
        self.sent_at = self.deadline = self.killed_at = self.verdict = None
        self.is_posted = self.is_behind = self.is_stack_asked = False

    def set_deadline(self) -> None:
        """As its limit says by now."""
        if self.claim.timeout_s > 0 and self.sent_at is not None:
            self.deadline = self.sent_at + self.limit_s + HARD_KILL_AFTER_S
        if self.stop_by < (self.deadline or math.inf):
            self.deadline = self.stop_by


@dataclass(slots=True)
class Child:
    """A process in a worker's place."""

    pid: int
    channel: socket.socket
    pidfd: int
    jobs_left: int
    zygote: int = 0  # which one of the master's it is of
    mailbox: Mailbox | None = None
    reader: FrameReader = field(default_factory=lambda: FrameReader(_LONGEST_ANSWER_BYTES))
    outbox: memoryview = field(default_factory=lambda: memoryview(b""))
    unread: bool = False  # it died with a job's frame in its socket
    is_deaf: bool = False  # its end of the channel is closed
    cpu_us: int = 0
    is_broken: bool = False  # what it says is no frames of ours: nobody listens any more
    strange: int = 0  # frames that were nobody's
    expects_more: bool = False  # jobs, which it will not get: that is told after its last
    is_overdue: bool = False  # its zygote was asked to kill it
    leave_by: float | None = None  # it has said its last: when it has to be gone
    is_watched: bool = False  # its channel is in the loop

    def has_unread(self) -> bool:
        """True if something that was sent there is unread, though a process that the child has left
        may hold the other end open, so that its death breaks no connection.
        """
        unread = fcntl.ioctl(self.channel, termios.TIOCOUTQ, bytes(4))
        return any(unread)

    def has_hung_up(self) -> bool:
        """True if nobody has the other end: what was unread there is counted no more."""
        watch = select.poll()
        watch.register(self.channel, 0)
        return bool(watch.poll(0))

    def end_jobs(self) -> None:
        """It gets no more of them: it reads that where it waits for one, and leaves."""
        if self.mailbox is None:
            self.channel.shutdown(socket.SHUT_WR)
        else:
            self.mailbox.end()

    def close(self) -> None:
        """Lets go of it: once its job is done, it leaves."""
        # A child that was forked before these ends had reached us has copies of them.
        self.channel.shutdown(socket.SHUT_RDWR)
        self.channel.close()
        os.close(self.pidfd)
        if self.mailbox is not None:
            self.mailbox.close()


@dataclass(slots=True)
class Worker:
    """One of the master's places."""

    number: int
    wanted: bool = True
    child: Child | None = None
    has_lived: bool = False  # it had a child once
    lacks_child: bool = False  # none could be had for it, so far
    is_shown: bool = False  # its row names a process
    is_quiet: bool = False  # its child is heard when it is time to: see `may_be_quiet`
    run: Run | None = None
    ahead: list[Run] = field(default_factory=list)  # what it runs next; empty where `run` is None
    ended_at: float = 0.0  # its latest job
    pace_s: float = math.inf  # what one takes by now, with the process that it waits for
    tail: Tail = field(default_factory=Tail)
    segments: OutputSplitter = field(
        default_factory=OutputSplitter
    )  # of what comes from its children
    last_error: str = ""
    worked_s: float = 0.0

    @property
    def is_present(self) -> bool:
        """False once it was taken away and its last job has ended."""
        return self.wanted or self.run is not None

    @property
    def is_free(self) -> bool:
        """True if it can take a job: it holds none, and has a child or is about to."""
        return self.wanted and self.run is None and not self.lacks_child

    @property
    def began_at(self) -> float:
        """Since when it has to do with the job it runs; where it has none, its latest one's end."""
        run = self.run
        return self.ended_at if run is None else max(run.claimed_at, run.moved_at, self.ended_at)

    def ahead_wanted(self, now: float) -> int:
        """How many more jobs it may hold behind the one it runs, or gets: as many as it has soon
        run, by the latest ones, so that none of them waits here while another master has nothing
        to do.
        """
        has_rested = self.run is None and now > self.ended_at + _AHEAD_S
        if not self.wanted or has_rested or self.lacks_child:
            return 0
        pace_s = self.pace_s if self.run is None else max(self.pace_s, now - self.began_at)
        soon = int(_AHEAD_S / max(pace_s, _AHEAD_S / _MOST_AHEAD))
        return max(0, soon - len(self.ahead))

    def ahead_lasts_s(self, now: float) -> float:
        """How long the last one that it holds waits for its start here, going by its pace; 0 where
        none does.
        """
        waiting = sum(not run.is_taken for run in self.ahead)
        return waiting * max(self.pace_s, now - self.began_at) if waiting else 0.0

    @property
    def goes_on(self) -> bool:
        """True if its child has more to do behind the job that it runs."""
        return bool(self.ahead) and self.ahead[0].is_posted

    @property
    def is_out_of_sync(self) -> bool:
        """True if its child is known to have begun the next one, though it was not heard yet that
        the one before has ended.
        """
        return bool(self.ahead) and self.ahead[0].is_taken

    @property
    def may_batch_reads(self) -> bool:
        """True if nothing is to be done when its job ends: its child has more to do; or leaves, and
        the next job waits for that, which the zygote tells of.
        """
        child, run = self.child, self.run
        if child is None or run is None or run.sent_at is None or child.outbox or not self.ahead:
            return False
        return self.goes_on or child.jobs_left < 1

    def held(self) -> list[Run]:
        """All its jobs: the one it runs, and those behind it."""
        return [self.run, *self.ahead] if self.run is not None else []

    def recall(self) -> None:
        """Takes back from its child what that has not begun with.

        What stays posted was begun; if it is behind another one, that one's answer is there to be
        read.
        """
        child = self.child
        if child is None or child.mailbox is None or not any(run.is_posted for run in self.held()):
            return
        tokens = child.mailbox.take_back()
        unread = [run for run in self.held() if run.is_posted and run.claim.token in tokens]
        for run in unread:
            self.segments.forget(run.mark)
            run.take_back()
        for run in self.held():
            run.is_taken = run.is_taken or run.is_posted
        child.jobs_left += len(unread)
        # The child may have got one between two that were taken back.
        self._hold(sorted(self.held(), key=lambda run: not run.is_given))
        if self.run is not None and self.run.is_posted and self.run.sent_at is None:
            self.run.start(time.monotonic())

    def release_unstarted(self) -> list[Run]:
        """Lets go of the jobs that no child of it has begun; they are nobody's then."""
        self.recall()
        held = self.held()
        self._hold([run for run in held if run.is_given])
        return [run for run in held if not run.is_given]

    def release_prefetched(self) -> list[Run]:
        """As `free_unsent`, but for the job that is next where it has none that runs."""
        self.recall()
        waiting = [run for run in self.ahead if not run.is_given]
        self.ahead = [run for run in self.ahead if run.is_given]
        return waiting

    def give_stolen(self) -> list[Run]:
        """Lets go of the first half of what waits behind its job, for another worker."""
        waiting = self.release_prefetched()
        half = (len(waiting) + 1) // 2
        self.ahead += waiting[half:]
        return waiting[:half]

    def take_ahead(self, runs: list[Run], now: float) -> None:
        """Holds what another worker has let go, from now on."""
        for run in runs:
            run.worker, run.moved_at = self.number, now
        self._hold([*self.held(), *runs])

    def let_go(self, run: Run) -> None:
        """Forgets one of its jobs that no child has got."""
        self._hold([other for other in self.held() if other is not run])

    def end_run(self, now: float | None = None) -> None:
        """Its job has ended here: the next one it holds, if any, is its job from now on.

        `now` where it has ended by itself, so that the next one may take as long.
        """
        if self.run is not None and now is not None:
            self.ended_at = now
        self.run = self.ahead.pop(0) if self.ahead else None
        if self.run is not None and self.run.is_posted and now is not None:
            self.run.start(now)  # its child has gone on by itself

    def note_pace(self, took_s: float) -> None:
        """So long a job has taken. A quick one after others may only have been heard of late."""
        self.pace_s = took_s if self.pace_s == math.inf else max(took_s, self.pace_s / 2)

    def _hold(self, runs: list[Run]) -> None:
        self.run, self.ahead = (runs[0], runs[1:]) if runs else (None, [])
