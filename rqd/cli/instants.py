"""Instants out of Redis, as programs read them."""

from __future__ import annotations

from datetime import UTC, datetime


def iso(at_us: int | None) -> str | None:
    """Microseconds since 1970 in the form of ISO 8601, in UTC; None for None."""
    return None if at_us is None else datetime.fromtimestamp(at_us / 1e6, UTC).isoformat()
