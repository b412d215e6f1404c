"""Pauses, as the commands show them and take them: which queues, and until when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rqd.cli.output import iso
from rqd.connection import Backend
from rqd.model.errors import ConfigurationError
from rqd.store.keys import ALL_QUEUES
from rqd.suspension import time_of_pause_s

Paused = Mapping[str, int | None]


def pause_of(name: str, paused: Paused) -> dict[str, Any]:
    """Whether it is paused, by itself or with all others, and until when, None for no end."""
    held = [paused[one] for one in (name, ALL_QUEUES) if one in paused]
    ends = [ends_at for ends_at in held if ends_at is not None]
    until = max(ends) if held and len(ends) == len(held) else None
    return {"paused": bool(held), "paused_until": iso(until)}


def queue_rows(there: Backend, names: list[str], paused: Paused) -> list[dict[str, Any]]:
    """The counts of queues, and whether each is paused, as `--json` has them."""
    return [
        asdict(counts) | pause_of(counts.name, paused) for counts in there.views.queue_counts(names)
    ]


def state_of(row: Mapping[str, Any]) -> str:
    """`open`, `paused` or `paused until 2030-12-24T18:00:00Z`, of what `pause_of` has found."""
    return _until("paused", row["paused_until"]) if row["paused"] else "open"


def why_not_started(name: str, paused: Paused) -> str | None:
    """Why no daemon starts jobs of this queue, and what ends that; None if it is open."""
    if ALL_QUEUES in paused:
        told = _until("suspended", iso(paused[ALL_QUEUES]))
        return f"all work is {told} (`rqd resume --all` ends that)"
    if name in paused:
        told = _until("paused", iso(paused[name]))
        return f"queue {name} is {told} (`rqd resume {name}` ends that)"
    return None


def read_for(text: str | None) -> float | None:
    """Seconds of `--for`; None for no end. Raises ConfigurationError."""
    if text is not None and text.strip().startswith("-"):
        raise ConfigurationError(
            f"--for {text}: write a time, 10m; without --for it lasts until it is resumed"
        )
    return time_of_pause_s(text, "--for")


def _until(state: str, until: str | None) -> str:
    return f"{state} until {until[:19]}Z" if until else state
