"""Reading: jobs, queues, masters and workers as they stand. Nothing here changes anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import monotonic

import redis

from rqd.model.records import AttemptRecord, JobRecord
from rqd.store.keys import Keys
from rqd.store.store import Store

_TERMINAL_TYPES = ("successful", "failed", "stopped")
# Each wait is a blocking read in the server; it is renewed before the socket's own timeout ends it.
_BLOCK_SLICE_S = 2.0


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """How many jobs of a queue are where."""

    name: str
    ready: int
    started: int
    scheduled: int
    deferred: int
    finished: int
    failed: int
    canceled: int


class Views:
    """What can be read of a namespace."""

    def __init__(self, store: Store) -> None:
        self._redis: redis.Redis = store.redis
        self._keys: Keys = store.keys

    def job(self, job_id: str) -> JobRecord | None:
        """The job, or None if there is none."""
        fields = self._redis.hgetall(self._keys.job(job_id))
        return JobRecord.parse(job_id, fields) if b"status" in fields else None  # type: ignore[operator,arg-type]

    def jobs(self, job_ids: Sequence[str]) -> list[JobRecord | None]:
        """The jobs of these ids in one round trip, None for those that don't exist."""
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hgetall(self._keys.job(job_id))
            rows = pipe.execute()
        return [
            JobRecord.parse(job_id, row) if b"status" in row else None
            for job_id, row in zip(job_ids, rows, strict=True)
        ]

    def payload(self, record: JobRecord) -> bytes:
        """A job's payload, wherever it lies."""
        if record.payload or not record.payload_bytes:
            return record.payload
        return self._redis.get(self._keys.payload(record.id)) or b""  # type: ignore[return-value]

    def attempts(self, job_id: str, latest: int | None = None) -> list[AttemptRecord]:
        """A job's attempts, latest first."""
        entries = self._redis.xrevrange(self._keys.results(job_id), count=latest)
        return [_parse_attempt(entry_id, fields) for entry_id, fields in entries]  # type: ignore[union-attr]

    def result_bytes(self, job_id: str, attempt: AttemptRecord) -> bytes | None:
        """The serialized result of a successful attempt; None if there is none any more."""
        if "result" in attempt.fields:
            return attempt.fields["result"]
        return self._redis.get(self._keys.result(job_id))  # type: ignore[return-value]

    def wait_for_end(self, job_id: str, timeout_s: float) -> AttemptRecord | None:
        """The entry that ended the job, as soon as it is there; None when the time is over.

        Blocks in the server, without polling.
        """
        key = self._keys.results(job_id)
        deadline = monotonic() + timeout_s
        seen = "0"
        while True:
            left_ms = int(max(0.001, min(_BLOCK_SLICE_S, deadline - monotonic())) * 1000)
            for _, entries in self._redis.xread({key: seen}, block=left_ms) or []:  # type: ignore[misc,union-attr]
                for entry_id, fields in entries:
                    seen = entry_id.decode()
                    attempt = _parse_attempt(entry_id, fields)
                    # A requeued job has an ended attempt in its past: its status tells.
                    if attempt.type in _TERMINAL_TYPES and self._has_ended(job_id):
                        return attempt
            if monotonic() >= deadline:
                return None

    def queue_names(self) -> list[str]:
        """All queues that ever had a job, by name."""
        return sorted(name.decode() for name in self._redis.smembers(self._keys.queues))  # type: ignore[union-attr]

    def queue_counts(self, names: Sequence[str]) -> list[QueueCounts]:
        """Where the jobs of these queues are; one round trip."""
        now_us = self.now_us()
        with self._redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.zcard(self._keys.ready(name))
                for index in ("started", "scheduled", "deferred"):
                    pipe.zcard(self._keys.index(name, index))
                for index in ("finished", "failed", "canceled"):
                    pipe.zcount(self._keys.index(name, index), f"({now_us}", "+inf")
            numbers = iter(pipe.execute())
        return [QueueCounts(name, *(next(numbers) for _ in range(7))) for name in names]

    def ready_count(self, queue: str) -> int:
        """How many jobs of a queue wait to be claimed."""
        return int(self._redis.zcard(self._keys.ready(queue)))  # type: ignore[arg-type]

    def ready_ids(self, queue: str, offset: int = 0, length: int = -1) -> list[str]:
        """Ids of a queue's ready jobs in the order of their claim; length -1 for all."""
        end = offset + length - 1 if length >= 0 else -1
        if length == 0:
            return []
        return [raw.decode() for raw in self._redis.zrange(self._keys.ready(queue), offset, end)]  # type: ignore[union-attr]

    def index_ids(self, queue: str, index: str) -> list[str]:
        """Ids in one of a queue's indexes: started, scheduled, deferred, finished, failed, canceled."""
        low = f"({self.now_us()}" if index in ("finished", "failed", "canceled") else "-inf"
        found = self._redis.zrangebyscore(self._keys.index(queue, index), low, "+inf")
        return [raw.decode() for raw in found]  # type: ignore[union-attr]

    def position(self, queue: str, job_id: str) -> int | None:
        """A job's place among the ready ones, 0 is next; None if it isn't there."""
        return self._redis.zrank(self._keys.ready(queue), job_id)  # type: ignore[return-value]

    def masters(self) -> list[dict[str, str]]:
        """The rows of live masters, each with its `name`."""
        names = [raw.decode() for raw in self._redis.zrange(self._keys.masters, 0, -1)]  # type: ignore[union-attr]
        return list(self._rows([(self._keys.master(name), {"name": name}) for name in names]))

    def workers(self, masters: Sequence[dict[str, str]]) -> list[dict[str, str]]:
        """The rows of these masters' workers, each with `master` and `number`."""
        wanted = [
            (self._keys.worker(row["name"], number), {"master": row["name"], "number": str(number)})
            for row in masters
            for number in range(1, int(row.get("workers", "0")) + 1)
        ]
        return list(self._rows(wanted))

    def now_us(self) -> int:
        """Redis' clock: microseconds since 1970."""
        seconds, micros = self._redis.time()  # type: ignore[misc]
        return int(seconds) * 1_000_000 + int(micros)

    def _has_ended(self, job_id: str) -> bool:
        status = self._redis.hget(self._keys.job(job_id), "status")
        return status not in (b"queued", b"started", b"scheduled", b"deferred")

    def _rows(self, wanted: Sequence[tuple[str, dict[str, str]]]) -> Iterator[dict[str, str]]:
        with self._redis.pipeline(transaction=False) as pipe:
            for key, _ in wanted:
                pipe.hgetall(key)
            rows = pipe.execute()
        for (_, names), row in zip(wanted, rows, strict=True):
            if row:
                yield names | {key.decode(): value.decode() for key, value in row.items()}


def _parse_attempt(entry_id: bytes, fields: dict[bytes, bytes]) -> AttemptRecord:
    by_name = {key.decode(): value for key, value in fields.items()}
    created_ms = int(entry_id.split(b"-")[0])
    return AttemptRecord(
        type=by_name["type"].decode(),
        attempt=int(by_name["attempt"]),
        created_us=int(by_name.get("ended_us", created_ms * 1000)),
        fields=by_name,
    )
