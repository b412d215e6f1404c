"""Reads numbers that anybody may have written: in options, and in Redis."""

from __future__ import annotations

from datetime import UTC, datetime
from math import isfinite
from typing import overload

TYPE_CHECKING = False  # as typing has it, whose import a job that raises RetryLater would pay
if TYPE_CHECKING:
    from typing import TypeGuard


# The most further runs of a job. A user who writes it means always, and Lua counts to it exactly.
MOST_RUNS = 10**9
# The longest wait of a job before it runs again, in seconds.
LONGEST_INTERVAL_S = 10**9


def is_number(value: object) -> TypeGuard[float]:
    """True for an int or a float, but not for a bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_whole(value: object) -> TypeGuard[int]:
    """True for a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_count(value: object) -> TypeGuard[int]:
    """True for a number of further runs of a job, 0 included."""
    return is_whole(value) and 0 <= value <= MOST_RUNS


def is_interval(seconds: object) -> TypeGuard[float]:
    """True for seconds that a job can wait."""
    return is_number(seconds) and 0 <= seconds <= LONGEST_INTERVAL_S


# As in the scripts: a number this large is none of ours.
EXACT = 2**53
_MOST_DIGITS = 16


def read_whole(given: str | bytes | None) -> int | None:
    """Returns a whole number from 0 on; None for a text that is no such number, or too large."""
    text = given.decode(errors="replace") if isinstance(given, bytes) else given or ""
    # Python refuses to read some thousand digits, with a ValueError.
    number = int(text) if text.isdecimal() and len(text) <= _MOST_DIGITS else EXACT
    return number if number < EXACT else None


@overload
def instant(at_us: float) -> datetime: ...
@overload
def instant(at_us: float | None) -> datetime | None: ...
def instant(at_us: float | None) -> datetime | None:
    """Returns microseconds since 1970 as a datetime in UTC; None stays None."""
    return None if at_us is None else datetime.fromtimestamp(at_us / 1_000_000, UTC)


def iso(at_us: int | None) -> str | None:
    """Formats microseconds since 1970 as ISO 8601, in UTC; None for None."""
    return None if at_us is None else instant(at_us).isoformat()


def read_decimal(text: str | None) -> float | None:
    """Reads a finite number out of Redis; None for anything else."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if isfinite(number) else None
