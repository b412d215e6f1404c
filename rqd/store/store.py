"""The transitions: one method for each Lua script, and the values they take and give.

A method sends its script by SHA and, where the server doesn't know it, once more by source. Every
script is safe to send twice: a mutation carries a request id, and a replay gets the first answer.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis
from redis.exceptions import NoScriptError

from rqd.model.errors import ConfigurationError, DuplicateJobError
from rqd.model.records import Claim, NewJob, parse_intervals
from rqd.store.keys import Keys
from rqd.store.scripts import load_script

# Larger values travel beside the scripts: Lua would copy them, and the server stands still meanwhile.
INLINE_LIMIT_BYTES = 64 * 1024
_STAGED_TTL_S = 600


@dataclass(frozen=True, slots=True)
class Settlement:
    """What to record of an attempt: decision is `finish`, `fail`, `retry` or `put_back`."""

    id: str
    token: str
    worker: int
    decision: str
    delay_us: int = 0
    fields: tuple[tuple[str, str | bytes | int | float], ...] = ()
    result: bytes = b""


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


@dataclass(frozen=True, slots=True)
class TurnAnswer:
    """`verdicts` in the order of the settlements: settled, already, stale or gone."""

    now_us: int
    verdicts: tuple[str, ...]
    claims: tuple[Claim, ...]
    next_due_us: int | None


@dataclass(frozen=True, slots=True)
class Beat:
    """A master's heartbeat: what it runs ((id, token) each) and its rows."""

    master: str
    lease_us: int
    row_ttl_s: int
    obeyed: str
    running: tuple[tuple[str, str], ...]
    row: Mapping[str, str | int | float]
    workers: Mapping[int, Mapping[str, str | int | float]]


@dataclass(frozen=True, slots=True)
class BeatAnswer:
    """`lost`: ids whose lease is another's by now; `reaped`: (id, losses in a row, lost with whom)."""

    now_us: int
    lost: tuple[str, ...]
    commands: tuple[dict[str, Any], ...]
    reaped: tuple[tuple[str, int, str], ...]


class Store:
    """The state of one namespace in one Redis."""

    def __init__(self, connection: redis.Redis, namespace: str = "rqd") -> None:
        self.redis = connection
        self.keys = Keys(namespace)
        self._origin = os.urandom(8).hex()
        self._sequence = itertools.count(1)

    def request_id(self) -> str:
        """A new request id: unique for ever, for one mutation and all its replays."""
        return f"{self._origin}{os.getpid():x}.{next(self._sequence)}"

    def enqueue(self, jobs: Sequence[NewJob], request: str, pipe: Any = None) -> int | None:
        """Makes all the jobs ready or scheduled, or none; returns Redis' time in microseconds.

        With `pipe`, a pipeline of the user's, the script is queued there, and None returned.
        Raises DuplicateJobError if one of the ids belongs to a live job.
        """
        args: list[Any] = [request, len(jobs)]
        staged: dict[str, bytes] = {}
        for job in jobs:
            name = f"{request}:{job.id}" if len(job.payload) > INLINE_LIMIT_BYTES else ""
            if name:
                staged[name] = job.payload
            args += _enqueue_args(job, name)
        if pipe is not None:
            for name, payload in staged.items():
                pipe.set(self.keys.staged(name), payload, ex=_STAGED_TTL_S)
            pipe.eval(load_script("enqueue").source, 1, self.keys.queues, *args)
            return None
        self._stage(staged)
        answer = self._run("enqueue", *args)
        match answer[0]:
            case b"ok":
                return int(answer[1])
            case b"duplicate":
                raise DuplicateJobError(
                    f"a job with id {answer[1].decode()!r} is still alive: wait for its end, or"
                    " choose another id"
                )
        raise ConfigurationError(
            f"key {answer[1].decode()} in Redis is not rqd's: choose another --namespace"
        )

    def turn(self, turn: Turn) -> TurnAnswer:
        """Settles what ended, promotes what is due, claims for the free workers."""
        args: list[Any] = [turn.request, turn.master, turn.lease_us, "1" if turn.nudge else ""]
        args.append(len(turn.settlements))
        staged: dict[str, bytes] = {}
        for one in turn.settlements:
            name, fields = "", one.fields
            if len(one.result) > INLINE_LIMIT_BYTES:
                name = f"{turn.request}:{one.id}"
                staged[name] = one.result
            elif one.decision == "finish":
                fields = (*fields, ("result", one.result))
            args += [one.id, one.token, one.worker, one.decision, one.delay_us, name]
            args.append(2 * len(fields))
            args += itertools.chain.from_iterable(fields)
        args += [len(turn.free_workers), *turn.free_workers, len(turn.queues), *turn.queues]
        self._stage(staged)
        now, verdicts, claims, due = self._run("turn", *args)
        return TurnAnswer(
            now_us=int(now),
            verdicts=tuple(verdict.decode() for verdict in verdicts),
            claims=tuple(_parse_claim(claim) for claim in claims),
            next_due_us=int(due) if due else None,
        )

    def beat(self, beat: Beat) -> BeatAnswer:
        """Renews leases and rows, puts back what dead masters held, brings commands."""
        args: list[Any] = [beat.master, beat.lease_us, beat.row_ttl_s, beat.obeyed]
        args += [len(beat.running), *itertools.chain.from_iterable(beat.running)]
        args += [2 * len(beat.row), *itertools.chain.from_iterable(beat.row.items())]
        args.append(len(beat.workers))
        for number, row in beat.workers.items():
            args += [number, 2 * len(row), *itertools.chain.from_iterable(row.items())]
        now, lost, commands, reaped = self._run("beat", *args)
        return BeatAnswer(
            now_us=int(now),
            lost=tuple(job_id.decode() for job_id in lost),
            commands=tuple(json.loads(command) for command in commands),
            reaped=tuple((r[0].decode(), int(r[1]), r[2].decode()) for r in reaped),
        )

    def hello(
        self, master: str, boot: str, row_ttl_s: int, row: Mapping[str, str | int]
    ) -> tuple[str, str] | None:
        """Takes a master's name; None, or (host, pid) of the live master that has it."""
        pairs = itertools.chain.from_iterable(row.items())
        answer = self._run("hello", master, boot, row_ttl_s, *pairs)
        return None if answer[0] == b"ok" else (answer[1].decode(), answer[2].decode())

    def bye(self, master: str, boot: str, workers: int) -> None:
        """Removes the rows of a master that leaves."""
        self._run("bye", master, boot, workers)

    def cancel(self, job_id: str) -> str:
        """Cancels a waiting job; returns the status it was found in, empty if there is none."""
        return self._run("cancel", job_id).decode()  # type: ignore[no-any-return]

    def requeue(self, job_id: str, at_front: bool = False) -> str:
        """Makes an ended job ready again; returns the status it was found in."""
        return self._run("requeue", job_id, "1" if at_front else "").decode()  # type: ignore[no-any-return]

    def delete(self, job_id: str) -> str:
        """Deletes a job and its records; returns the status it was found in."""
        return self._run("delete", job_id).decode()  # type: ignore[no-any-return]

    def save_meta(self, job_id: str, meta: bytes) -> bool:
        """Replaces a job's meta; False if there is no such job."""
        return bool(self._run("save_meta", job_id, meta))

    def empty(self, queue: str) -> int:
        """Deletes a queue's ready jobs, 100 at a time; returns how many there were."""
        total = 0
        while count := int(self._run("empty", queue)):
            total += count
        return total

    def command(self, command: Mapping[str, Any], masters: Sequence[str]) -> list[str]:
        """Sends a command, which needs an `id`, to these masters; returns those that live."""
        told = self._run("command", json.dumps(dict(command)), *masters)
        return [name.decode() for name in told]

    def fetch_payload(self, job_id: str) -> bytes | None:
        """A payload that is too large to come with its claim; None if it is gone."""
        return self.redis.get(self.keys.payload(job_id))  # type: ignore[return-value]

    def _stage(self, staged: Mapping[str, bytes]) -> None:
        for name, value in staged.items():
            self.redis.set(self.keys.staged(name), value, ex=_STAGED_TTL_S)

    def _run(self, name: str, *args: Any) -> Any:
        script = load_script(name)
        try:
            return self.redis.execute_command("EVALSHA", script.sha, 1, self.keys.queues, *args)
        except NoScriptError:
            return self.redis.execute_command("EVAL", script.source, 1, self.keys.queues, *args)


def _enqueue_args(job: NewJob, staged: str) -> list[Any]:
    if job.due_us is not None:
        due = str(job.due_us)
    else:
        due = f"+{job.delay_us}" if job.delay_us is not None else ""
    fields: list[Any] = [
        "func_name", job.func_name,
        "payload_bytes", len(job.payload),
        "serializer", job.serializer,
        "description", job.description,
        "timeout", f"{job.timeout_s:g}",
        "result_ttl", f"{job.result_ttl_s:.6f}".rstrip("0").rstrip("."),
        "failure_ttl", f"{job.failure_ttl_s:.6f}".rstrip("0").rstrip("."),
        "retries_left", job.retries,
    ]  # fmt: skip
    if not staged:
        fields += ["payload", job.payload]
    if job.ttl_s is not None:
        fields += ["ttl", f"{job.ttl_s:.6f}"]
    if job.meta:
        fields += ["meta", job.meta]
    if job.retry_intervals:
        fields += ["retry_intervals", ",".join(f"{s:g}" for s in job.retry_intervals)]
    front = "1" if job.at_front else ""
    return [job.id, job.queue, front, job.priority, due, staged, len(fields), *fields]


def _parse_claim(claim: list[Any]) -> Claim:
    return Claim(
        id=claim[0].decode(),
        token=claim[1].decode(),
        attempt=int(claim[2]),
        queue=claim[3].decode(),
        worker=int(claim[4]),
        func_name=claim[5].decode(),
        payload=claim[6],
        serializer=claim[7].decode(),
        timeout_s=float(claim[8]),
        retries_left=int(claim[9]),
        retries_used=int(claim[10]),
        retry_intervals=parse_intervals(claim[11].decode()),
    )
