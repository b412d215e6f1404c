"""Reads numbers that anybody may have written: in options, and in Redis."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import overload

TYPE_CHECKING = False  # as typing has it, whose import a job that raises RetryLater would pay
if TYPE_CHECKING:
    from typing import TypeGuard


# How often a job may be run again: who writes it means always, and Lua counts to it exactly.
MOST_RUNS = 10**9
# What a job may wait at most before it runs again, in seconds.
LONGEST_INTERVAL_S = 10**9


def is_number(value: object) -> TypeGuard[float]:
    """True for a number of either kind."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_whole(value: object) -> TypeGuard[int]:
    """True for a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_count(value: object) -> TypeGuard[int]:
    """True for how often a job can be run again, none included."""
    return is_whole(value) and 0 <= value <= MOST_RUNS


def is_interval(seconds: object) -> TypeGuard[float]:
    """True for seconds that a job can wait."""
    return is_number(seconds) and 0 <= seconds <= LONGEST_INTERVAL_S


# As the scripts have it: what is as large is no number of ours.
EXACT = 2**53
_MOST_DIGITS = 16


def read_whole(told: str | bytes | None) -> int | None:
    """A number from 0 on; None for what is none, or none of ours."""
    text = told.decode(errors="replace") if isinstance(told, bytes) else told or ""
    # Python refuses to read some thousand digits, with a ValueError.
    number = int(text) if text.isdecimal() and len(text) <= _MOST_DIGITS else EXACT
    return number if number < EXACT else None


@overload
def instant(at_us: float) -> datetime: ...
@overload
def instant(at_us: float | None) -> datetime | None: ...
def instant(at_us: float | None) -> datetime | None:
    """Microseconds since 1970 as a datetime in UTC; None for what has not come."""
    return None if at_us is None else datetime.fromtimestamp(at_us / 1_000_000, UTC)
