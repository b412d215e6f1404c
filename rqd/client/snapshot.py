"""Reads queues, masters and workers as rows of plain data, for the command line and the pages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rqd.model.numbers import iso, read_decimal, read_whole
from rqd.store.keys import ALL_QUEUES

if TYPE_CHECKING:
    from rqd.client.connection import Backend
    from rqd.model.progress import Progress
    from rqd.store.queries import Queries

Paused = Mapping[str, int | None]
_NUMBERS = {
    "pid", "zygote_pid", "rss_bytes", "memory_bytes", "busy", "wanted", "workers", "done",
    "failed", "number",
}  # fmt: skip
_DECIMALS = {"cpu_percent", "worked_s"}
_INSTANTS = {"heartbeat", "since", "started"}
_INTERNAL = {"boot", "measured"}
# States of masters in which idle workers get no jobs.
_HELD = ("suspended", "paused")


@dataclass(frozen=True, slots=True)
class Seen:
    """The rows of queues, masters and workers, with numbers as numbers, and their time."""

    queues: list[dict[str, Any]]
    masters: list[dict[str, Any]]
    workers: list[dict[str, Any]]
    now_us: int


def snapshot(views: Queries) -> Seen:
    """Returns queues, masters and workers in their present state."""
    paused = views.paused()
    queues = [
        asdict(counts) | pause_of(counts.name, paused)
        for counts in views.queue_counts(known_queues(views, paused))
    ]
    raw_masters = views.masters()
    raw_workers = views.workers(raw_masters)
    running = [row["job"] for row in raw_workers if row.get("job")]
    progress_of = views.progress(running) if running else {}
    now_us = views.now_us()
    workers = [
        {"done": 0, "failed": 0} | _typed(row) | _progress(progress_of.get(row.get("job", "")))
        for row in raw_workers
        if _is_shown(row)
    ]
    masters = [_with_busy(_typed(row), workers) for row in raw_masters]
    held = {row["name"]: row["state"] for row in masters if row["state"] in _HELD}
    for row in workers:
        if row["master"] in held and row["state"] == "idle":
            # Its own row changes only with claims, and a held master makes none.
            row["state"] = held[row["master"]]
    return Seen(queues, masters, workers, now_us)


def _with_busy(master: dict[str, Any], workers: list[dict[str, Any]]) -> dict[str, Any]:
    """Corrects a master's row, written every 5 s, by its workers' rows, written at each claim."""
    busy = sum(w["master"] == master["name"] and w.get("state") == "busy" for w in workers)
    state = master.get("state")
    if state in ("idle", "busy"):
        state = "busy" if busy else "idle"
    queues = [name for name in master.get("queues", "").split(",") if name]
    return master | {"busy": busy, "state": state, "queues": queues}


def _progress(progress: Progress | None) -> dict[str, Any]:
    """Returns the fields of a job's progress; none without progress."""
    if progress is None:
        return {}
    return {"progress": progress.fraction, "progress_message": progress.message}


def _is_shown(row: dict[str, str]) -> bool:
    return "state" in row


def _typed(row: dict[str, str]) -> dict[str, Any]:
    """Converts numbers, and instants to ISO 8601; leaves out the fields that only daemons use."""
    typed: dict[str, Any] = {}
    for name, value in row.items():
        if name in _NUMBERS:
            typed[name] = read_whole(value) or 0
        elif name in _DECIMALS:
            typed[name] = read_decimal(value) or 0.0
        elif name in _INSTANTS:
            typed[name] = iso(read_whole(value) or None) or ""
        elif name not in _INTERNAL:
            typed[name] = value
    return typed


def known_queues(views: Queries, paused: Iterable[str]) -> list[str]:
    """Returns the names of queues that ever had a job or are paused before their first job."""
    return sorted({*views.queue_names(), *paused} - {ALL_QUEUES})


def pause_of(name: str, paused: Paused) -> dict[str, Any]:
    """Returns `paused`, by itself or with all queues, and `paused_until`, None for no end."""
    held = [paused[one] for one in (name, ALL_QUEUES) if one in paused]
    ends = [ends_at for ends_at in held if ends_at is not None]
    until = max(ends) if held and len(ends) == len(held) else None
    return {"paused": bool(held), "paused_until": iso(until)}


def queue_rows(there: Backend, names: list[str], paused: Paused) -> list[dict[str, Any]]:
    """Returns the counts of queues with their pauses, as `--json` has them."""
    return [
        asdict(counts) | pause_of(counts.name, paused) for counts in there.views.queue_counts(names)
    ]
