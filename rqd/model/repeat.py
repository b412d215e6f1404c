"""Repeats of a job after its success: how often, and after which waits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rqd.model.errors import ConfigurationError
from rqd.model.numbers import LONGEST_INTERVAL_S, MOST_RUNS, is_count, is_interval

# The name of the repeats in a job's tally.
REPEATS = "repeats"


class Repeat:
    """Run a job again after its success, `times` more; `interval` in seconds, or a list (RQ's
    Repeat).

    A list gives the wait before each run; its last entry holds for all further runs. A job that
    fails is not repeated any more. Raises ConfigurationError for times below 1 or over a billion,
    and for intervals that are no seconds.
    """

    def __init__(self, times: int, interval: float | Iterable[float] = 0) -> None:
        if not is_count(times) or times < 1:
            raise ConfigurationError(f"Repeat(times={times!r}): write 1 to {MOST_RUNS:,}")
        self.times = times
        self.intervals = read_intervals(interval, "Repeat")

    def term(self) -> dict[str, Any]:
        """Returns the repeat as a term of the job."""
        return {"times": self.times, "intervals": self.intervals}

    @staticmethod
    def get_interval(count: int, intervals: Sequence[float]) -> float:
        """Returns the seconds before the next run, after `count` repeats (RQ's)."""
        return intervals[min(count, len(intervals) - 1)]

    def __repr__(self) -> str:
        return f"Repeat(times={self.times}, interval={self.intervals})"


@dataclass(frozen=True, slots=True)
class RepeatTerm:
    """A Repeat as a job's terms have it. Most jobs have none."""

    times: int = 0
    intervals: tuple[float, ...] = ()

    @classmethod
    def parse(cls, value: object) -> RepeatTerm:
        """Reads a term; returns no repeats if it was damaged in Redis."""
        if not isinstance(value, dict):
            return cls()
        try:
            term = cls(int(value["times"]), tuple(map(float, value["intervals"])))
        except (KeyError, TypeError, ValueError, OverflowError):
            return cls()
        is_sound = all(0 <= seconds <= LONGEST_INTERVAL_S for seconds in term.intervals)
        return term if is_sound and term.intervals else cls()

    def delay_s(self, used: int) -> float:
        """Returns the seconds to wait before the next run, after `used` runs so far."""
        return self.intervals[min(used, len(self.intervals) - 1)]


NO_REPEAT = RepeatTerm()


def read_intervals(interval: float | Iterable[float], whose: str) -> list[float]:
    """Returns a number of seconds, or several, as a list. Raises ConfigurationError."""
    intervals = list(interval) if isinstance(interval, Iterable) else [interval]
    if not intervals or not all(map(is_interval, intervals)):
        raise ConfigurationError(f"{whose}(interval={interval!r}): write seconds, 0 or more")
    return [float(seconds) for seconds in intervals]
