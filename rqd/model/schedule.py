"""Computes when a cron entry is due: pure, in microseconds since 1970.

A cron expression is about the time that clocks on the wall show. Where they jump, Debian's cron
gives the rule. An expression with a fixed minute and hour is a job of the day, and runs once. It
runs right after the jump if its time was left out, and at the first of two occurrences. An
expression whose minute or hour begins with `*` goes by elapsed time, and runs whenever the clock
shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from rqd.model.errors import ConfigurationError
from rqd.model.terms import dump_terms, read_terms

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND_US = 1_000_000
_WALL_EPOCH = EPOCH.replace(tzinfo=None)
# A tick enqueues so many missed runs at most; the rest is due at once.
MOST_RUNS = 100
_LATE_S = 60
_DEFAULT_WINDOW_S = 86_400
_LONGEST_WINDOW_S = 31 * 86_400
_LONGEST_INTERVAL_S = 366 * 86_400
_STEP_S = 12 * 3600  # no clock jumps twice in this time
_LARGEST_GAP_S = 25 * 3600  # Samoa left out a whole day
_MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


class Missed(StrEnum):
    """The policy for runs for which no daemon was there in time.

    `skip`: leaves out a run that is a minute late; `once`: makes up for the latest run of the
    window; `all`: makes up for all runs of the window.
    """

    SKIP = "skip"
    ONCE = "once"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Plan:
    """A tick: the runs to enqueue now, and the time of the next run (None for never)."""

    runs_us: tuple[int, ...]
    next_us: int | None


@dataclass(frozen=True, slots=True)
class Schedule:
    """`cron`, five fields that are read in `timezone`, or an interval: its multiples since 1970.

    Raises ConfigurationError for values out of range.
    """

    cron: str = ""
    timezone: str = "UTC"
    interval_s: int = 0
    missed: Missed = Missed.ONCE
    window_s: int = _DEFAULT_WINDOW_S

    def __post_init__(self) -> None:
        if bool(self.cron) == bool(self.interval_s):
            raise ConfigurationError("a cron entry needs cron= or interval=, and not both")
        if not isinstance(self.interval_s, int) or not 0 <= self.interval_s <= _LONGEST_INTERVAL_S:
            raise ConfigurationError(
                f"interval {self.interval_s!r}: write whole seconds, 1 to {_LONGEST_INTERVAL_S:,}"
            )
        if not isinstance(self.window_s, int) or not 0 < self.window_s <= _LONGEST_WINDOW_S:
            raise ConfigurationError(
                f"window {self.window_s!r}: write 1 to {_LONGEST_WINDOW_S:,} seconds"
            )
        if self.cron:
            _read_expression(self.cron, _WALL_EPOCH)
            _read_zone(self.timezone)

    @classmethod
    def of(
        cls, cron: str | None, interval: int | None, timezone: str, missed: str, window_s: int
    ) -> Schedule:
        """Makes a schedule from a user's settings. Raises ConfigurationError."""
        if missed not in list(Missed):
            raise ConfigurationError(f"missed {missed!r}: write {', '.join(Missed)}")
        return cls(cron or "", timezone, interval or 0, Missed(missed), window_s)

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """Reads the text that `dump` made. Raises ConfigurationError if it was damaged in Redis."""
        by_name = read_terms(text)
        try:
            return cls(**{**by_name, "missed": Missed(by_name["missed"])})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigurationError(f"no schedule: {text[:100]!r}") from error

    def dump(self) -> str:
        """Returns the schedule as text for Redis."""
        by_name: dict[str, Any] = {"missed": str(self.missed), "window_s": self.window_s}
        if self.interval_s:
            return dump_terms({**by_name, "interval_s": self.interval_s})
        return dump_terms({**by_name, "cron": self.cron, "timezone": self.timezone})

    def shown(self) -> str:
        """Returns the schedule as an operator reads it."""
        if self.interval_s:
            return f"every {self.interval_s:,} s"
        return self.cron if self.timezone == "UTC" else f"{self.cron} {self.timezone}"

    def next_after(self, after_us: int) -> int | None:
        """Returns the first run after this instant; None if none comes in fifty years."""
        after_s = after_us // SECOND_US
        if self.interval_s:
            return (after_s // self.interval_s + 1) * self.interval_s * SECOND_US
        zone = _read_zone(self.timezone)
        is_of_the_day = not any(field.startswith("*") for field in _fields(self.cron)[:2])
        find = _next_of_the_day if is_of_the_day else _next_by_the_clock
        try:
            return find(self._walls, zone, after_s) * SECOND_US
        except (StopIteration, OverflowError):
            return None

    def plan(self, due_us: int, now_us: int) -> Plan:
        """Returns the tick at `now_us` for an entry that has been due since `due_us`."""
        late_s = _LATE_S if self.missed is Missed.SKIP else self.window_s
        since_us = max(due_us, now_us - late_s * SECOND_US) - 1
        if self.missed is not Missed.ALL:
            latest_us = self._latest(since_us, now_us)
            return Plan(() if latest_us is None else (latest_us,), self.next_after(now_us))
        runs: list[int] = []
        at_us = self.next_after(since_us)
        while at_us is not None and at_us <= now_us and len(runs) < MOST_RUNS:
            runs.append(at_us)
            at_us = self.next_after(at_us)
        return Plan(tuple(runs), at_us)

    def _latest(self, since_us: int, until_us: int) -> int | None:
        """Returns the last run after `since_us` and not after `until_us`; None if there is none."""

        def first_after(at_us: int) -> int | None:
            found = self.next_after(at_us)
            return found if found is not None and found <= until_us else None

        latest, low, high = first_after(since_us), since_us, until_us
        while latest is not None and high - low > SECOND_US:
            middle = (low + high) // 2
            if later := first_after(middle):
                low, latest = middle, later
            else:
                high = middle
        return latest

    def _walls(self, after: int) -> Iterator[int]:
        """Yields the wall-clock times of the runs, as seconds, even if a jump leaves them out."""
        walls = _read_expression(self.cron, _WALL_EPOCH + timedelta(seconds=after))
        return ((wall - _WALL_EPOCH) // timedelta(seconds=1) for wall in walls)


_Walls = Callable[[int], Iterator[int]]


def _next_of_the_day(walls: _Walls, zone: tzinfo, after_s: int) -> int:
    """Finds the next run by the date: a wall-clock time is a single instant, the first of two."""
    return next(
        at_s
        for wall in walls(after_s + _offset_s(zone, after_s))
        if (at_s := _first_instant(wall, zone)) > after_s
    )


def _next_by_the_clock(walls: _Walls, zone: tzinfo, after_s: int) -> int:
    """Finds the next run by elapsed time: the first instant with a run's time on the clock."""
    offset_s = _offset_s(zone, after_s)
    while True:
        found_s = next(walls(after_s + offset_s)) - offset_s
        jump_s = _first_jump(zone, offset_s, after_s, found_s)
        if jump_s is None:
            return found_s
        # Continue from the clock's time at the jump itself.
        after_s, offset_s = jump_s - 1, _offset_s(zone, jump_s)


def _first_instant(wall: int, zone: tzinfo) -> int:
    """Returns when the clock first shows this time; the jump for a time it leaves out."""
    shown = _WALL_EPOCH + timedelta(seconds=wall)
    offset = shown.replace(tzinfo=zone).utcoffset()  # fold=0: before the jump, if there is one
    before_s = 0 if offset is None else int(offset.total_seconds())
    at_s = wall - before_s
    if _offset_s(zone, at_s) == before_s:
        return at_s
    return _first_jump(zone, before_s, at_s - _LARGEST_GAP_S, at_s) or at_s


def _first_jump(zone: tzinfo, offset_s: int, after_s: int, until_s: int) -> int | None:
    """Finds the first instant with another offset, after `after_s`, up to `until_s`."""
    while after_s < until_s:
        probe_s = min(after_s + _STEP_S, until_s)
        if _offset_s(zone, probe_s) == offset_s:
            after_s = probe_s
            continue
        while probe_s - after_s > 1:
            middle_s = (after_s + probe_s) // 2
            if _offset_s(zone, middle_s) == offset_s:
                after_s = middle_s
            else:
                probe_s = middle_s
        return probe_s
    return None


def _offset_s(zone: tzinfo, at_s: int) -> int:
    offset = (EPOCH + timedelta(seconds=at_s)).astimezone(zone).utcoffset()
    return 0 if offset is None else int(offset.total_seconds())


def _read_expression(cron: str, after: datetime) -> CronSim:
    """Returns the library's iterator over a clock without a zone: this module handles the jumps."""
    fields = _fields(cron)
    if len(fields) != 5:
        raise ConfigurationError(
            f"cron {cron!r}: write five fields, or one of {', '.join(_MACROS)}"
        )
    try:
        return CronSim(" ".join(fields), after)
    except CronSimError as error:
        raise ConfigurationError(f"cron {cron!r}: {str(error).lower()}") from error


def _fields(cron: str) -> list[str]:
    if not isinstance(cron, str):
        raise ConfigurationError(f"cron {cron!r}: write text of five fields, '0 3 * * *'")
    return _MACROS.get(cron.strip().lower(), cron).split()


def _read_zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC  # a system without zones has UTC, too
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, TypeError, ValueError, OSError) as error:
        raise ConfigurationError(
            f"timezone {name!r} is not known here: write Europe/Berlin, say"
            " (on a system without zones: pip install tzdata)"
        ) from error
