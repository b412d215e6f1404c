"""Reading limits: who holds one, who waits for it. Nothing here changes anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rqd.store.keys import Keys

# As the scripts have it: what is larger is no number of ours.
_EXACT = 2**53


@dataclass(frozen=True, slots=True)
class LimitView:
    """A limit as it stands; its numbers are those of the job that was last looked at.

    `next_us` is the time of the next token, None if there is one now, or without a rate.
    """

    key: str
    concurrency: int | None
    every_us: int | None
    burst: int | None
    next_us: int | None
    holders: tuple[str, ...]
    waiting: dict[str, int]


def read_limits(redis: Any, keys: Keys, most_holders: int = 100) -> list[LimitView]:
    """The limits in use, by key: all those that somebody holds or waits for, or whose tokens are
    not all back.
    """
    seconds, micros = redis.time()
    now_us = int(seconds) * 1_000_000 + int(micros)
    names = sorted(_text(raw) for raw in redis.zrangebyscore(keys.limits, f"({now_us}", "+inf"))
    with redis.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.hgetall(keys.limit_state(name))
            pipe.zrange(keys.limit_holders(name), 0, most_holders - 1)
            pipe.smembers(keys.limit_queues(name))
        parts = iter(pipe.execute())
        rows = [(name, next(parts), next(parts), next(parts)) for name in names]
        for name, _, _, queues in rows:
            for queue in queues:
                pipe.zcard(keys.limit_waiting(_text(queue), name))
        counts = iter(pipe.execute())
    return [
        _parse(
            name,
            {_text(field): _text(value) for field, value in state.items()},
            tuple(map(_text, holders)),
            {_text(queue): next(counts) for queue in queues},
            now_us,
        )
        for name, state, holders, queues in rows
    ]


def _parse(
    name: str, state: dict[str, str], holders: tuple[str, ...], waiting: dict[str, int], now_us: int
) -> LimitView:
    every_us, burst, tat = (_whole(state.get(field)) for field in ("every_us", "burst", "tat"))
    next_us = None
    if every_us and burst and tat:
        next_us = tat - (burst - 1) * every_us
    is_later = next_us is not None and next_us > now_us
    return LimitView(
        name,
        _whole(state.get("concurrency")),
        every_us,
        burst if every_us else None,
        next_us if is_later else None,
        holders,
        dict(sorted(waiting.items())),
    )


def _whole(text: str | None) -> int | None:
    number = int(text) if text and text.isdecimal() and len(text) < 17 else None
    return number if number and number < _EXACT else None


def _text(raw: bytes) -> str:
    # Anybody may have written what is no text there.
    return raw.decode(errors="replace")
