"""The transitions: one method for each Lua script, and the values they take and give.

A method sends its script by SHA and, where the server doesn't know it, once more by source. Every
script is safe to send twice: a mutation carries a request id, and a replay gets the first answer.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis
from redis.exceptions import NoScriptError, ResponseError

from rqd.model.durability import Durability
from rqd.model.errors import (
    ConfigurationError,
    DuplicateJobError,
    RqdError,
    ServerUnavailableError,
)
from rqd.model.records import Claim, NewJob, parse_intervals
from rqd.store.connection import moves_with_a_slot
from rqd.store.keys import Keys
from rqd.store.refusals import explain_write
from rqd.store.scripts import Script, load_script
from rqd.store.waiting import check_reached, check_wait, send_and_wait

# Larger values travel beside the scripts: Lua would copy them while the server stands still.
INLINE_LIMIT_BYTES = 64 * 1024
# What one enqueue may carry: the server does nothing else meanwhile (about 10 us a job).
PORTION_JOBS = 10_000
PORTION_BYTES = 64 * 1024 * 1024
_STAGED_TTL_S = 600
_NO_MORE = Durability()


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
    # The processes that wait in these workers, for their rows; a worker may have none yet.
    pids: Mapping[int, int] = field(default_factory=dict)


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
    boot: str
    lease_us: int
    row_ttl_s: int
    obeyed: str
    running: tuple[tuple[str, str], ...]
    row: Mapping[str, str | int | float]
    workers: Mapping[int, Mapping[str, str | int | float]]


@dataclass(frozen=True, slots=True)
class BeatAnswer:
    """`lost`: ids whose lease is another's by now.

    `reaped`: (id, losses in a row, lost with whom) of jobs that went back or were given up.
    `is_replaced`: another master has the name by now, and nothing was done.
    """

    now_us: int
    lost: tuple[str, ...]
    commands: tuple[dict[str, Any], ...]
    reaped: tuple[tuple[str, int, str], ...]
    is_replaced: bool = False


class Store:
    """The state of one namespace in one Redis."""

    def __init__(self, connection: redis.Redis, namespace: str = "rqd") -> None:
        self.redis = connection
        self.keys = Keys(namespace)
        self._is_guarded = moves_with_a_slot(connection, self.keys)
        self._origin = os.urandom(8).hex()
        self._sequence = itertools.count(1)
        self._knows_turn = True

    def request_id(self) -> str:
        """A new request id: unique for ever, for one mutation and all its replays."""
        return f"{self._origin}{os.getpid():x}.{next(self._sequence)}"

    def enqueue(
        self,
        jobs: Sequence[NewJob],
        request: str,
        pipe: Any = None,
        durability: Durability = _NO_MORE,
    ) -> int | None:
        """Makes all the jobs ready or scheduled, or none; returns Redis' time in microseconds.

        More than 10,000 jobs, or 64 MiB, go in portions, each of which is all or none. With `pipe`,
        a pipeline of the user's, the script is queued there, and None returned. Raises
        DuplicateJobError if one of the ids belongs to a live job, or stands there twice;
        NotDurableError if the jobs are there, but not as durable as asked for.
        """
        if durability:
            check_wait(durability, self.redis, pipe)
        now_us, reached = None, None
        for number, portion in enumerate(_portions(jobs)):
            sent_as = f"{request}.{number}" if number else request
            if pipe is not None:
                self._queue_enqueue(portion, sent_as, pipe)
            else:
                now_us, reached = self._enqueue(portion, sent_as, durability)
        if durability:
            check_reached(durability, reached, jobs)
        return now_us

    def turn(self, turn: Turn) -> TurnAnswer:
        """Settles what ended, promotes what is due, claims for the free workers."""
        try:
            return self.read_turn(self.redis.execute_command(*self.turn_command(turn)))
        except NoScriptError:
            self.forget_scripts()
            return self.read_turn(self.redis.execute_command(*self.turn_command(turn)))

    def turn_command(self, turn: Turn) -> list[Any]:
        """The command of a turn, for who sends it and reads its answer by themselves.

        Its large results are in Redis by then. NoScriptError is the answer of a server that does
        not know the script: `forget_scripts`, and make the command anew.
        """
        args: list[Any] = [turn.request, turn.master, turn.lease_us, "1" if turn.nudge else ""]
        args.append(len(turn.settlements))
        staged: dict[str, bytes] = {}
        for one in turn.settlements:
            name, fields = "", one.fields
            if one.decision == "finish":
                if len(one.result) > INLINE_LIMIT_BYTES:
                    name = f"{turn.request}:{one.id}"
                    staged[name] = one.result
                else:
                    fields = (*fields, ("result", one.result))
            args += [one.id, one.token, one.worker, one.decision, one.delay_us, name]
            args.append(2 * len(fields))
            args += itertools.chain.from_iterable(fields)
        args.append(len(turn.free_workers))
        for number in turn.free_workers:
            args += (number, turn.pids.get(number, 0))
        args += (len(turn.queues), *turn.queues)
        self._stage(staged)
        script = self._script("turn")
        if self._knows_turn:
            return ["EVALSHA", script.sha, 1, self.keys.queues, *args]
        self._knows_turn = True
        return ["EVAL", script.source, 1, self.keys.queues, *args]

    def forget_scripts(self) -> None:
        """The server has lost its scripts: the next command of a turn brings the source."""
        self._knows_turn = False

    @staticmethod
    def read_turn(answer: Any) -> TurnAnswer:
        """What the server's answer to a turn says."""
        now, verdicts, claims, due = answer
        return TurnAnswer(
            now_us=int(now),
            verdicts=tuple(verdict.decode() for verdict in verdicts),
            claims=tuple(filter(None, map(_parse_claim, claims))),
            next_due_us=int(due) if due else None,
        )

    def beat(self, beat: Beat) -> BeatAnswer:
        """Renews leases and rows, puts back what dead masters held, brings commands."""
        args: list[Any] = [beat.master, beat.boot, beat.lease_us, beat.row_ttl_s, beat.obeyed]
        args += [len(beat.running), *itertools.chain.from_iterable(beat.running)]
        args += [2 * len(beat.row), *itertools.chain.from_iterable(beat.row.items())]
        args.append(len(beat.workers))
        for number, row in beat.workers.items():
            args += [number, 2 * len(row), *itertools.chain.from_iterable(row.items())]
        now, lost, commands, reaped, is_replaced = self._run("beat", *args)
        return BeatAnswer(
            now_us=int(now),
            lost=tuple(job_id.decode() for job_id in lost),
            commands=tuple(filter(None, map(_read_command, commands))),
            reaped=tuple((r[0].decode(), int(r[1]), r[2].decode()) for r in reaped),
            is_replaced=bool(is_replaced),
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

    def cancel(self, job_id: str, queue: str = "") -> str:
        """Cancels a waiting job; returns the status it was found in, empty if there is none.

        With `queue`, only a job of that queue.
        """
        return self._ask("cancel", job_id, queue).decode()  # type: ignore[no-any-return]  # bytes

    def requeue(self, job_id: str, at_front: bool = False) -> str:
        """Makes an ended job ready again; returns the status it was found in."""
        front = "1" if at_front else ""
        return self._ask("requeue", job_id, front).decode()  # type: ignore[no-any-return]  # bytes

    def delete(self, job_id: str) -> str:
        """Deletes a job and its records; returns the status it was found in."""
        return self._ask("delete", job_id).decode()  # type: ignore[no-any-return]  # bytes

    def save_meta(self, job_id: str, meta: bytes) -> bool:
        """Replaces a job's meta; False if there is no such job."""
        return bool(self._ask("save_meta", job_id, meta))

    def empty(self, queue: str) -> int:
        """Deletes a queue's ready jobs, 100 at a time; returns how many there were."""
        total = 0
        while True:
            deleted, taken_out = self._ask("empty", queue)
            total += int(deleted)
            if not taken_out:
                return total

    def command(self, command: Mapping[str, Any], masters: Sequence[str]) -> list[str]:
        """Sends a command, which needs an `id`, to these masters; returns those that live."""
        told = self._run("command", json.dumps(dict(command)), *masters)
        return [name.decode() for name in told]

    def fetch_payload(self, job_id: str) -> bytes | None:
        """A payload that is too large to come with its claim; None if it is gone."""
        return self.redis.get(self.keys.payload(job_id))  # type: ignore[return-value]

    def _queue_enqueue(self, jobs: Sequence[NewJob], request: str, pipe: Any) -> None:
        args, staged = _enqueue_args(jobs, request)
        for name, payload in staged.items():
            pipe.set(self.keys.staged(name), payload, ex=_STAGED_TTL_S)
        pipe.eval(self._script("enqueue").source, 1, self.keys.queues, *args)

    def _enqueue(
        self, jobs: Sequence[NewJob], request: str, durability: Durability
    ) -> tuple[int, Any]:
        """Redis' time, and what its wait for more copies has answered, if that was wanted."""
        args, staged = _enqueue_args(jobs, request)
        self._stage(staged)
        reached = None
        if durability:
            (outcome, told), reached = self._ask("enqueue", *args, wait=durability.command())
        else:
            outcome, told = self._ask("enqueue", *args)
        match outcome:
            case b"ok":
                return int(told), reached
            case b"duplicate":
                raise DuplicateJobError(
                    f"a job with id {told.decode()!r} is still alive, or is given twice: wait for"
                    " its end, or choose another id"
                )
        raise RqdError(f"Redis lost the payload of job {told.decode()} on its way: enqueue again")

    def _stage(self, staged: Mapping[str, bytes]) -> None:
        for name, value in staged.items():
            self.redis.set(self.keys.staged(name), value, ex=_STAGED_TTL_S)

    def _ask(self, name: str, *args: Any, wait: tuple[str | int, ...] = ()) -> Any:
        """As `_run`, for user code, which is told what to do about a namespace not rqd's, and what
        keeps Redis from taking a write.
        """
        try:
            if not wait:
                return self._run(name, *args)
            command = (1, self.keys.queues, *args)
            return send_and_wait(self.redis, self._script(name), command, wait)
        except ResponseError as error:
            if told := explain_write(error):
                raise ServerUnavailableError(told) from error
            if not str(error).startswith("WRONGTYPE"):
                raise
            raise ConfigurationError(f"{error}: choose another --namespace") from error

    def _script(self, name: str) -> Script:
        return load_script(name, self._is_guarded)

    def _run(self, name: str, *args: Any) -> Any:
        script = self._script(name)
        try:
            return self.redis.execute_command("EVALSHA", script.sha, 1, self.keys.queues, *args)
        except NoScriptError:
            return self.redis.execute_command("EVAL", script.source, 1, self.keys.queues, *args)


def _portions(jobs: Sequence[NewJob]) -> Iterator[Sequence[NewJob]]:
    """The jobs in slices that the server can take at once."""
    first, size_bytes = 0, 0
    for at, job in enumerate(jobs):
        added_bytes = len(job.payload) if len(job.payload) <= INLINE_LIMIT_BYTES else 0
        if at - first >= PORTION_JOBS or size_bytes + added_bytes > PORTION_BYTES:
            yield jobs[first:at]
            first, size_bytes = at, 0
        size_bytes += added_bytes
    if first < len(jobs):
        yield jobs[first:] if first else jobs


def _enqueue_args(jobs: Sequence[NewJob], request: str) -> tuple[list[Any], dict[str, bytes]]:
    """The script's arguments, and the payloads to be staged by their names.

    What jobs have in common goes once, as a template; the rest in one string, as the client
    library spends more on each argument than the server on each job.
    """
    numbers: dict[tuple[Any, ...], int] = {}
    templates: list[Any] = []
    packed: list[bytes] = []
    staged: dict[str, bytes] = {}
    for job in jobs:
        shared = (
            job.queue, job.at_front, job.priority, job.due_us, job.delay_us, job.ttl_s,
            job.func_name, job.serializer, job.timeout_s, job.result_ttl_s, job.failure_ttl_s,
            job.retries, job.retry_intervals,
        )  # fmt: skip
        number = numbers.get(shared)
        if number is None:
            number = numbers[shared] = len(numbers) + 1
            templates += _template(job)
        payload, name = job.payload, ""
        if len(payload) > INLINE_LIMIT_BYTES:
            name = f"{request}:{job.id}"
            staged[name], payload = payload, b""
        for text in (
            job.id.encode(),
            b"%d" % number,
            name.encode(),
            b"%d" % len(job.payload),
            payload,
            # A lone surrogate of the user's must not keep the job from Redis.
            job.description.encode(errors="replace"),
            job.meta,
        ):
            packed += (len(text).to_bytes(4, "big"), text)
    return [request, len(numbers), *templates, b"".join(packed)], staged


def _template(job: NewJob) -> list[Any]:
    if job.due_us is not None:
        due = str(job.due_us)
    else:
        due = f"+{job.delay_us}" if job.delay_us is not None else ""
    fields: list[Any] = [
        "func_name", job.func_name,
        "serializer", job.serializer,
        "timeout", _number(job.timeout_s),
        "result_ttl", _number(job.result_ttl_s),
        "failure_ttl", _number(job.failure_ttl_s),
        "retries_left", job.retries,
    ]  # fmt: skip
    if job.retry_intervals:
        fields += ("retry_intervals", ",".join(map(_number, job.retry_intervals)))
    front = "1" if job.at_front else ""
    ttl = "" if job.ttl_s is None else _number(job.ttl_s)
    return [job.queue, front, job.priority, due, ttl, len(fields), *fields]


def _number(value: float) -> str:
    """In full: `:g` would round seconds past six digits."""
    whole = int(value)
    return str(whole) if whole == value else repr(value)


def _read_command(command: bytes) -> dict[str, Any] | None:
    """None for what is no command: whoever can write to Redis can write anything there."""
    try:
        told = json.loads(command)
    except ValueError:
        return None
    return told if isinstance(told, dict) and isinstance(told.get("id"), str) else None


def _parse_claim(claim: list[Any]) -> Claim | None:
    """None for a job whose numbers are none: its lease runs out, and at the third time it fails."""
    try:
        return _claim(claim)
    except ValueError:
        return None


def _claim(claim: list[Any]) -> Claim:
    return Claim(
        id=claim[0].decode(),
        token=claim[1].decode(),
        attempt=int(claim[2]),
        queue=claim[3].decode(),
        worker=int(claim[4]),
        func_name=claim[5].decode(errors="replace"),
        payload=claim[6],
        serializer=claim[7].decode(errors="replace"),
        timeout_s=float(claim[8]),
        retries_left=int(claim[9]),
        retries_used=int(claim[10]),
        retry_intervals=parse_intervals(claim[11].decode(errors="replace")),
    )
