"""Which values are numbers: to Python True is one, to what reads them it is none."""

from __future__ import annotations

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
