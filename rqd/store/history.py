"""Reads the history of queues: what became of attempts by minute and by hour. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from rqd.model.history import Numbers, read_numbers
from rqd.store.keys import Keys
from rqd.store.messages import read_text

MINUTE_S, HOUR_S = 60, 3600
# Redis keeps minutes and hours for so long: see add_history.lua.
MINUTES_KEPT_S, HOURS_KEPT_S, FUNCTIONS_KEPT_S = 48 * HOUR_S, 90 * 24 * HOUR_S, 7 * 24 * HOUR_S
_READS_AT_ONCE = 500


@dataclass(slots=True)
class Interval:
    """An interval: its start (us since 1970), its width, and the numbers of all that ended."""

    start_us: int
    width_s: int
    numbers: Numbers = field(default_factory=Numbers)


def read_history(
    redis: Any, keys: Keys, queues: Sequence[str], since_us: int, until_us: int, width_s: int
) -> list[Interval]:
    """Returns the intervals of these queues together, oldest first, without a gap.

    `width_s` is a multiple of 60. Hours are read if it is a multiple of 3600, or if minutes are not
    kept for so long; then the width is rounded up to hours. The first interval begins at a multiple
    of the width. ALL_QUEUES as the only queue reads all queues.
    """
    is_hourly = width_s % HOUR_S == 0 or until_us - since_us > MINUTES_KEPT_S * 1_000_000
    unit_s = HOUR_S if is_hourly else MINUTE_S
    key_of = keys.history_hour if is_hourly else keys.history_minute
    width_s = -(-max(width_s, unit_s) // unit_s) * unit_s
    units = width_s // unit_s
    first = since_us // 1_000_000 // width_s
    last = until_us // 1_000_000 // width_s
    found = [Interval(at * width_s * 1_000_000, width_s) for at in range(first, last + 1)]
    places = [
        (key_of(queue, (first + at) * units + unit), interval)
        for at, interval in enumerate(found)
        for unit in range(units)
        for queue in queues
    ]
    for row, (_, interval) in zip(_rows(redis, [key for key, _ in places]), places, strict=True):
        if row:
            interval.numbers.merge(read_numbers(row)[0])
    return found


def read_functions(
    redis: Any, keys: Keys, queue: str, since_us: int, until_us: int
) -> dict[str, Numbers]:
    """Returns the numbers of a queue's functions, in whole hours from `since_us` on; 7 days."""
    first, last = since_us // 1_000_000 // HOUR_S, until_us // 1_000_000 // HOUR_S
    found: dict[str, Numbers] = {}
    wanted = [keys.history_functions(queue, hour) for hour in range(first, last + 1)]
    for row in _rows(redis, wanted):
        for name, numbers in read_numbers(row)[1].items():
            found.setdefault(name, Numbers()).merge(numbers)
    return found


def read_metrics(
    redis: Any, keys: Keys, queues: Sequence[str]
) -> dict[str, tuple[Numbers, dict[str, Numbers]]]:
    """Returns each queue's numbers since its first job, and those of its functions by name."""
    rows = _rows(redis, [keys.metrics(queue) for queue in queues])
    return {queue: read_numbers(row) for queue, row in zip(queues, rows, strict=True)}


def _rows(redis: Any, keys: Sequence[str]) -> Iterator[dict[str, str]]:
    """Yields the hash of each key; an empty one for a key that holds something else."""
    for start in range(0, len(keys), _READS_AT_ONCE):
        with redis.pipeline(transaction=False) as pipe:
            for key in keys[start : start + _READS_AT_ONCE]:
                pipe.hgetall(key)
            for row in pipe.execute(raise_on_error=False):
                fields = row.items() if isinstance(row, dict) else ()
                yield {read_text(name): read_text(value) for name, value in fields}
