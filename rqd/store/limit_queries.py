"""Reads limits: their holders and the jobs that wait for them. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rqd.model.numbers import read_whole
from rqd.store.keys import Keys
from rqd.store.messages import read_text


@dataclass(frozen=True, slots=True)
class LimitView:
    """A limit as it stands; its numbers come from the job that asked for it last.

    `next_us` is the time of the next token, None if there is a token now, or without a rate.
    """

    key: str
    concurrency: int | None
    every_us: int | None
    burst: int | None
    next_us: int | None
    holders: tuple[str, ...]
    waiting: dict[str, int]


def read_limits(redis: Any, keys: Keys, most_holders: int = 100) -> list[LimitView]:
    """Returns the limits in use, by key.

    A limit is in use while a job holds it or waits for it, or while some tokens are out.
    """
    seconds, micros = redis.time()
    now_us = int(seconds) * 1_000_000 + int(micros)
    names = sorted(read_text(raw) for raw in redis.zrangebyscore(keys.limits, f"({now_us}", "+inf"))
    with redis.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.hgetall(keys.limit_state(name))
            pipe.zrange(keys.limit_holders(name), 0, most_holders - 1)
            pipe.smembers(keys.limit_queues(name))
        parts = iter(pipe.execute())
        rows = [(name, next(parts), next(parts), next(parts)) for name in names]
        for name, _, _, queues in rows:
            for queue in queues:
                pipe.zcard(keys.limit_waiting(read_text(queue), name))
        counts = iter(pipe.execute())
    return [
        _parse(
            name,
            {read_text(field): read_text(value) for field, value in state.items()},
            tuple(map(read_text, holders)),
            {read_text(queue): next(counts) for queue in queues},
            now_us,
        )
        for name, state, holders, queues in rows
    ]


def _parse(
    name: str, state: dict[str, str], holders: tuple[str, ...], waiting: dict[str, int], now_us: int
) -> LimitView:
    fields = ("concurrency", "every_us", "burst", "tat")
    concurrency, every_us, burst, tat = (read_whole(state.get(field)) or None for field in fields)
    next_us = None
    if every_us and burst and tat:
        # As a claim reads it: a time from before the clock went back is not waited for.
        next_us = min(tat, now_us + burst * every_us) - (burst - 1) * every_us
    is_later = next_us is not None and next_us > now_us
    return LimitView(
        name,
        concurrency,
        every_us,
        burst if every_us else None,
        next_us if is_later else None,
        holders,
        dict(sorted(waiting.items())),
    )
