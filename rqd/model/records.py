"""A job, a claim and an attempt as values: written to Redis, and read from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from rqd.model.numbers import EXACT, LONGEST_INTERVAL_S, read_whole


class JobStatus(StrEnum):
    """A job's status (RQ's words). A job is `created` until it is enqueued."""

    CREATED = "created"
    QUEUED = "queued"
    STARTED = "started"
    FINISHED = "finished"
    FAILED = "failed"
    DEFERRED = "deferred"
    SCHEDULED = "scheduled"
    STOPPED = "stopped"
    CANCELED = "canceled"

    @property
    def is_terminal(self) -> bool:
        """True if nothing will happen to the job by itself any more."""
        return self in _TERMINAL


_SUSPECT_LOSSES = 2
_STATUSES = frozenset(JobStatus)
_TERMINAL = frozenset({JobStatus.FINISHED, JobStatus.FAILED, JobStatus.STOPPED, JobStatus.CANCELED})
# The types of end in an attempt's entry (RQ's words).
ATTEMPT_TYPES = frozenset({"successful", "failed", "stopped", "retried"})
T = TypeVar("T", float, None)


# The fields of a job's hash that a producer's signature binds besides the payload, in this order
# and as the bytes in Redis. Retries are the retries left and used together.
SIGNED_FIELDS = (
    "origin",
    "func_name",
    "serializer",
    "timeout",
    "result_ttl",
    "failure_ttl",
    "ttl",
    "retries",
    "retry_intervals",
    "priority",
    "terms",
)


@dataclass(frozen=True, slots=True)
class Envelope:
    """A producer's signature, and the facts that it binds: the bytes of SIGNED_FIELDS."""

    signature: str
    facts: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """The settings that the jobs of an enqueue share, most often all of them.

    Times to live in seconds, -1 for ever, `ttl_s` None for no limit to the wait; `timeout_s` -1 for
    no limit. `due_us` is None for now, or microseconds since 1970 by Redis' clock; `delay_us`
    counts from the enqueue. `terms` is text as dump_terms makes it.
    """

    queue: str
    serializer: str = "pickle"
    timeout_s: float = 180
    result_ttl_s: float = 500
    failure_ttl_s: float = 31_536_000
    ttl_s: float | None = None
    at_front: bool = False
    priority: int = 0
    due_us: int | None = None
    delay_us: int | None = None
    retries: int = 0
    retry_intervals: tuple[float, ...] = ()
    terms: str = ""

    def hash_fields(self, func_name: str) -> dict[str, str]:
        """Returns timeouts and numbers as text of the job's hash; leaves out retries of 0."""
        fields = {
            "func_name": func_name,
            "serializer": self.serializer,
            "timeout": _number(self.timeout_s),
            "result_ttl": _number(self.result_ttl_s),
            "failure_ttl": _number(self.failure_ttl_s),
        }
        if self.retries:
            fields["retries_left"] = str(self.retries)
        if self.retry_intervals:
            fields["retry_intervals"] = ",".join(map(_number, self.retry_intervals))
        if self.terms:
            fields["terms"] = self.terms
        return fields

    def wait_limit(self) -> str:
        """Returns `ttl_s` as the text of the job's hash, empty for None."""
        return "" if self.ttl_s is None else _number(self.ttl_s)


# Not frozen, unlike other values of this project: a frozen one would cost five times as much to
# make, half a microsecond more, and a batch makes thousands.
@dataclass(slots=True)
class NewJob:
    """A job to be enqueued."""

    id: str
    template: Template
    func_name: str
    payload: bytes
    description: str = ""
    meta: bytes = b""
    signature: str = ""
    meta_signature: str = ""
    # Set by an enqueue that left this job out: the id of the job that has its unique key.
    holder_id: str = ""

    def signed_facts(self) -> tuple[bytes, ...]:
        """Returns the facts that a signature of this job binds: the bytes of SIGNED_FIELDS."""
        like = self.template
        fields = like.hash_fields(self.func_name) | {
            "origin": like.queue,
            "ttl": like.wait_limit(),
            "retries": str(like.retries),
            "priority": str(like.priority),
        }
        return tuple(fields.get(name, "").encode() for name in SIGNED_FIELDS)


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as it stands in Redis. Instants are microseconds since 1970, None if not reached."""

    id: str
    func_name: str
    origin: str
    status: JobStatus
    payload: bytes
    payload_bytes: int
    serializer: str
    description: str
    meta: bytes
    timeout_s: float
    result_ttl_s: float
    failure_ttl_s: float
    ttl_s: float | None
    priority: int
    created_us: int | None
    enqueued_us: int | None
    started_us: int | None
    ended_us: int | None
    due_us: int | None
    attempt: int
    losses: int
    fence: int
    retries_left: int
    retries_used: int
    retry_intervals: tuple[float, ...]
    worker: str
    cause: str
    envelope: Envelope | None = None
    meta_signature: str = ""
    terms: str = ""
    # The key of the limit that the job waits for.
    limited: str = ""
    progress: str = ""
    callbacks: str = ""
    tally: str = ""

    @classmethod
    def fresh(
        cls, new: NewJob, status: JobStatus, now_us: int | None, due_us: int | None
    ) -> JobRecord:
        """Makes the record as an enqueue has just written it, which saves reading it back.

        A job that depends on others counts as deferred, though they may have ended. With `created`,
        it is a job that was not enqueued.
        """
        like = new.template
        if '"depends_on":' in like.terms and status is not JobStatus.CREATED:
            status = JobStatus.DEFERRED
        return cls(
            id=new.id,
            func_name=new.func_name,
            origin=like.queue,
            status=status,
            payload=new.payload,
            payload_bytes=len(new.payload),
            serializer=like.serializer,
            description=new.description,
            meta=new.meta,
            timeout_s=like.timeout_s,
            result_ttl_s=like.result_ttl_s,
            failure_ttl_s=like.failure_ttl_s,
            ttl_s=like.ttl_s,
            priority=like.priority,
            created_us=now_us,
            enqueued_us=now_us if status is JobStatus.QUEUED else None,
            started_us=None,
            ended_us=None,
            due_us=due_us,
            attempt=0,
            losses=0,
            fence=0,
            retries_left=like.retries,
            retries_used=0,
            retry_intervals=like.retry_intervals,
            worker="",
            cause="",
            envelope=Envelope(new.signature, new.signed_facts()) if new.signature else None,
            meta_signature=new.meta_signature,
            terms=like.terms,
        )

    @classmethod
    def parse(cls, job_id: str, fields: Mapping[bytes, bytes]) -> JobRecord:
        """Reads the record from a job's hash; treats damaged fields as absent.

        A job without a valid status counts as failed: an enqueue may reuse its id.
        """
        text = {key.decode(errors="replace"): value for key, value in fields.items()}
        token = _text(text, "lease") or _text(text, "settled")
        fence = token.split(":")[0]
        status_text = _text(text, "status")
        status = JobStatus(status_text) if status_text in _STATUSES else None
        return cls(
            id=job_id,
            func_name=_text(text, "func_name"),
            origin=_text(text, "origin"),
            status=status or JobStatus.FAILED,
            payload=text.get("payload", b""),
            payload_bytes=_int(text, "payload_bytes") or len(text.get("payload", b"")),
            serializer=_text(text, "serializer"),
            description=_text(text, "description"),
            meta=text.get("meta", b""),
            timeout_s=_seconds(text, "timeout", 180),
            result_ttl_s=_seconds(text, "result_ttl", -1),
            failure_ttl_s=_seconds(text, "failure_ttl", -1),
            ttl_s=_seconds(text, "ttl", None),
            priority=_int(text, "priority") or 0,
            created_us=_int(text, "created_at"),
            enqueued_us=_int(text, "enqueued_at"),
            started_us=_int(text, "started_at"),
            ended_us=_int(text, "ended_at"),
            due_us=_int(text, "due"),
            attempt=_int(text, "attempt") or 0,
            losses=_int(text, "losses") or 0,
            fence=read_whole(fence) or 0,
            retries_left=_int(text, "retries_left") or 0,
            retries_used=_int(text, "retries_used") or 0,
            retry_intervals=parse_intervals(_text(text, "retry_intervals")),
            worker=_text(text, "worker"),
            cause=_text(text, "cause") if status else f"damaged: its status is {status_text!r}",
            envelope=_envelope(text) if "signature" in text else None,
            meta_signature=_text(text, "meta_signature"),
            terms=_text(text, "terms"),
            limited=_text(text, "limited"),
            progress=_text(text, "progress"),
            callbacks=_text(text, "callbacks"),
            tally=_text(text, "tally"),
        )


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that a master holds: all that is needed to run it, and the token to settle it with.

    `payload` is None where it is too large for the claim and is fetched separately. `waited_ms` is
    how long the job was ready before its claim. `tally` has counts that few jobs have, such as
    retries by their cause.
    """

    id: str
    token: str
    attempt: int
    queue: str
    worker: int
    func_name: str
    payload: bytes | None
    serializer: str
    timeout_s: float
    retries_left: int
    retries_used: int
    retry_intervals: tuple[float, ...]
    losses: int = 0
    terms: str = ""
    waited_ms: int = 0
    envelope: Envelope | None = None
    tally: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_suspect(self) -> bool:
        """True if the job was in two losses in a row: it runs alone, so a third is its own."""
        return self.losses >= _SUSPECT_LOSSES

    @property
    def fence(self) -> int:
        """The claim's fence, which rises with every claim in the namespace."""
        return int(self.token.split(":", 1)[0])


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """An attempt's entry in a job's history; `created_us` is its end, microseconds since 1970."""

    type: str
    attempt: int
    created_us: int
    fields: Mapping[str, bytes] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """Returns a field as text, empty if it isn't there."""
        return self.fields.get(name, b"").decode(errors="replace")


def parse_intervals(text: str) -> tuple[float, ...]:
    """Reads a job's retry intervals: seconds, joined by commas. Empty if damaged."""
    try:
        intervals = tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        return ()  # damaged in Redis; a master that reads it must go on
    return intervals if all(0 <= seconds <= LONGEST_INTERVAL_S for seconds in intervals) else ()


def retries_granted(left: bytes, used: bytes) -> bytes:
    """Returns the retries granted: left and used together. Empty if a count is damaged."""
    try:
        counts = int(left), int(used or 0)
    except ValueError:
        return b""
    return b"%d" % sum(counts) if min(counts) >= 0 else b""


def _envelope(fields: Mapping[str, bytes]) -> Envelope:
    granted = retries_granted(fields.get("retries_left", b"0"), fields.get("retries_used", b""))
    given = {"priority": b"0", **fields, "retries": granted}
    facts = tuple(given.get(name, b"") for name in SIGNED_FIELDS)
    return Envelope(_text(fields, "signature"), facts)


def _number(value: float) -> str:
    """Writes a number in full: `:g` would round seconds past six digits."""
    whole = int(value)
    return str(whole) if whole == value else repr(value)


def _text(fields: Mapping[str, bytes], name: str) -> str:
    return fields.get(name, b"").decode(errors="replace")


def _int(fields: Mapping[str, bytes], name: str) -> int | None:
    try:
        number = int(fields[name])
    except (KeyError, ValueError):
        return None
    return number if abs(number) < EXACT else None


def _seconds(fields: Mapping[str, bytes], name: str, default: T) -> float | T:
    try:
        seconds = float(fields[name])
    except (KeyError, ValueError):
        return default
    return seconds if abs(seconds) < EXACT else default
