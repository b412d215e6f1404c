"""Reads jobs, queues, masters and workers as they stand. Changes nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from time import sleep
from typing import Any

from rqd.model.history import Numbers
from rqd.model.names import is_job_id
from rqd.model.numbers import EXACT, read_whole
from rqd.model.progress import Progress, read_progress
from rqd.model.records import ATTEMPT_TYPES, AttemptRecord, JobRecord
from rqd.store.answers import reads_answers
from rqd.store.errors import RedisGone
from rqd.store.history import Interval, read_functions, read_history, read_metrics
from rqd.store.job_end import Step, block_slice_s, until_end
from rqd.store.keys import Keys
from rqd.store.limit_queries import LimitView, read_limits
from rqd.store.messages import read_text
from rqd.store.queue_queries import GroupCounts, QueueCounts, read_latencies, read_queues
from rqd.store.store import Store

OF_ENDED = ("finished", "failed", "canceled")
_ENDED = (b"finished", b"failed", b"stopped", b"canceled")
# A master has a thousand workers at most: a row with a higher number is damaged.
_MOST_WORKERS = 1000


@reads_answers
class Queries:
    """The queries on a namespace."""

    def __init__(self, store: Store) -> None:
        # Any: redis-py's types give each answer as bytes, text and a future at once. Our
        # connections are of the blocking kind and decode nothing, so an answer is bytes.
        self._redis: Any = store.redis
        self._keys: Keys = store.keys
        timeout_s = self._redis.connection_pool.connection_kwargs.get("socket_timeout")
        self._block_slice_s = block_slice_s(timeout_s)

    @property
    def block_slice_ms(self) -> int:
        """Returns the longest time of a blocking read, within the socket's own timeout."""
        return math.ceil(self._block_slice_s * 1000)

    def job(self, job_id: str) -> JobRecord | None:
        """Returns the job, or None if there is none."""
        if not is_job_id(job_id):
            return None
        fields = self._redis.hgetall(self._keys.job(job_id))
        return JobRecord.parse(job_id, fields) if b"status" in fields else None

    def jobs(self, job_ids: Sequence[str]) -> list[JobRecord | None]:
        """Returns the jobs of these ids in one round trip, None for ids without a job."""
        asked = [job_id for job_id in job_ids if is_job_id(job_id)]
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in asked:
                pipe.hgetall(self._keys.job(job_id))
            rows = dict(zip(asked, pipe.execute(), strict=True))
        return [
            JobRecord.parse(job_id, row) if b"status" in (row := rows.get(job_id, {})) else None
            for job_id in job_ids
        ]

    def payload(self, record: JobRecord) -> bytes:
        """Returns a job's payload, from its hash or from its own key."""
        if record.payload or not record.payload_bytes:
            return record.payload
        return self._redis.get(self._keys.payload(record.id)) or b""

    def attempts(self, job_id: str, latest: int | None = None) -> list[AttemptRecord]:
        """Returns a job's attempts, latest first."""
        entries = self._redis.xrevrange(self._keys.results(job_id), count=latest)
        return list(filter(None, (parse_attempt(*entry) for entry in entries)))

    def result_bytes(self, job_id: str, attempt: AttemptRecord) -> bytes | None:
        """Returns the serialized result of a successful attempt; None if there is none any more."""
        if "result" in attempt.fields:
            return attempt.fields["result"]
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.get(self._keys.result(job_id))
            pipe.hget(self._keys.job(job_id), "result_of")
            found, owner = pipe.execute()
        return result_of(attempt, found, owner)

    def wait_for_end(self, job_id: str, timeout_s: float) -> bool:
        """Returns as soon as the job has ended or is gone; False when the time is over before.

        Blocks in the server: see `until_end`.
        """
        steps = until_end(self._keys, job_id, timeout_s, self._block_slice_s)
        try:
            step = next(steps)
            while True:
                try:
                    answer = self._carry_out(step)
                except RedisGone as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as end:
            return bool(end.value)

    def dependent_ids(self, job_id: str) -> list[str]:
        """Returns the ids of the jobs that wait for this job."""
        found: list[bytes] = []
        for key in (self._keys.dependents(job_id), self._keys.dependents_any(job_id)):
            found += self._redis.zrange(key, 0, -1)
        return list(map(read_text, found))

    def dependents(self, job_ids: Sequence[str], most: int) -> list[tuple[int, list[str]]]:
        """Returns for each job how many jobs wait for it, and the first `most` of their ids."""
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                for key in (self._keys.dependents(job_id), self._keys.dependents_any(job_id)):
                    pipe.zcard(key)
                    pipe.zrange(key, 0, most - 1)
            found = pipe.execute()
        return [
            (all_count + any_count, list(map(read_text, (all_ids + any_ids)[:most])))
            for all_count, all_ids, any_count, any_ids in zip(*[iter(found)] * 4, strict=True)
        ]

    def latest_result_id(self, job_id: str) -> bytes:
        """Returns the id of the job's latest entry, `0` without an entry."""
        entries = self._redis.xrevrange(self._keys.results(job_id), count=1)
        return entries[0][0] if entries else b"0"

    def group_counts(self, group: str) -> GroupCounts | None:
        """Counts the jobs of a group by state, as of one moment; None if there is no such group."""
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.hgetall(self._keys.group(group))
            pipe.zcard(self._keys.group_jobs(group))
            pipe.scard(self._keys.group_open(group))
            ended, total, is_open = pipe.execute()
        if not ended:
            return None
        numbers = (read_whole(ended.get(status)) or 0 for status in _ENDED)
        return GroupCounts(total, is_open, *numbers)

    def group_job_ids(self, group: str) -> list[str]:
        """Returns the ids of a group's jobs, in the order of their enqueue."""
        return list(map(read_text, self._redis.zrange(self._keys.group_jobs(group), 0, -1)))

    def first_of_group(self, group: str, most: int) -> tuple[int, list[str]]:
        """Returns how many jobs a group has, and the first `most` of their ids."""
        key = self._keys.group_jobs(group)
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.zcard(key)
            pipe.zrange(key, 0, most - 1)
            total, ids = pipe.execute()
        return total, list(map(read_text, ids))

    def group_names(self) -> list[str]:
        """Returns all groups, by name."""
        found = self._redis.zrangebyscore(self._keys.groups, f"({self.now_us()}", "+inf")
        return sorted(map(read_text, found))

    def queue_names(self) -> list[str]:
        """Returns all queues that ever had a job, by name."""
        return sorted(read_text(name) for name in self._redis.smembers(self._keys.queues))

    def cron_names(self) -> list[str]:
        """Returns all cron entries, by name."""
        return sorted(read_text(name) for name in self._redis.zrange(self._keys.crons, 0, -1))

    def queue_counts(self, names: Sequence[str]) -> list[QueueCounts]:
        """Counts the jobs of these queues by state; adds their latencies and totals."""
        return read_queues(self._redis, self._keys, names, self.now_us())

    def history(
        self, queues: Sequence[str], since_us: int, until_us: int, width_s: int
    ) -> list[Interval]:
        """Returns what became of these queues' attempts by interval: see `read_history`."""
        return read_history(self._redis, self._keys, queues, since_us, until_us, width_s)

    def function_history(self, queue: str, since_us: int, until_us: int) -> dict[str, Numbers]:
        """Returns what became of a queue's attempts, by function and in whole hours; 7 days."""
        return read_functions(self._redis, self._keys, queue, since_us, until_us)

    def metrics(self, queues: Sequence[str]) -> dict[str, tuple[Numbers, dict[str, Numbers]]]:
        """Returns what became of each queue's attempts ever: in all, and by function."""
        return read_metrics(self._redis, self._keys, queues)

    def latency_s(self, queue: str) -> float:
        """Returns how long the queue's next job has been ready, in seconds; 0.0 without a job."""
        return read_latencies(self._redis, self._keys, [queue], self.now_us())[0]

    def paused(self) -> dict[str, int | None]:
        """Returns the paused queues with the end of each pause (us), None for no end.

        ALL_QUEUES is among them if all are paused.
        """
        now_us = self.now_us()
        found = self._redis.zrangebyscore(self._keys.paused, f"({now_us}", "+inf", withscores=True)
        return {read_text(raw): None if math.isinf(ends) else int(ends) for raw, ends in found}

    def queued_count(self, queue: str) -> int:
        """Counts the jobs of a queue that wait to be claimed, or for a limit before that."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.zcard(self._keys.ready(queue)).zcard(self._keys.index(queue, "limited"))
            return sum(pipe.execute())

    def queued_ids(self, queue: str, offset: int = 0, length: int = -1) -> list[str]:
        """Returns the ids of a queue's waiting jobs; length -1 for all.

        The ready jobs come first, in the order of their claim, then the jobs that wait for a limit.
        """
        found = self.ready_ids(queue, offset, length)
        ready = int(self._redis.zcard(self._keys.ready(queue)))
        left = length - len(found) if length >= 0 else -1
        if left == 0:
            return found
        limited = self._keys.index(queue, "limited")
        first = max(0, offset - ready)
        last = first + left - 1 if left > 0 else -1
        return found + [read_text(raw) for raw in self._redis.zrange(limited, first, last)]

    def ready_ids(self, queue: str, offset: int = 0, length: int = -1) -> list[str]:
        """Returns the ids of a queue's ready jobs in claim order; length -1 for all."""
        end = offset + length - 1 if length >= 0 else -1
        if length == 0:
            return []
        return [read_text(raw) for raw in self._redis.zrange(self._keys.ready(queue), offset, end)]

    def index_ids(
        self, queue: str, index: str, start: int = 0, end: int = -1, desc: bool = False
    ) -> list[str]:
        """Returns the ids in an index of a queue from `start` to `end`, both included; -1: the
        last.

        They are in the order of their scores, without ids of expired records. `index` is started,
        scheduled, deferred, finished, failed or canceled.
        """
        low, key = self._index_from(index), self._keys.index(queue, index)
        read = self._redis.zrangebyscore
        bounds = low, "+inf"
        if desc:
            read, bounds = self._redis.zrevrangebyscore, ("+inf", low)
        if start >= 0 and end >= -1:
            count = -1 if end == -1 else max(0, end - start + 1)
            found = read(key, *bounds, start=start, num=count) if count else []
        else:
            found = read(key, *bounds)
            found = found[start:] if end == -1 else found[start : end + 1]
        return [read_text(raw) for raw in found]

    def latest_ended_ids(self, queue: str, index: str, length: int) -> list[str]:
        """Returns the ids of the jobs that have ended last, the latest first.

        `index` is finished, failed or canceled. Some of the records may have expired just now.
        """
        found = self._redis.zrevrange(self._keys.by_end(queue, index), 0, length - 1)
        return [read_text(raw) for raw in found] if length > 0 else []

    def index_count(self, queue: str, index: str) -> int:
        """Counts the ids in an index of a queue, without ids of expired records."""
        low = self._index_from(index)
        return int(self._redis.zcount(self._keys.index(queue, index), low, "+inf"))

    def index_score(self, queue: str, index: str, job_id: str) -> float | None:
        """Returns a job's score in an index of a queue (us); None if it is gone or expired."""
        score: float | None = self._redis.zscore(self._keys.index(queue, index), job_id)
        is_over = score is not None and index in OF_ENDED and score <= self.now_us()
        return None if is_over else score

    def heartbeat_us(self, master: str) -> int | None:
        """Returns the time of a master's last heartbeat (us); None for a master that is gone."""
        score = self._redis.zscore(self._keys.masters, master)
        return int(score) if score is not None and abs(score) < EXACT else None

    def _index_from(self, index: str) -> str:
        """Returns the lowest score of live entries: of ended jobs, the end of their records."""
        return f"({self.now_us()}" if index in OF_ENDED else "-inf"

    def position(self, queue: str, job_id: str) -> int | None:
        """Returns a job's place among the waiting jobs, 0 is next; None if it isn't there.

        Jobs that wait for a limit come after the ready jobs.
        """
        with self._redis.pipeline(transaction=False) as pipe:
            ready, limited = self._keys.ready(queue), self._keys.index(queue, "limited")
            pipe.zrank(ready, job_id).zrank(limited, job_id).zcard(ready)
            place, place_aside, ready_count = pipe.execute()
        if place is None and place_aside is not None:
            return int(ready_count + place_aside)
        return None if place is None else int(place)

    def limits(self) -> list[LimitView]:
        """Returns the limits in use, by key."""
        return read_limits(self._redis, self._keys)

    def masters(self) -> list[dict[str, str]]:
        """Returns the rows of live masters, each with its `name`."""
        names = [read_text(raw) for raw in self._redis.zrange(self._keys.masters, 0, -1)]
        return list(self._rows([(self._keys.master(name), {"name": name}) for name in names]))

    def workers(self, masters: Sequence[dict[str, str]]) -> list[dict[str, str]]:
        """Returns the rows of these masters' workers, each with `master` and `number`."""
        wanted = [
            (self._keys.worker(row["name"], number), {"master": row["name"], "number": str(number)})
            for row in masters
            for number in range(1, _workers_of(row) + 1)
        ]
        seen_us = {row["name"]: _micros(row) for row in masters}
        # A beat writes the master's row and its workers' together: a worker that the latest beat
        # left out was removed, and its row has yet to expire.
        return [row for row in self._rows(wanted) if _micros(row) >= seen_us[row["master"]]]

    def progress(self, job_ids: Sequence[str]) -> dict[str, Progress]:
        """Returns the progress of the running jobs among these that have reported any."""
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hmget(self._keys.job(job_id), "progress", "lease")
            rows = pipe.execute()
        found = {
            job_id: read_progress(read_text(text), _fence_of(lease))
            for job_id, (text, lease) in zip(job_ids, rows, strict=True)
            if text and lease
        }
        return {job_id: progress for job_id, progress in found.items() if progress}

    def now_us(self) -> int:
        """Returns Redis' clock: microseconds since 1970."""
        seconds, micros = self._redis.time()
        return int(seconds) * 1_000_000 + int(micros)

    def _carry_out(self, step: Step) -> list[Any]:
        if isinstance(step, float):
            sleep(step)
            return []
        with self._redis.pipeline(transaction=len(step) > 1) as pipe:
            for command in step:
                pipe.execute_command(*command)
            answers: list[Any] = pipe.execute()
        return answers

    def _rows(self, wanted: Sequence[tuple[str, dict[str, str]]]) -> Iterator[dict[str, str]]:
        with self._redis.pipeline(transaction=False) as pipe:
            for key, _ in wanted:
                pipe.hgetall(key)
            rows = pipe.execute()
        for (_, names), row in zip(wanted, rows, strict=True):
            if row:
                yield names | {read_text(key): read_text(value) for key, value in row.items()}


def _micros(row: dict[str, str]) -> float:
    """Returns a row's heartbeat; infinity for a row without one, as a claim writes it."""
    beat_us = read_whole(row.get("heartbeat"))
    return math.inf if beat_us is None else beat_us


def _workers_of(row: dict[str, str]) -> int:
    return min(read_whole(row.get("workers")) or 0, _MOST_WORKERS)


def _fence_of(token: bytes) -> int:
    return read_whole(token.partition(b":")[0]) or 0


def parse_attempt(entry_id: bytes, fields: dict[bytes, bytes]) -> AttemptRecord | None:
    """Reads an attempt's entry; None for an entry that no script wrote."""
    by_name = {read_text(key): value for key, value in fields.items()}
    created_ms = int(entry_id.split(b"-")[0])
    kind = read_text(by_name.get("type", b""))
    try:
        attempt = int(by_name["attempt"])
        created_us = int(by_name.get("ended_us", created_ms * 1000))
    except (KeyError, ValueError):
        return None
    if kind not in ATTEMPT_TYPES or not 0 <= created_us < EXACT:
        return None
    return AttemptRecord(kind, attempt, created_us, by_name)


def result_of(attempt: AttemptRecord, found: bytes | None, owner: bytes | None) -> bytes | None:
    """Returns `found`, a job's large result, if it belongs to this attempt; else None.

    Each run of a repeated job overwrites the large result of the run before. `owner` is the attempt
    in the job's hash; None if there is only one large result.
    """
    return found if owner in (None, b"%d" % attempt.attempt) else None
