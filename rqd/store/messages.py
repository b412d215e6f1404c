"""What a master and the scripts tell one another: the requests, and how their answers are read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from rqd.model.errors import (
    DuplicateJobError,
    InvalidJobOperation,
    NoSuchJobError,
    PartlyEnqueuedError,
    RqdError,
)
from rqd.model.limits import conflict_of
from rqd.model.records import Claim, Envelope, NewJob, parse_intervals, retries_granted
from rqd.model.terms import read_tally


@dataclass(frozen=True, slots=True)
class Settlement:
    """What to record of an attempt: decision is finish, repeat, fail, retry, put_back,
    park, lose or stop.
    """

    id: str
    token: str
    worker: int
    decision: str
    delay_us: int = 0
    fields: tuple[tuple[str, str | bytes | int | float], ...] = ()
    result: bytes = b""


@dataclass(frozen=True, slots=True)
class Told:
    """What a running job has told its master: progress as text, further fields of its hash, and
    output from a byte on where somebody follows it.
    """

    id: str
    token: str
    progress: bytes = b""
    output: tuple[int, bytes] | None = None
    fields: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Turn:
    """A master's request of one turn; sent again unchanged if its answer is lost."""

    request: str
    master: str
    lease_us: int
    settlements: tuple[Settlement, ...] = ()
    free_workers: tuple[int, ...] = ()
    queues: tuple[str, ...] = ()
    nudge: bool = False
    # How they are taken in turn, where that is not strictly in their order: see lib/orders.lua.
    order: str = ""
    # The processes that wait in these workers, for their rows; a worker may have none yet.
    pids: Mapping[int, int] = field(default_factory=dict)
    # Workers that take a job more behind the one they have; there twice if they take two.
    ahead: tuple[int, ...] = ()
    busy: tuple[int, ...] = ()  # those that have a job: what is settled of theirs leaves none idle


@dataclass(frozen=True, slots=True)
class TurnAnswer:
    """`verdicts` in the order of the settlements: settled, abandoned (a loss too many), stopped (it
    was told to, and would have run again), already, stale or gone. `set_aside` failed at their
    claim: id, queue, cause.
    """

    now_us: int
    verdicts: tuple[str, ...]
    claims: tuple[Claim, ...]
    next_due_us: int | None
    set_aside: tuple[tuple[str, str, str], ...] = ()

    @classmethod
    def parse(cls, answer: Any) -> TurnAnswer:
        """What `turn.lua` has answered."""
        now, verdicts, claims, due, *aside = json.loads(read_text(answer[0]))
        return cls(
            now_us=int(now),
            verdicts=tuple(verdicts),
            claims=tuple(_parse_claim(claim, answer) for claim in claims),
            next_due_us=int(due) if due else None,
            set_aside=tuple((job, queue, cause) for job, queue, cause in chain(*aside)),
        )


@dataclass(frozen=True, slots=True)
class Beat:
    """A master's heartbeat: what it runs (id, token and, where that is another than its claim has
    said, the number of its worker, or '') and its rows.
    """

    master: str
    boot: str
    lease_us: int
    row_ttl_s: int
    obeyed: str
    running: tuple[tuple[str, str, int | str], ...]
    row: Mapping[str, str | int | float]
    workers: Mapping[int, Mapping[str, str | int | float]]


# A job that went back, or was given up, with its master: id, losses in a row, lost with whom.
Loss = tuple[str, int, str]


@dataclass(frozen=True, slots=True)
class BeatAnswer:
    """`lost`: tokens of attempts whose lease is another's by now.

    `reaped`: the jobs of dead masters; `next_expiry_us`: when there may be more. `is_replaced`:
    another master has the name by now, and nothing was done. `is_suspended`: nobody claims.
    `next_cron_us`: when the first cron entry is due. `stops`: commands for those that run and that
    somebody wants stopped, told or not. `last_us`: the master's last beat that Redis knows of, None
    if it knows of none; its `now_us` was another if Redis has lost data since.
    """

    now_us: int
    lost: tuple[str, ...]
    commands: tuple[dict[str, Any], ...]
    reaped: tuple[Loss, ...]
    next_expiry_us: int | None = None
    is_replaced: bool = False
    is_suspended: bool = False
    next_cron_us: int | None = None
    stops: tuple[dict[str, Any], ...] = ()
    last_us: int | None = None

    @classmethod
    def parse(cls, answer: Any) -> BeatAnswer:
        """What `beat.lua` has answered."""
        now, lost, commands, reaped, expiry, is_replaced, is_suspended, cron, stops, last = answer
        return cls(
            now_us=int(now),
            lost=tuple(map(read_text, lost)),
            commands=tuple(filter(None, map(_read_command, commands))),
            reaped=_read_losses(reaped),
            next_expiry_us=int(expiry) if expiry else None,
            is_replaced=bool(is_replaced),
            is_suspended=bool(is_suspended),
            next_cron_us=int(cron) if cron else None,
            stops=tuple(map(_read_stop, stops)),
            last_us=int(last) if last else None,
        )


@dataclass(frozen=True, slots=True)
class Owner:
    """The master that has a name; by `place` one of the same host knows that it is gone."""

    host: str
    pid: str
    boot: str
    place: str


@dataclass(frozen=True, slots=True)
class Greeting:
    """`owner` None: the name is ours. `reaped`: the jobs of the master that had it before."""

    owner: Owner | None
    reaped: tuple[Loss, ...] = ()

    @classmethod
    def parse(cls, answer: Any) -> Greeting:
        """What `hello.lua` has answered."""
        outcome, *told = answer
        if outcome == b"ok":
            return cls(None, _read_losses(told[1]))
        return cls(Owner(*map(read_text, told)))


def check_ids(jobs: Sequence[NewJob]) -> None:
    """Raises DuplicateJobError if two of the jobs have one id."""
    seen: set[str] = set()
    for job in jobs:
        if job.id in seen:
            raise _duplicate(job.id)
        seen.add(job.id)


def partly_enqueued(
    error: Exception, jobs: Sequence[NewJob], done: int, unknown: int
) -> PartlyEnqueuedError:
    """What to raise where a portion has failed and the first `done` jobs are enqueued; of so many
    behind them it is unknown.
    """
    also = f", the next {unknown:,} may be" if unknown else ""
    told = f"the first {done:,} of {len(jobs):,} jobs are enqueued{also} (job_ids says which)"
    return PartlyEnqueuedError(
        f"{told}: {error}",
        tuple(job.id for job in jobs[:done] if not job.holder_id),
    )


def read_enqueued(answer: bytes | list[Any], jobs: Sequence[NewJob]) -> int:
    """Redis' time in microseconds; writes into the jobs that were left out who has their key.

    Raises DuplicateJobError, InvalidJobOperation, NoSuchJobError.
    """
    if isinstance(answer, bytes):
        return int(answer)
    outcome, told, *more = answer
    match outcome:
        case b"ok":
            left_out = more[0]
            for number, holder in zip(left_out[::2], left_out[1::2], strict=True):
                jobs[number - 1].holder_id = holder.decode()
            return int(told)
        case b"duplicate":
            raise _duplicate(told.decode())
        case b"conflict":
            holder, key = map(read_text, more)
            refused = next(job for job in jobs if job.id == told.decode())
            raise DuplicateJobError(_conflict(holder, key, refused), holder)
        case b"parent left out":
            parent, holder, key = map(read_text, more)
            raise DuplicateJobError(
                f"job {told.decode()} depends on {parent}, which is left out: job {holder} has its"
                f" unique key {key!r}; wait for its end, or have depends_on={holder!r}",
                holder,
            )
        case b"awaited":
            raise DuplicateJobError(
                f"other jobs still wait for {told.decode()!r}, so that it can't wait for others"
                " itself: choose another id, or requeue it",
                told.decode(),
            )
        case b"circle":
            raise InvalidJobOperation(_circle(told.decode(), read_text(more[0])))
        case b"orphan":
            raise NoSuchJobError(_orphan(told.decode(), read_text(more[0])))
    raise RqdError(f"Redis lost the payload of job {told.decode()} on its way: enqueue again")


def _duplicate(job_id: str) -> DuplicateJobError:
    return DuplicateJobError(
        f"a job with id {job_id!r} is still alive, or is given twice: wait for its end, or choose"
        " another id",
        job_id,
    )


def _conflict(holder: str, key: str, new: NewJob) -> str:
    has_it = f"job {holder} has the unique key {key!r}"
    if conflict_of(new.template.terms) == "replace":
        return (
            f"{has_it} and can't be replaced: it runs, has ended, or is of the same batch; wait"
            " until the key is free"
        )
    return f"{has_it}: wait until that is free, or use Unique(.., on_conflict=..)"


def _orphan(job_id: str, parent: str) -> str:
    _, _, group = parent.partition(":")
    if group:
        return (
            f"job {job_id!r} waits for group {group!r}, which has no jobs: put them in before it,"
            " or their times to live are over"
        )
    return (
        f"job {job_id!r} depends on {parent!r}, and there is no such job: it was deleted, its time"
        " to live is over, or it stands later in the same batch"
    )


def _circle(job_id: str, awaited: str) -> str:
    kind, _, group = awaited.partition(":")
    if group:
        return (
            f"job {job_id} of {kind} {group} depends on what waits for this group: neither would"
            " ever run"
        )
    return (
        f"job {job_id} depends on {awaited}, in whose place it would come: it would never run;"
        " leave out that parent, or the unique key"
    )


def read_requeued(found: str, job_id: str) -> str:
    """The status that a requeue has found. Raises DuplicateJobError."""
    if found.startswith("unique "):
        holder = found.partition(" ")[2]
        raise DuplicateJobError(
            f"job {holder} has the unique key of job {job_id} by now: wait for its end", holder
        )
    return found


@dataclass(frozen=True, slots=True)
class Failures:
    """Which failed jobs are meant: by function (`*` for any text), by a part of the cause, by when
    they ended (us). Empty texts mean all. Stopped ones only by their cause.
    """

    function: str = ""
    cause: str = ""
    earliest_us: int = 0
    latest_us: int = 2**53 - 1


@dataclass(frozen=True, slots=True)
class Requeued:
    """A portion of a queue's failed jobs: how many were looked at, and which were meant."""

    looked_at: int
    ids: tuple[str, ...]


def _read_losses(reaped: list[Any]) -> tuple[Loss, ...]:
    return tuple((read_text(job), int(losses), read_text(lost)) for job, losses, lost in reaped)


def read_text(raw: bytes) -> str:
    """Text out of Redis, where anybody may have written what is none."""
    return raw.decode(errors="replace")


def _read_command(command: bytes) -> dict[str, Any] | None:
    """None for what is no command: whoever can write to Redis can write anything there."""
    try:
        told = json.loads(read_text(command))
    except (ValueError, RecursionError):
        return None
    command_id = told.get("id") if isinstance(told, dict) else None
    # The id goes back to Redis: it must have a form there.
    return told if isinstance(command_id, str) and command_id.isascii() else None


def _read_stop(told: Sequence[bytes]) -> dict[str, Any]:
    """As the command has it: who reads that knows that anybody may have written it."""
    token, by, grace = map(read_text, told)
    try:
        grace_s = float(grace)
    except ValueError:
        grace_s = math.nan
    return {"token": token, "by": by, "grace_s": grace_s}


def read_claim(answer: Any) -> Claim | None:
    """What `take.lua` has answered."""
    if not answer:
        return None
    claim = json.loads(read_text(answer[0]))
    return _parse_claim(claim, answer)


def _parse_claim(claim: list[Any], answer: list[bytes]) -> Claim:
    # Its numbers are some: the script has set aside what no worker could use.
    return Claim(
        id=claim[0],
        token=claim[1],
        attempt=int(claim[2]),
        queue=claim[3],
        worker=int(claim[4]),
        func_name=claim[5],
        payload=answer[claim[6]] if claim[6] else None,
        serializer=claim[7],
        timeout_s=float(claim[8]),
        retries_left=int(claim[9]),
        retries_used=int(claim[10]),
        retry_intervals=parse_intervals(claim[11]) if claim[11] else (),
        losses=int(claim[12]),
        terms=claim[13],
        waited_ms=int(claim[14]),
        envelope=_envelope(claim) if len(claim) > 15 and claim[15] else None,
        tally=read_tally(claim[20]) if len(claim) > 20 else {},
    )


def _envelope(claim: list[Any]) -> Envelope:
    """The signature of a claimed job, with the facts in the order of SIGNED_FIELDS."""
    raw = [part.encode() if isinstance(part, str) else b"" for part in claim]
    retries = retries_granted(raw[9], raw[10])
    result_ttl, failure_ttl, ttl, priority = raw[16:20]
    facts = (raw[3], raw[5], raw[7], raw[8], result_ttl, failure_ttl, ttl, retries)
    return Envelope(claim[15], (*facts, raw[11], priority, raw[13]))
