"""Instants out of Redis, as programs read them; and times as they were typed."""

from __future__ import annotations

from rqd.model.numbers import instant


def iso(at_us: int | None) -> str | None:
    """Microseconds since 1970 in the form of ISO 8601, in UTC; None for None."""
    return None if at_us is None else instant(at_us).isoformat()


def with_unit(time: str) -> str:
    """A time that somebody typed, with its unit: seconds, if he left that out."""
    time = time.strip()
    return f"{time}s" if time[-1:].isdigit() else time
