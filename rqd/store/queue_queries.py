"""Reads queues: counts of jobs by state, and how long they wait. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from rqd.model.numbers import read_whole
from rqd.store.keys import Keys
from rqd.store.messages import read_text

_TOTALS = (
    *("finished", "failed", "stopped", "canceled", "retried", "repeated"),
    *("enqueued", "put_back", "lost"),
)
# The latency skips so many of a queue's first jobs whose time to live is over.
_MOST_EXPIRED = 100


@dataclass(frozen=True, slots=True)
class GroupCounts:
    """The numbers of a group's jobs by state; `open` counts the jobs that have not ended."""

    total: int
    open: int
    finished: int
    failed: int
    stopped: int
    canceled: int

    @property
    def is_done(self) -> bool:
        """True if each of its jobs has ended, in any way."""
        return self.open == 0


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """The numbers of a queue's jobs by state, with its latency and totals.

    `latency_s`: how long the next job has been ready, 0.0 without a ready job (Sidekiq's word).
    `totals`: how many jobs were ever enqueued, finished, failed, stopped, canceled, retried,
    repeated, put back after they had begun, or lost with their process.
    """

    name: str
    ready: int
    limited: int
    started: int
    scheduled: int
    deferred: int
    finished: int
    failed: int
    canceled: int
    latency_s: float
    totals: Mapping[str, int]


def read_queues(redis: Any, keys: Keys, names: Sequence[str], now_us: int) -> list[QueueCounts]:
    """Returns the counts of these queues."""
    with redis.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.zcard(keys.ready(name))
            for index in ("limited", "started", "scheduled", "deferred"):
                pipe.zcard(keys.index(name, index))
            for index in ("finished", "failed", "canceled"):
                pipe.zcount(keys.index(name, index), f"({now_us}", "+inf")
        numbers = iter(pipe.execute())
    counts = [[next(numbers) for _ in range(8)] for _ in names]
    latencies = read_latencies(redis, keys, names, now_us)
    totals = _read_totals(redis, keys, names)
    return [*map(QueueCounts, names, *zip(*counts, strict=True), latencies, totals)]


def read_latencies(redis: Any, keys: Keys, names: Sequence[str], now_us: int) -> list[float]:
    """Returns for each queue how many seconds its next job has been ready; 0.0 without one."""
    since_us = _ready_since_us(redis, keys, names, 0, 0)
    # Where nobody claims, jobs whose time to live is over stay before the next job.
    expired = [name for name, at_us in since_us.items() if at_us is None]
    since_us |= _ready_since_us(redis, keys, expired, 1, _MOST_EXPIRED)
    waited_us = (now_us - (since_us[name] or now_us) for name in names)
    return [max(0, waited) / 1e6 for waited in waited_us]


def _ready_since_us(
    redis: Any, keys: Keys, names: Sequence[str], first: int, last: int
) -> dict[str, int | None]:
    """Returns since when (us) the first live job among these places of each queue has been ready.

    0 where no job is ready, None where none of them has a record any more.
    """
    with redis.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.zrange(keys.ready(name), first, last)
        listed = pipe.execute()
        for job_id in chain.from_iterable(listed):
            pipe.hmget(keys.job(read_text(job_id)), "enqueued_at", "back_at")
        found = iter(pipe.execute(raise_on_error=False))
    since_us: dict[str, int | None] = {}
    for name, ids in zip(names, listed, strict=True):
        instants = [next(found) for _ in ids]
        times = (one for one in instants if isinstance(one, list) and any(one))
        # A job that was put back or lost has waited since then.
        latest = (max(map(_number, one)) for one in times)
        since_us[name] = next(latest, None) if ids else 0
    return since_us


def _read_totals(redis: Any, keys: Keys, names: Sequence[str]) -> list[dict[str, int]]:
    with redis.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.hmget(keys.stats(name), _TOTALS)
        found = pipe.execute(raise_on_error=False)
    counters = [counts if isinstance(counts, list) else [None] * len(_TOTALS) for counts in found]
    return [dict(zip(_TOTALS, map(_number, counts), strict=True)) for counts in counters]


def _number(text: object) -> int:
    """Reads a number from a pipeline's answer: 0 for nothing, for an error, and for other text."""
    return (isinstance(text, bytes) and read_whole(text)) or 0
