"""RQ's keys, for the bridge: its queues, its jobs, and the bridge's list of open jobs.

An open job is taken, and RQ is not yet shown its end. RQ's keys have no namespace: both must be in
one Redis that is no Cluster.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rqd.model.errors import ConfigurationError
from rqd.store.store import Store
from rqd.store.urls import read_url

# Lists and registries of RQ's that the scripts write; as its own default prefix has them.
_JOB = "rq:job:"
WORKER_NAME = "rqd-bridge"
# Where RQ's commands for a worker of this name come.
STOP_CHANNEL = f"rq:pubsub:{WORKER_NAME}"


@dataclass(frozen=True, slots=True)
class OpenJob:
    """A job that the bridge has taken; `shown` is what RQ was last shown, empty before that."""

    id: str
    request: str
    queue: str
    shown: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How a job stands: in rqd (its request, status, attempt) and in RQ, None if gone there."""

    request: str
    status: str
    attempt: str
    rq_status: str | None


@dataclass(frozen=True, slots=True)
class RqJob:
    """A job's hash as RQ wrote it; `left_ms` is when it expires, -1 for never."""

    id: str
    queue: str
    fields: Mapping[str, bytes]
    left_ms: int
    has_dependents: bool

    def text(self, name: str) -> str:
        """Returns a field as text, empty if it isn't there."""
        return self.fields.get(name, b"").decode(errors="replace")


@dataclass(frozen=True, slots=True)
class Shown:
    """The state of a job for RQ: fields of its hash, and at its end an entry of its results.

    `ending` is empty for a job that has not ended; else finished, failed, stopped, canceled, gone
    or dropped. `ttl_s` is how long RQ keeps its record, -1 for ever.
    """

    shown: str
    ending: str = ""
    ttl_s: int = -1
    started_as: str = ""
    fields: Mapping[str, str | bytes | int] = field(default_factory=dict)
    result: Mapping[str, str | bytes | int | float] = field(default_factory=dict)


def check_server(url: str) -> None:
    """Raises ConfigurationError for a Cluster, where no script reaches both kinds of keys."""
    if read_url(url).kind == "cluster":
        raise ConfigurationError(
            "the bridge can't serve a Redis Cluster, where RQ's keys lie apart from rqd's: give"
            " both a single Redis, or Sentinel"
        )


class RqSide:
    """RQ's side of the bridge."""

    def __init__(self, store: Store) -> None:
        self._store = store
        # Any: as in Queries.
        self._redis: Any = store.redis
        self._orders: Any = None

    def take(self, most: Mapping[str, int]) -> int:
        """Moves at most so many ids of each of RQ's queues to the open jobs; returns how many."""
        pairs = [one for pair in most.items() for one in pair]
        return int(self._store.ask("bridge/take", *pairs))

    def write(self, job: OpenJob, shown: Shown) -> bool:
        """Shows RQ how the job stands; False if another bridge has closed it."""
        fields = [one for pair in shown.fields.items() for one in pair]
        result = [one for pair in shown.result.items() for one in pair]
        args = (job.id, job.request, shown.shown, shown.ending, shown.ttl_s, shown.started_as)
        return bool(self._store.ask("bridge/write", *args, len(fields), *fields, *result))

    def open_jobs(self) -> list[OpenJob]:
        """Returns the open jobs; passes over entries that no bridge wrote."""
        entries = self._redis.hgetall(self._store.keys.bridge)
        return [job for entry in entries.items() if (job := _open_job(*entry))]

    def standings(self, job_ids: Sequence[str]) -> list[Standing]:
        """Returns how these jobs stand, in one round trip."""
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hmget(self._store.keys.job(job_id), "request", "status", "attempt")
                pipe.hmget(f"{_JOB}{job_id}", "status", "created_at")
            answers = _plain(pipe, (None, None, None))
        return [
            Standing(
                _text(ours[0]),
                _text(ours[1]),
                _text(ours[2]),
                None if rq[1] is None else _text(rq[0]),
            )
            for ours, rq in zip(answers[::2], answers[1::2], strict=True)
        ]

    def jobs(self, opened: Sequence[OpenJob]) -> list[RqJob]:
        """Reads the jobs as RQ wrote them; without fields if they are gone."""
        with self._redis.pipeline(transaction=False) as pipe:
            for one in opened:
                key = f"{_JOB}{one.id}"
                pipe.hgetall(key)
                pipe.pttl(key)
                pipe.exists(f"{key}:dependents")
            answers = _plain(pipe, {})
        return [
            RqJob(one.id, one.queue, {_text(name): value for name, value in row.items()}, left, has)
            for one, row, left, has in zip(
                opened, answers[::3], answers[1::3], map(bool, answers[2::3]), strict=True
            )
        ]

    def stop_orders(self) -> list[str]:
        """Returns the ids that RQ's send_stop_job_command has named since the last call.

        As with an RQ worker, an order that comes while nobody listens is lost.
        """
        if self._orders is None:
            self._orders = self._redis.pubsub(ignore_subscribe_messages=True)
            self._orders.subscribe(STOP_CHANNEL)
            self._orders.get_message(timeout=1.0)  # its own confirmation
        ids = []
        while message := self._orders.get_message(timeout=0):
            try:
                order = json.loads(message["data"])
                if order["command"] == "stop-job" and isinstance(order["job_id"], str):
                    ids.append(order["job_id"])
            except (ValueError, KeyError, TypeError, RecursionError):
                continue  # anybody may publish there
        return ids

    def has_queued(self, queues: Sequence[str]) -> bool:
        """True if RQ's list of any of these queues holds a job."""
        with self._redis.pipeline(transaction=False) as pipe:
            for queue in queues:
                pipe.type(f"rq:queue:{queue}")
            return b"list" in pipe.execute()


def _plain(pipe: Any, foreign: Any) -> list[Any]:
    """Returns a pipeline's answers, with `foreign` for keys that hold something else than RQ's."""
    answers = pipe.execute(raise_on_error=False)
    for error in answers:
        if isinstance(error, Exception) and not str(error).startswith("WRONGTYPE"):
            raise error
    return [foreign if isinstance(one, Exception) else one for one in answers]


def _open_job(job_id: bytes, text: bytes) -> OpenJob | None:
    try:
        entry = json.loads(text)
        found = OpenJob(job_id.decode(), entry["request"], entry["queue"], entry["shown"])
    except (ValueError, KeyError, TypeError):
        return None
    is_text = all(isinstance(one, str) for one in (found.request, found.queue, found.shown))
    return found if is_text else None


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace")
