"""The transitions: one method for each Lua script.

A method sends its script by SHA and, where the server doesn't know it, once more by source. Every
script is safe to send twice: a mutation carries a request id, and a replay gets the first answer.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import redis
from redis.exceptions import NoScriptError, ResponseError

from rqd.model.durability import Durability
from rqd.model.errors import RqdError
from rqd.model.records import Claim, NewJob
from rqd.store.answers import reads_answers
from rqd.store.connection import moves_with_a_slot
from rqd.store.durability import check_reached, check_wait, send_and_wait
from rqd.store.enqueue_answers import check_ids, partly_enqueued, read_enqueued
from rqd.store.errors import is_unreached, user_errors
from rqd.store.keys import Keys
from rqd.store.messages import (
    Beat,
    BeatAnswer,
    Greeting,
    JobUpdate,
    QueueNumbers,
    Turn,
    TurnAnswer,
    read_claim,
    read_requeued,
    read_text,
)
from rqd.store.scripts import Script, load_script
from rqd.store.wire import (
    REFUSALS_RAISE,
    enqueue_arguments,
    looks,
    sendings,
    turn_argument,
)

STAGED_TTL_S = 600
# A job that was saved and never enqueued is in no index: it goes by itself.
SAVED_TTL_S = 30 * 24 * 3600
_NO_MORE = Durability()


@reads_answers
class Store:
    """The state of a namespace in a Redis."""

    def __init__(self, connection: redis.Redis, namespace: str = "rqd") -> None:
        self.redis = connection
        self.keys = Keys(namespace)
        self._declared_key = self.keys.queues  # each script's
        self._is_guarded = moves_with_a_slot(connection, self.keys)
        self._origin = os.urandom(8).hex()
        self._sequence = itertools.count(1)
        self._knows_turn = True
        self._told_precedence = ""

    def request_id(self) -> str:
        """Makes a new request id: unique for ever, for a mutation and all its replays."""
        return f"{self._origin}{os.getpid():x}.{next(self._sequence)}"

    def enqueue(
        self,
        jobs: Sequence[NewJob],
        request: str,
        pipe: Any = None,
        durability: Durability = _NO_MORE,
    ) -> int | None:
        """Makes all the jobs ready or scheduled, or none; returns Redis' time in microseconds.

        A batch that would hold the server for long goes in portions, each of which is all or none.
        Before the first is written, all are checked: see PartlyEnqueuedError for errors between two
        portions.

        With `pipe`, a pipeline of the user's, the scripts are queued there, and None returned;
        their refusals are errors at its `execute()`. A job that is left out because another has its
        unique key gets that job's id as `holder_id`.

        Raises DuplicateJobError if an id or key belongs to a live job, or is given twice;
        NoSuchJobError if a job depends on a missing job; InvalidJobOperation if it would wait for
        itself, by way of others. Raises NotDurableError if the jobs are enqueued, but not as
        durable as asked for.
        """
        if durability:
            check_wait(durability, self.redis, pipe)
        sent = sendings(jobs, request)
        if pipe is not None:
            check_ids(jobs)
            for sent_as, portion in sent:
                self._queue_enqueue(portion, sent_as, pipe)
            return None
        if len(sent) > 1:
            check_ids(jobs)
            for args, looked_at in looks(sent):
                read_enqueued(self._ask("enqueue", *args), looked_at)
        now_us, reached = self._enqueue_portions(jobs, sent, durability)
        if durability:
            check_reached(durability, reached, jobs)
        return now_us

    def turn(self, turn: Turn) -> TurnAnswer:
        """Settles the ended attempts, promotes the due jobs, claims for the free workers."""
        while True:
            try:
                return TurnAnswer.parse(self.redis.execute_command(*self.turn_command(turn)))
            except ResponseError as error:
                if not self.has_forgotten(error):
                    raise

    def turn_command(self, turn: Turn) -> list[Any]:
        """Returns the command of a turn, for a caller that sends it and reads its answer.

        Writes its large results to Redis first. If `has_forgotten` is True for the answer's error,
        make the command again.
        """
        packed, staged = turn_argument(turn)
        args: list[Any] = [turn.request, turn.master, turn.lease_us, "1" if turn.nudge else ""]
        args += (packed, *(self._precedence(turn) if turn.queues else ("", 0)))
        self._stage(staged)
        script = self._script("turn")
        if self._knows_turn:
            return ["EVALSHA", script.sha, 1, self._declared_key, *args]
        self._knows_turn = True
        return ["EVAL", script.source, 1, self._declared_key, *args]

    def has_forgotten(self, error: Exception) -> bool:
        """True if the server lacks the script, or the precedence of queues, of a turn's command.

        The next command brings them.
        """
        if isinstance(error, NoScriptError):
            self._knows_turn = False
        elif str(error).startswith("NOPRECEDENCE"):
            self._told_precedence = ""
        else:
            return False
        return True

    def _precedence(self, turn: Turn) -> Sequence[str | int]:
        """Returns the precedence by name, with its queues only where the server may not know it.

        A thousand queues in each turn cost five times as much as a single queue.
        """
        name = _precedence_name(turn.queues)
        order = f"{name} {turn.order}" if turn.order else name
        if name == self._told_precedence:
            return (order, 0)
        self._told_precedence = name
        return (order, len(turn.queues), *turn.queues)

    def take(self, job_id: str, master: str, lease_us: int, request: str) -> Claim | None:
        """Claims this job for the first worker of `master`; None if it isn't queued."""
        return read_claim(self._ask("take", request, master, lease_us, job_id, os.getpid()))

    def beat(self, beat: Beat) -> BeatAnswer:
        """Renews leases and rows, puts back the jobs of dead masters, brings commands."""
        args: list[Any] = [beat.master, beat.boot, beat.lease_us, beat.row_ttl_s, beat.obeyed]
        args += [len(beat.running), *itertools.chain.from_iterable(beat.running)]
        args += [2 * len(beat.row), *itertools.chain.from_iterable(beat.row.items())]
        args.append(len(beat.workers))
        for number, row in beat.workers.items():
            args += [number, 2 * len(row), *itertools.chain.from_iterable(row.items())]
        return BeatAnswer.parse(self._run("beat", *args))

    def hello(
        self,
        master: str,
        boot: str,
        row_ttl_s: int,
        row: Mapping[str, str | int],
        predecessor: str = "",
    ) -> Greeting:
        """Takes a master's name, unless a live master has it.

        `predecessor` is the boot id of a master that is known to be dead: its jobs are taken back.
        """
        pairs = itertools.chain.from_iterable(row.items())
        answer = self._run("hello", master, boot, predecessor, row_ttl_s, *pairs)
        return Greeting.parse(answer)

    def bye(self, master: str, boot: str, workers: int) -> bool:
        """Removes the rows of a master that leaves; False if another has the name by now."""
        return bool(self._run("bye", master, boot, workers))

    def cancel(self, job_id: str, queue: str = "", enqueue_dependents: bool = False) -> str:
        """Cancels a waiting job; returns the status it was found in, empty if there is none.

        With `queue`, only a job of that queue; with `enqueue_dependents`, the jobs that wait for it
        go on as if it had finished.
        """
        return read_text(self._ask("cancel", job_id, queue, "1" if enqueue_dependents else ""))

    def stop(self, job_id: str, request: str, by: str, grace_s: float) -> str:
        """Orders the master of a running job to stop it; returns the status it was found in."""
        return read_text(self._ask("stop", job_id, request, by, f"{grace_s:f}"))

    def requeue(self, job_id: str, at_front: bool = False) -> str:
        """Makes an ended job ready again; returns the status it was found in.

        Raises DuplicateJobError if another job has its unique key by now.
        """
        front = "1" if at_front else ""
        return read_requeued(read_text(self._ask("requeue", job_id, front)), job_id)

    def search(self, *step: str | bytes | int) -> Any:
        """Looks at some hundred ids of an index: a step of `walk.Walk`, which knows it."""
        return self._ask("search", *step)

    def delete(self, job_id: str, delete_dependents: bool = False) -> str:
        """Deletes a job and its records; returns the status it was found in.

        With `delete_dependents`, the jobs that wait for it are deleted too, and so on.
        """
        return read_text(self._ask("delete", job_id, "1" if delete_dependents else ""))

    def save(self, job: NewJob, request: str) -> str:
        """Keeps a job that is not enqueued; returns the status found, which is not replaced.

        Empty for no job. A job of status created is replaced. It stays for SAVED_TTL_S, or until it
        is enqueued.
        """
        args, staged = enqueue_arguments([job], request)
        if staged:
            with user_errors():
                self._stage(staged)
        return read_text(self._ask("save", *args, SAVED_TTL_S))

    def save_meta(self, job_id: str, meta: bytes, signature: str = "") -> bool:
        """Replaces a job's meta; False if there is no such job."""
        signed = (signature,) if signature else ()
        return bool(self._ask("save_meta", job_id, meta, *signed))

    def write_updates(self, updates: Sequence[JobUpdate]) -> int:
        """Records updates of running jobs, each only if its token still holds the job.

        Accepts at most 100 a call.
        """
        args: list[Any] = [len(updates)]
        for one in updates:
            args += (one.id, one.token, one.progress, *(one.output or ("", b"")))
            args.append(2 * len(one.fields))
            args += itertools.chain.from_iterable(one.fields)
        return int(self._run("write_updates", *args))

    def add_history(self, request: str, master: str, numbers: QueueNumbers) -> int:
        """Adds numbers to a queue's history and metrics; returns Redis' time (us)."""
        pairs = itertools.chain.from_iterable(numbers.fields)
        functions = (len(numbers.functions), *numbers.functions)
        fields = (2 * len(numbers.fields), *pairs)
        return int(self._run("add_history", request, master, 1, numbers.queue, *functions, *fields))

    def job_fields(self, job_id: str) -> dict[bytes, bytes]:
        """Returns a job's hash as it stands, unread; empty if it is gone."""
        return self.redis.hgetall(self.keys.job(job_id))  # type: ignore[return-value]  # as in Queries

    def empty(self, queue: str) -> int:
        """Deletes a queue's ready jobs, 100 at a time; returns how many there were."""
        total = 0
        while True:
            answer = self._ask("empty", queue)
            if not isinstance(answer, list):  # two bytes are two numbers, too
                raise TypeError(f"{answer!r} for two numbers")
            deleted, taken_out = answer
            total += int(deleted)
            if not taken_out:
                return total

    def unlist(self, queue: str, index: str, job_id: str) -> bool:
        """Takes an ended job out of its queue's index; its record stays. False if not there."""
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.zrem(self.keys.index(queue, index), job_id)
            pipe.zrem(self.keys.by_end(queue, index), job_id)
            return bool(pipe.execute()[0])

    def tidy(self, queue: str, index: str) -> int:
        """Takes the ids of expired records out of an index of ended jobs, 100 at a time."""
        total = 0
        while gone := int(self._ask("tidy", queue, index)):
            total += gone
        return total

    def forget_queue(self, queue: str) -> bool:
        """Takes an empty queue off the list; False if it holds jobs, or records of them."""
        return bool(self._ask("forget_queue", queue))

    def pause(self, queue: str, for_s: float | None = None) -> int | None:
        """Pauses a queue, or with ALL_QUEUES all; returns the end by Redis' clock (us).

        None, for `for_s` and as result, is until it is resumed.
        """
        ends_at = self._ask("pause", queue, "" if for_s is None else f"{for_s:f}")
        return int(ends_at) if ends_at else None

    def resume(self, queue: str) -> bool:
        """Ends a pause; False if there was none."""
        return bool(self._ask("resume", queue))

    def command(self, command: Mapping[str, Any], masters: Sequence[str]) -> list[str]:
        """Sends a command, which needs an `id`, to these masters; returns the live masters.

        `live.ask` waits for their replies.
        """
        reached = self._run("command", json.dumps(dict(command)), *masters)
        return [name.decode() for name in reached]

    def answer(self, request: str, master: str, answer: str, ttl_s: int) -> bool:
        """Writes a master's reply, as JSON, to the command of this id; it stays for `ttl_s`."""
        return bool(self._run("answer", request, master, answer, ttl_s))

    def audit(self, most: int, *texts: bytes) -> None:
        """Notes an operator's action: who, action, target, result; keeps some `most` entries."""
        self._ask("audit", self.request_id(), most, *texts)

    def fetch_payload(self, job_id: str, limit_bytes: int) -> bytes:
        """Returns a payload too large for its claim, its first `limit_bytes` at most.

        Empty if it is gone, or the key holds something else.
        """
        last = limit_bytes - 1
        try:
            return self.redis.getrange(self.keys.payload(job_id), 0, last)  # type: ignore[return-value]  # as in Queries
        except ResponseError as error:
            if not str(error).startswith("WRONGTYPE"):
                raise
            return b""

    def ask(self, name: str, *args: Any) -> Any:
        """Sends a further script, whose arguments the caller knows; words its errors for users."""
        return self._ask(name, *args)

    def ask_each(self, name: str, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Sends a script for each of these arguments, in one round trip.

        The error of a call is its answer. Raises ServerUnavailableError.
        """
        sha = self._script(name).sha
        with self.redis.pipeline(transaction=False) as pipe:
            for args in calls:
                pipe.execute_command("EVALSHA", sha, 1, self._declared_key, *args)
            answers = pipe.execute(raise_on_error=False)
        if answers and isinstance(answers[0], NoScriptError):
            # None was run. The first brings the source.
            try:
                answers[0] = self._run(name, *calls[0])
            except ResponseError as error:
                answers[0] = error
            answers[1:] = self.ask_each(name, calls[1:])
        return answers

    def run(self, name: str, *args: Any) -> Any:
        """Sends a script as `ask` does, for a master: raises the errors of redis-py."""
        return self._run(name, *args)

    def _queue_enqueue(self, jobs: Sequence[NewJob], request: str, pipe: Any) -> None:
        if getattr(pipe, "watching", False) and not pipe.explicit_transaction:
            pipe.multi()  # as RQ does: before that it sends each command at once
        args, staged = enqueue_arguments(jobs, request)
        for name, payload in staged.items():
            pipe.set(self.keys.staged(name), payload, ex=STAGED_TTL_S)
        pipe.eval(self._script("enqueue").source, 1, self._declared_key, *args, REFUSALS_RAISE)

    def _enqueue_portions(
        self,
        jobs: Sequence[NewJob],
        sent: Sequence[tuple[str, Sequence[NewJob]]],
        durability: Durability,
    ) -> tuple[int | None, Any]:
        done, now_us, reached = 0, None, None
        for sent_as, portion in sent:
            try:
                now_us, reached = self._enqueue(portion, sent_as, durability)
            except (RqdError, redis.RedisError) as error:
                if not done:
                    raise
                unknown = len(portion) if is_unreached(error) else 0
                raise partly_enqueued(error, jobs, done, unknown) from error
            done += len(portion)
        return now_us, reached

    def _enqueue(
        self, jobs: Sequence[NewJob], request: str, durability: Durability
    ) -> tuple[int, Any]:
        """Returns Redis' time, and the answer of the wait for more copies, if there was a wait."""
        args, staged = enqueue_arguments(jobs, request)
        if staged:
            with user_errors():
                self._stage(staged)
        reached = None
        if durability:
            answer, reached = self._ask("enqueue", *args, wait=durability.command())
        else:
            answer = self._ask("enqueue", *args)
        return read_enqueued(answer, jobs), reached

    def _stage(self, staged: Mapping[str, bytes]) -> None:
        for name, value in staged.items():
            self.redis.set(self.keys.staged(name), value, ex=STAGED_TTL_S)

    def _ask(self, name: str, *args: Any, wait: tuple[str | int, ...] = ()) -> Any:
        """Sends a script as `_run` does, and words its errors for users.

        The errors say what to do about a foreign namespace, and why Redis refuses a write.
        """
        try:
            if not wait:
                return self._run(name, *args)
            command = (1, self._declared_key, *args)
            return send_and_wait(self.redis, self._script(name), command, wait)
        except ResponseError:
            with user_errors():  # only here: every call would pay for it
                raise

    def _script(self, name: str) -> Script:
        return load_script(name, self._is_guarded)

    def _run(self, name: str, *args: Any) -> Any:
        script = self._script(name)
        try:
            return self.redis.execute_command("EVALSHA", script.sha, 1, self._declared_key, *args)
        except NoScriptError:
            return self.redis.execute_command("EVAL", script.source, 1, self._declared_key, *args)


@cache
def _precedence_name(queues: tuple[str, ...]) -> str:
    return hashlib.sha256("\n".join(queues).encode()).hexdigest()[:32]
