"""An attempt: a job that this master has claimed, from its claim to its end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import chain

from rqd.daemon.workers.updates import PendingUpdates
from rqd.daemon.zygote import protocol
from rqd.daemon.zygote.protocol import encode_frame
from rqd.model.outcome import Outcome, Stopped
from rqd.model.records import Claim
from rqd.model.resources import NO_RESOURCE_LIMITS, ResourceLimits

HARD_KILL_AFTER_S = 5.0
# A suspect waits so long for the other jobs to end, and they for it once it has begun. A longer
# wait, or an endless wait, would keep a whole daemon from its work.
ALONE_S = 60.0
# Time for a process to write its stacks before it is killed.
_STACK_BEFORE_KILL_S = 0.2


class AttemptState(Enum):
    """The states of an attempt, from its claim to its end; the value describes it."""

    HELD = "claimed, in the master"
    QUEUED = "in its child's mailbox, behind another job"  # reused children only
    RUNNING = "given to its child"
    STOPPING = "to end: its verdict is set"
    KILLED = "its process group is being killed"


@dataclass(slots=True, eq=False)
class Attempt:
    """A claimed job in its worker. Instants are monotonic seconds.

    `started_at` is None until a child has it, `deadline` while no kill is planned.
    """

    claim: Claim
    worker: int
    state: AttemptState = AttemptState.HELD
    claimed_at: float = 0.0
    moved_at: float = 0.0  # when it came from another worker; 0 for never
    started_at: float | None = None
    is_taken: bool = False  # its child has read it, as far as is known
    mark: bytes = b""  # the delimiter before its output; empty unless it was queued behind another
    deadline: float | None = None
    granted_s: float = 0.0  # more time, from outside
    verdict: Outcome | None = None  # the reason why the master stops or kills it
    stop_by: float = math.inf  # when the kill is due, after an order to stop
    killed_at: float | None = None  # the latest kill
    signalled_at: float = -math.inf  # when its child last got the signal that its cpu time is over
    is_stack_asked: bool = False
    stack_from: int = 0  # the byte of its slot's stack file at which its last stacks begin
    limits: ResourceLimits = NO_RESOURCE_LIMITS
    memory_bytes: int | None = None  # the latest sample
    peak_bytes: int | None = None  # the highest sample
    sampled_at: float = -math.inf
    cpu_before_s: float = 0.0  # the cpu time that its process had used when the job was given
    updates: PendingUpdates | None = None  # None until it sends the first
    followed_until: float = 0.0  # a client reads its output as it comes, until then
    published_bytes: int = 0  # output bytes that are there for it; -1 until its first read
    row_pid: int = 0  # the pid in the worker's row; 0 where the claim came before its child

    @property
    def is_held(self) -> bool:
        """True if no child has it."""
        return self.state is AttemptState.HELD

    @property
    def is_queued(self) -> bool:
        """True while it is in its child's mailbox behind another job."""
        return self.state is AttemptState.QUEUED

    @property
    def is_moved(self) -> bool:
        """True if it moved to another worker since its claim, so that Redis may name the old
        worker.
        """
        return self.moved_at > 0

    @property
    def may_share(self) -> bool:
        """True for a job without a limit of memory or cpu time, and without an order to end it.

        Only such a job may share a mailbox: it may be behind another job, and others behind it.
        """
        is_to_end = self.state in (AttemptState.STOPPING, AttemptState.KILLED)
        return not (is_to_end or self.limits)

    @property
    def limit_s(self) -> float:
        """The time limit in seconds, with all that was granted since; 0 or less for no limit."""
        extended_s = self.updates.extended_s if self.updates is not None else 0.0
        return self.claim.timeout_s + self.granted_s + extended_s

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
        if self.deadline is None or self.is_stack_asked or self.killed_at is not None:
            return math.inf
        return self.deadline - _STACK_BEFORE_KILL_S

    def is_to_be_alone(self, now: float) -> bool:
        """True for a suspect during its first minute of waiting and its first of running."""
        since = self.claimed_at if self.started_at is None else self.started_at
        return self.claim.is_suspect and now < since + ALONE_S

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

    def record_frame(self, fields: Mapping[bytes, bytes]) -> bytes:
        """The frame with the job's record for its child."""
        if self.is_moved and (named := fields.get(b"worker")):
            # The row may name the worker of the claim until the next heartbeat.
            fields = {**fields, b"worker": b"%b:%d" % (named.rpartition(b":")[0], self.worker)}
        record = chain.from_iterable(fields.items())
        return encode_frame(protocol.RECORD, self.claim.token.encode(), *record)

    # -- transitions ------------------------------------------------------------------------

    def queue(self, mark: bytes) -> None:
        """Notes that it is in its child's mailbox, and that its output begins with this mark."""
        self.state, self.mark = AttemptState.QUEUED, mark

    def start(self, now: float) -> None:
        """Notes that its child has it from now on."""
        self.state, self.started_at = AttemptState.RUNNING, now
        self.set_deadline()

    def take_back(self) -> None:
        """Resets it, as its child has not begun it and never will."""
        self.state, self.mark = AttemptState.HELD, b""
        self.started_at = self.deadline = self.killed_at = self.verdict = None
        self.is_stack_asked = False

    def has_not_begun(self) -> None:
        """Notes that its child has read it and put it back; its mark is in the output."""
        self.state, self.started_at = AttemptState.HELD, None

    def stop(self, verdict: Outcome, kill_at: float) -> None:
        """Notes the reason why it is to end, and when it is killed otherwise.

        An order of an operator goes before other reasons.
        """
        if self.killed_at is None:
            self.state = AttemptState.STOPPING
            if not isinstance(self.verdict, Stopped):
                self.verdict = verdict
        self.stop_by = min(kill_at, self.stop_by)
        self.set_deadline()

    def kill(self, verdict: Outcome, now: float) -> None:
        """Notes that its group is killed from now on, for this reason unless it has another."""
        self.state, self.killed_at = AttemptState.KILLED, now
        self.verdict = self.verdict or verdict

    def set_deadline(self) -> None:
        """Sets the deadline by the present time limit and the order to stop, if any."""
        if self.claim.timeout_s > 0 and self.started_at is not None:
            self.deadline = self.started_at + self.limit_s + HARD_KILL_AFTER_S
        if self.stop_by < (self.deadline or math.inf):
            self.deadline = self.stop_by

    def put_kill_off(self, now: float) -> None:
        """Moves the deadline so that its process has time to write its stacks.

        The master may have been late to ask for them.
        """
        if self.deadline is not None:
            self.deadline = max(self.deadline, now + _STACK_BEFORE_KILL_S)
