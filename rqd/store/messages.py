"""Messages between a master and the scripts: the requests, and how their answers are read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from rqd.model.errors import (
    DuplicateJobError,
)
from rqd.model.records import Claim, Envelope, parse_intervals, retries_granted
from rqd.model.terms import read_tally


@dataclass(frozen=True, slots=True)
class Settlement:
    """The record of an ended attempt, to be written.

    `decision` is finish, repeat, fail, retry, put_back, park, lose or stop.
    """

    id: str
    token: str
    worker: int
    decision: str
    delay_us: int = 0
    fields: tuple[tuple[str, str | bytes | int | float], ...] = ()
    result: bytes = b""


@dataclass(frozen=True, slots=True)
class JobUpdate:
    """An update from a running job: progress as text, further fields of its hash.

    `output` has the byte at which it begins; only where somebody follows the job.
    """

    id: str
    token: str
    progress: bytes = b""
    output: tuple[int, bytes] | None = None
    fields: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class QueueNumbers:
    """Numbers to add to a queue's history. A field that ends in a number is of that function."""

    queue: str
    functions: tuple[str, ...]
    fields: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Turn:
    """A master's request of a turn; sent again unchanged if its answer is lost."""

    request: str
    master: str
    lease_us: int
    settlements: tuple[Settlement, ...] = ()
    free_workers: tuple[int, ...] = ()
    queues: tuple[str, ...] = ()
    nudge: bool = False
    # How the queues take turns, where their order is not strict: see lib/orders.lua.
    order: str = ""
    # The pids of the children that wait in these workers, for their rows; a worker may have none
    # yet.
    pids: Mapping[int, int] = field(default_factory=dict)
    # Workers that prefetch a further job; listed twice if they prefetch two.
    ahead: tuple[int, ...] = ()
    busy: tuple[int, ...] = ()  # with a job: its end leaves no worker idle

    @property
    def claims_for(self) -> int:
        """The number of jobs that it claims at most."""
        return len(self.free_workers) + len(self.ahead)


@dataclass(frozen=True, slots=True)
class TurnAnswer:
    """The answer to a turn. `verdicts` are in the order of the settlements.

    A verdict is settled, abandoned (a loss too many), stopped (a stop kept it from running again),
    already, stale or gone. `set_aside` lists jobs that failed at their claim: id, queue, cause.
    """

    now_us: int
    verdicts: tuple[str, ...]
    claims: tuple[Claim, ...]
    next_due_us: int | None
    set_aside: tuple[tuple[str, str, str], ...] = ()

    @classmethod
    def parse(cls, answer: Any) -> TurnAnswer:
        """Reads the answer of `turn.lua`."""
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
    """A master's heartbeat: its attempts and its rows.

    `running` has id, token and, where it is not the worker of the claim, the worker's number, or
    ''.
    """

    master: str
    boot: str
    lease_us: int
    row_ttl_s: int
    obeyed: str
    running: tuple[tuple[str, str, int | str], ...]
    row: Mapping[str, str | int | float]
    workers: Mapping[int, Mapping[str, str | int | float]]


# A job that lost its master and was put back, stopped or given up: id, losses in a row, and the
# loss in words.
Loss = tuple[str, int, str]


@dataclass(frozen=True, slots=True)
class BeatAnswer:
    """The answer to a heartbeat. `lost`: tokens of attempts whose lease has another holder by now.

    `reaped`: the jobs of dead masters; `next_expiry_us`: when there may be more. `is_replaced`:
    another master has the name by now, and nothing was done. `is_suspended`: nobody claims.
    `next_cron_us`: when the first cron entry is due. `stops`: orders to stop attempts of this
    master, new or not. `last_us`: the master's last beat that Redis knows of, None if it knows of
    none. If Redis has lost data since, it differs from that beat's `now_us`.
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
        """Reads the answer of `beat.lua`."""
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
    """The master that has a name. By `place` a master on the same host can see that it is gone."""

    host: str
    pid: str
    boot: str
    place: str


@dataclass(frozen=True, slots=True)
class Greeting:
    """The answer to a hello. `owner` None: the name is ours.

    `reaped`: the jobs of the master that had the name before.
    """

    owner: Owner | None
    reaped: tuple[Loss, ...] = ()

    @classmethod
    def parse(cls, answer: Any) -> Greeting:
        """Reads the answer of `hello.lua`."""
        outcome, *fields = answer
        if outcome == b"ok":
            return cls(None, _read_losses(fields[1]))
        return cls(Owner(*map(read_text, fields)))


def read_requeued(found: str, job_id: str) -> str:
    """Returns the status that a requeue has found. Raises DuplicateJobError."""
    if found.startswith("unique "):
        holder = found.partition(" ")[2]
        raise DuplicateJobError(
            f"job {holder} has the unique key of job {job_id} by now: wait for its end", holder
        )
    return found


@dataclass(frozen=True, slots=True)
class Requeued:
    """A portion of a queue's failed jobs: how many were checked, and the selected ids."""

    looked_at: int
    ids: tuple[str, ...]


def _read_losses(reaped: list[Any]) -> tuple[Loss, ...]:
    return tuple((read_text(job), int(losses), read_text(lost)) for job, losses, lost in reaped)


def read_text(raw: bytes) -> str:
    """Decodes text from Redis, where anybody may have written other bytes."""
    return raw.decode(errors="replace")


def _read_command(command: bytes) -> dict[str, Any] | None:
    """Reads a command; None for other text, as any client can write anything there."""
    try:
        fields = json.loads(read_text(command))
    except (ValueError, RecursionError):
        return None
    command_id = fields.get("id") if isinstance(fields, dict) else None
    # The id goes back to Redis: it must have a form there.
    return fields if isinstance(command_id, str) and command_id.isascii() else None


def _read_stop(fields: Sequence[bytes]) -> dict[str, Any]:
    """Reads an order to stop. Its reader must not trust it: anybody may have written it."""
    token, by, grace = map(read_text, fields)
    try:
        grace_s = float(grace)
    except ValueError:
        grace_s = math.nan
    return {"token": token, "by": by, "grace_s": grace_s}


def read_claim(answer: Any) -> Claim | None:
    """Reads the answer of `take.lua`; None if nothing was claimed."""
    if not answer:
        return None
    claim = json.loads(read_text(answer[0]))
    return _parse_claim(claim, answer)


def _parse_claim(claim: list[Any], answer: list[bytes]) -> Claim:
    # Its numbers are valid: the script has set aside jobs that no worker could use.
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
    """Returns the signature of a claimed job, with the facts in the order of SIGNED_FIELDS."""
    raw = [part.encode() if isinstance(part, str) else b"" for part in claim]
    retries = retries_granted(raw[9], raw[10])
    result_ttl, failure_ttl, ttl, priority = raw[16:20]
    facts = (raw[3], raw[5], raw[7], raw[8], result_ttl, failure_ttl, ttl, retries)
    return Envelope(claim[15], (*facts, raw[11], priority, raw[13]))
