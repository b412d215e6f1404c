"""Decides the next step of a job after an attempt: pure, tested without a process."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, assert_never

from rqd.model.errors import ConfigurationError
from rqd.model.numbers import (
    LONGEST_INTERVAL_S,
    MOST_RUNS,
    is_count,
    is_interval,
    is_number,
    is_whole,
)
from rqd.model.outcome import (
    AskedAgain,
    Crashed,
    Lost,
    Outcome,
    OutOfMemory,
    Parked,
    Raised,
    Refused,
    Released,
    Stopped,
    Succeeded,
    TimedOut,
)
from rqd.model.repeat import NO_REPEAT, REPEATS, RepeatTerm, read_intervals

# The causes that a retry may follow, as `Retry(on=..)` has them.
CAUSES = ("raised", "timeout", "crashed", "oom")
# The name in the tally of the runs that a job has asked for.
ASKED = "asked"
_Failure = Raised | TimedOut | OutOfMemory | Crashed
_STEEPEST, _HIGHEST_POWER = 1000, 99
_LONGEST_BACKOFF_S = 86400.0


class Retry:
    """Run a failed job again, up to `max` times; `interval` in seconds, or a list (RQ's Retry).

    A list gives the wait before each retry; its last entry holds for all further retries. With a
    `backoff` each wait is that many times the wait before, until `longest` (default: a day).
    `jitter` 0.2 shortens each wait by up to a fifth, at random.

    With `enqueue_at_front` a retry without a wait goes before all other jobs of its priority.

    `on` says how many of the retries may follow a cause (raised, timeout, crashed, oom):
    `{"timeout": 0, "crashed": 1}`. `only` and `never` name exceptions, classes or dotted names,
    whose subclasses count too.

    A job may also return a Retry, or raise RetryLater. Raises ConfigurationError for values out of
    range.
    """

    def __init__(
        self,
        max: int,  # noqa: A002 - RQ's name
        interval: float | Iterable[float] = 0,
        enqueue_at_front: bool = False,
        *,
        backoff: float = 1,
        longest: float | None = None,
        jitter: float = 0,
        on: Mapping[str, int] | None = None,
        only: Any = (),
        never: Any = (),
    ) -> None:
        if not is_count(max) or max < 1:
            raise ConfigurationError(f"Retry(max={max!r}): write 1 to {MOST_RUNS:,}")
        self.max = max
        self.intervals = read_intervals(interval, "Retry")
        if not is_number(backoff) or not 1 <= backoff <= _STEEPEST:
            raise ConfigurationError(f"Retry(backoff={backoff!r}): write 1 to {_STEEPEST}")
        if backoff > 1 and (len(self.intervals) > 1 or not self.intervals[0]):
            raise ConfigurationError(
                f"Retry(interval={interval!r}, backoff={backoff!r}): write one interval over 0"
            )
        if longest is not None and not is_interval(longest):
            raise ConfigurationError(f"Retry(longest={longest!r}): write seconds, 0 or more")
        if not is_number(jitter) or not 0 <= jitter <= 1:
            raise ConfigurationError(f"Retry(jitter={jitter!r}): write 0 to 1")
        self.enqueue_at_front = bool(enqueue_at_front)
        self.rules = RetryRules(
            at_front=self.enqueue_at_front,
            backoff=float(backoff),
            longest_s=_LONGEST_BACKOFF_S if longest is None else float(longest),
            jitter=float(jitter),
            on=_read_causes({} if on is None else on),
            only=_read_exceptions(only, "only"),
            never=_read_exceptions(never, "never"),
        )

    @staticmethod
    def get_interval(count: int, intervals: float | Sequence[float] | None) -> float:
        """Returns the seconds before the next retry, after `count` retries (RQ's)."""
        if not isinstance(intervals, Iterable):
            return intervals or 0
        return intervals[min(count, len(intervals) - 1)] if intervals else 0

    def asking(self) -> dict[str, Any]:
        """Returns this Retry as plain values for `read_asking`, for a job that returns it."""
        return {"most": self.max, "intervals": self.intervals, **self.rules.terms()}

    def __repr__(self) -> str:
        waits = [f"{seconds:g}" for seconds in self.intervals]
        interval = waits[0] if len(waits) == 1 else f"[{', '.join(waits)}]"
        more = f", enqueue_at_front={self.enqueue_at_front}"
        rules = self.rules.terms().items()
        more += "".join(f", {name}={value!r}" for name, value in rules if name != "at_front")
        return f"Retry(max={self.max}, interval={interval}{more})"


def check_retry(retry: object, what: str) -> None:
    """Raises ConfigurationError for a value that is neither a Retry nor None."""
    if not isinstance(retry, Retry | None):
        raise ConfigurationError(f"{what} retry={retry!r}: write retry=Retry(max=3)")


@dataclass(frozen=True, slots=True)
class RetryRules:
    """The rules of a Retry besides its number and intervals. Most retries have the defaults."""

    backoff: float = 1.0
    longest_s: float = _LONGEST_BACKOFF_S
    jitter: float = 0.0
    on: Mapping[str, int] = field(default_factory=dict)
    only: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    at_front: bool = False

    def terms(self) -> dict[str, Any]:
        """Returns the rules that differ from the defaults, as plain values."""
        plain = RetryRules()
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name in RetryRules.__dataclass_fields__
            if (value := getattr(self, name)) != getattr(plain, name)
        }

    @classmethod
    def parse(cls, rules: object) -> RetryRules:
        """Reads the rules that `terms` made; returns the defaults if they were damaged in Redis."""
        if not isinstance(rules, dict):
            return cls()
        try:
            return cls(
                backoff=_within(1, rules.get("backoff", 1), _STEEPEST),
                longest_s=_within(
                    0, rules.get("longest_s", _LONGEST_BACKOFF_S), LONGEST_INTERVAL_S
                ),
                jitter=_within(0, rules.get("jitter", 0), 1),
                on={str(cause): int(most) for cause, most in rules.get("on", {}).items()},
                only=tuple(map(str, rules.get("only", ()))),
                never=tuple(map(str, rules.get("never", ()))),
                at_front=rules.get("at_front") is True,
            )
        except (AttributeError, TypeError, ValueError, OverflowError):
            return cls()

    def delay_s(self, intervals: tuple[float, ...], used: int, chance: float) -> float:
        """The seconds to wait before the next retry, after `used`; `chance` from 0 to 1."""
        if not intervals:
            return 0.0
        used = max(0, used)
        interval = intervals[min(used, len(intervals) - 1)]
        if self.backoff > 1:
            # The power is bounded, or it would exceed the range of a float.
            grown = interval * self.backoff ** min(used, _HIGHEST_POWER)
            interval = min(grown, max(interval, self.longest_s))
        return interval * (1 - self.jitter * chance)


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """The retries and repeats that a job has left when an attempt starts.

    `tally` counts the retries by cause, for a Retry that limits them by cause. It also counts the
    runs that the job has asked for itself, and its repeats.
    """

    left: int = 0
    intervals: tuple[float, ...] = ()
    used: int = 0
    rules: RetryRules = RetryRules()
    tally: Mapping[str, int] = field(default_factory=dict)
    repeat: RepeatTerm = NO_REPEAT

    def after_success(self) -> Decision:
        """Returns a repeat if one is left, else the end of the job."""
        used = self.tally.get(REPEATS, 0)
        return RepeatLater(self.repeat.delay_s(used)) if used < self.repeat.times else Finish()

    def after_failure(self, failure: _Failure, chance: float) -> Decision:
        """Returns a retry if one is left for this failure, else the failure of the job."""
        cause, rules = _cause(failure), self.rules
        if self.left < 1 or self.tally.get(cause, 0) >= rules.on.get(cause, self.left):
            return Fail()
        if isinstance(failure, Raised):
            names = {failure.exc_type, *failure.ancestors}
            if (rules.only and names.isdisjoint(rules.only)) or not names.isdisjoint(rules.never):
                return Fail()
        delay_s = rules.delay_s(self.intervals, self.used, chance)
        return RunAgain(delay_s, cause if cause in rules.on else "", rules.at_front)

    def after_asking(self, asked: AskedAgain, chance: float) -> Decision:
        """Returns another run because the job has asked for it, without using a retry."""
        used = self.tally.get(ASKED, 0)
        if asked.most is not None and used >= asked.most:
            return Fail()
        rules = RetryRules.parse(asked.rules)
        return RunAgain(rules.delay_s(asked.intervals, used, chance), ASKED, rules.at_front)


@dataclass(frozen=True, slots=True)
class Finish:
    """The job is finished, with this result."""


@dataclass(frozen=True, slots=True)
class RepeatLater:
    """The job has succeeded, with this result, and runs again in `delay_s` seconds."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class Fail:
    """The job is failed, with its cause."""


@dataclass(frozen=True, slots=True)
class RunAgain:
    """The job runs again in `delay_s` seconds; a retry of its budget is used, unless the job asked.

    `counted`: the cause under which the store counts the run; empty if no rule needs the count.
    With `at_front` a run without a delay goes before the other jobs of its priority.
    """

    delay_s: float
    counted: str = ""
    at_front: bool = False


@dataclass(frozen=True, slots=True)
class PutBack:
    """The job goes back to its place in the queue; the attempt is not charged."""


@dataclass(frozen=True, slots=True)
class CountLoss:
    """The job goes back, and the store counts the loss: it gives the job up at the
    third in a row.
    """


@dataclass(frozen=True, slots=True)
class Park:
    """The job is looked at again in `delay_s` seconds; the attempt is not charged."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class Stop:
    """The job is stopped, and does not run again by itself."""


Decision = Finish | RepeatLater | Fail | RunAgain | PutBack | Park | CountLoss | Stop


def decide(outcome: Outcome, budget: RetryBudget, chance: float = 0.0) -> Decision:
    """Returns the next step of the job after this outcome: the table in docs/architecture.md.

    `chance`, from 0 to 1, is the random draw for the jitter.
    """
    match outcome:
        case Succeeded():
            return budget.after_success()
        case Released():
            return PutBack()
        case Lost():
            return CountLoss()
        case Refused():
            return Fail()  # a retry would end the same
        case Parked(_, delay_s):
            return Park(delay_s)
        case Stopped():
            return Stop()
        case Raised() | TimedOut() | OutOfMemory() | Crashed():
            return budget.after_failure(outcome, chance)
        case AskedAgain():
            return budget.after_asking(outcome, chance)
        case _:
            assert_never(outcome)


def read_asking(request: Mapping[str, Any], message: str) -> AskedAgain:
    """Reads a job's request to run again. Raises ValueError if it is malformed."""
    most, intervals = request.get("most"), request.get("intervals")
    if most is not None and not (is_whole(most) and most >= 0):
        raise ValueError(most)
    if not isinstance(intervals, list) or not all(map(is_interval, intervals)):
        raise ValueError(intervals)
    return AskedAgain(most, tuple(map(float, intervals)), request, message)


def _cause(failure: _Failure) -> str:
    match failure:
        case Raised():
            return "raised"
        case TimedOut():
            return "timeout"
        case OutOfMemory():
            return "oom"
        case Crashed():
            return "crashed"


def _read_causes(on: Mapping[str, int]) -> dict[str, int]:
    if not isinstance(on, Mapping) or not set(on) <= set(CAUSES):
        raise ConfigurationError(f"Retry(on={on!r}): write numbers for {', '.join(CAUSES)}")
    if not all(map(is_count, on.values())):
        raise ConfigurationError(f"Retry(on={on!r}): write 0 to {MOST_RUNS:,} for a cause")
    return dict(on)


def _read_exceptions(given: Any, what: str) -> tuple[str, ...]:
    listed = [given] if isinstance(given, str | type) else given
    if not isinstance(listed, Iterable):
        raise ConfigurationError(f"Retry({what}={given!r}): write a list of exceptions")
    return tuple(_exception_name(one, what) for one in listed)


def _exception_name(given: object, what: str) -> str:
    if isinstance(given, type) and issubclass(given, BaseException):
        return f"{given.__module__}.{given.__qualname__}"
    if isinstance(given, str) and all(part.isidentifier() for part in given.split(".")):
        if "." in given:
            return given
        if isinstance(getattr(builtins, given, None), type):
            return f"builtins.{given}"
    raise ConfigurationError(
        f"Retry({what}=..): {given!r} is no exception: write a class, or its dotted name"
    )


def _within(lowest: float, value: Any, highest: float) -> float:
    """Returns the value within its bounds. Raises ValueError for NaN, which is a float too."""
    number = float(value)
    if number != number:
        raise ValueError(value)
    return min(max(lowest, number), highest)
