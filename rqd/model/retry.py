"""What becomes of a job after an attempt: a pure decision, tested without a process."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import assert_never

from rqd.model.errors import ConfigurationError
from rqd.model.outcome import (
    Crashed,
    Lost,
    Outcome,
    Parked,
    Raised,
    Refused,
    Released,
    Succeeded,
    TimedOut,
)
from rqd.model.records import LONGEST_INTERVAL_S


class Retry:
    """Run a failed job again, up to `max` times; `interval` in seconds, one or a list (RQ's Retry).

    A list gives the wait before each retry; its last entry holds for all further ones.
    Raises ConfigurationError for max < 1, and for intervals that are no seconds.
    """

    def __init__(self, max: int, interval: float | Iterable[float] = 0) -> None:  # noqa: A002
        if not isinstance(max, int) or max < 1:
            raise ConfigurationError(f"Retry(max={max!r}): write 1 or more")
        intervals = list(interval) if isinstance(interval, Iterable) else [interval]
        if not intervals or not all(map(_is_interval, intervals)):
            raise ConfigurationError(f"Retry(interval={interval!r}): write seconds, 0 or more")
        self.max = max
        self.intervals = [float(seconds) for seconds in intervals]

    def __repr__(self) -> str:
        return f"Retry(max={self.max}, interval={self.intervals})"


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """What is left of a job's Retry when an attempt starts."""

    left: int = 0
    intervals: tuple[float, ...] = ()
    used: int = 0

    def next_delay_s(self) -> float:
        """Seconds to wait before the next retry."""
        if not self.intervals:
            return 0.0
        return self.intervals[min(max(0, self.used), len(self.intervals) - 1)]


@dataclass(frozen=True, slots=True)
class Finish:
    """The job is finished, with this result."""


@dataclass(frozen=True, slots=True)
class Fail:
    """The job is failed, with its cause."""


@dataclass(frozen=True, slots=True)
class RetryLater:
    """The job runs again in `delay_s` seconds; one retry of its budget is used."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class PutBack:
    """The job goes back to its place in the queue; the attempt is not charged."""


@dataclass(frozen=True, slots=True)
class CountLoss:
    """As PutBack, but at the third loss in a row the job is given up: the store counts."""


@dataclass(frozen=True, slots=True)
class Park:
    """The job is looked at again in `delay_s` seconds; the attempt is not charged."""

    delay_s: float


Decision = Finish | Fail | RetryLater | PutBack | Park | CountLoss


def decide(outcome: Outcome, budget: RetryBudget) -> Decision:
    """What happens to the job after this outcome: the table in docs/architecture.md."""
    match outcome:
        case Succeeded():
            return Finish()
        case Released():
            return PutBack()
        case Lost():
            return CountLoss()
        case Refused():
            return Fail()  # a retry would end the same
        case Parked(_, delay_s):
            return Park(delay_s)
        case Raised() | TimedOut() | Crashed():
            return RetryLater(budget.next_delay_s()) if budget.left > 0 else Fail()
        case _:
            assert_never(outcome)


def _is_interval(seconds: object) -> bool:
    return isinstance(seconds, int | float) and 0 <= seconds <= LONGEST_INTERVAL_S
