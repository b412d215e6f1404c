"""Numbers as they are stored in Redis, where anybody may have written what is none."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import overload

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
