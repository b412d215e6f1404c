"""The pages' data. Each function reads what its page shows, and returns it as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rqd.client.job_views import instant_us, list_jobs, listed
from rqd.client.snapshot import Seen, queue_rows
from rqd.model.numbers import iso
from rqd.model.records import JobRecord
from rqd.model.words import counted
from rqd.store.audit import read_audit
from rqd.store.queries import Queries
from rqd.web.charts import charts, functions
from rqd.web.frame import BadRequestError, Data, Look, NotHereError, page
from rqd.web.render import duration

_PAGE = 50
_LATE_FAILURES = 8
_LONG_PAUSE_S = 3600.0
_STATES_SHOWN = ("queued", "started", "scheduled", "deferred", "finished", "failed", "canceled")


@page("overview", "Overview", key="o")
def overview(look: Look) -> Data:
    """Reads queues, masters and workers at a glance, and the latest failures."""
    seen = look.seen
    names = [row["name"] for row in seen.queues]
    failed = _latest(look.backend.views, "failed", names, _LATE_FAILURES)
    return {
        "totals": _totals(seen),
        "queues": [_with_service(row, seen) for row in _busiest_first(seen.queues)],
        "masters": seen.masters,
        "busy": sum(row["busy"] for row in seen.masters),
        "places": sum(max(row["busy"], row.get("wanted", 0)) for row in seen.masters),
        "charts": charts(look),
        "latency_s": max((row["latency_s"] for row in seen.queues), default=0.0),
        "notes": notes_of(seen),
        "failed": [_row(look, record) for record in failed],
        "now": iso(seen.now_us),
    }


@page("queues", "Queues", key="q")
def queues(look: Look) -> Data:
    """Reads the counts of all queues."""
    return {"queues": [_with_service(row, look.seen) for row in look.seen.queues]}


@page("queue", "Queue", in_menu=False)
def queue(look: Look) -> Data:
    """Reads one queue: its counts, its masters, its next jobs."""
    name = look.param("name")
    look.check_sees(name, f"queue {name!r}")
    rows = [row for row in look.seen.queues if row["name"] == name]
    served = served_in(look.seen).get(name, [])
    if not rows and not served:
        raise NotHereError(f"no queue {name!r} ever had a job")
    views = look.backend.views
    (counts,) = rows or queue_rows(look.backend, [name], views.paused())
    waiting = [record for record in views.jobs(views.ready_ids(name, 0, 10)) if record]
    running = _latest(views, "started", [name], 20)
    return {
        "queue": counts | {"served_by": served},
        "next": [_row(look, record) for record in waiting],
        "running": [_row(look, record) for record in running],
        "charts": charts(look, name),
        "functions": functions(look, name),
    }


@page("audit", "Audit", key="a", live=False)
def audit(look: Look) -> Data:
    """Reads the latest actions of operators."""
    if not look.access.sees_all:
        raise BadRequestError("the audit stream shows all queues: you may see some only")
    try:
        entries = read_audit(look.backend.store, look.param("before") or None, _PAGE + 1)
    except ValueError as error:
        raise BadRequestError(str(error)) from error
    shown = entries[:_PAGE]
    return {
        "entries": [{"at": iso(one.at_us), **asdict(one.deed)} for one in shown],
        "cursor": shown[-1].id if len(entries) > _PAGE else "",
    }


def _totals(seen: Seen) -> dict[str, int]:
    names = [row["name"] for row in seen.queues]
    return {state: _in_state(seen, state, names) for state in _STATES_SHOWN}


def _in_state(seen: Seen, state: str, names: Sequence[str]) -> int:
    counted = ("ready", "limited") if state == "queued" else (state,)
    return sum(row[one] for row in seen.queues if row["name"] in names for one in counted)


def _busiest_first(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (-row["latency_s"], -row["ready"], row["name"]))


def served_in(seen: Seen) -> dict[str, list[str]]:
    """Returns the names of masters by the queues that they serve."""
    served: dict[str, list[str]] = {}
    for row in seen.masters:
        for name in row["queues"]:
            served.setdefault(name, []).append(row["name"])
    return served


def _with_service(row: dict[str, Any], seen: Seen) -> dict[str, Any]:
    return row | {"served_by": served_in(seen).get(row["name"], [])}


def notes_of(seen: Seen) -> list[dict[str, str]]:
    """Lists what an operator has to see to, with what to do about it."""
    notes = _notes_of_masters(seen) + _notes_of_pauses(seen)
    served = served_in(seen)
    notes += [
        {"about": row["name"], "text": f"No master serves queue {row['name']}, which has"
         f" {row['ready']:,} waiting jobs.", "do": f"rqd start --queues {row['name']}"}
        for row in seen.queues
        if row["ready"] and row["name"] not in served
    ]  # fmt: skip
    return notes


def _notes_of_masters(seen: Seen) -> list[dict[str, str]]:
    return [
        {"about": row["name"], "text": trouble, "do": f"rqd reload --master {row['name']}"}
        for row in seen.masters
        if (trouble := _trouble_of(row))
    ]


def _trouble_of(row: dict[str, Any]) -> str:
    """Returns why a master starts no job, or serves old code; empty if it is well."""
    if why := row.get("why_no_zygote"):
        return f"Master {row['name']} starts no job: {last_line(why)}"
    if row.get("reload") == "refused":
        why = last_line(row.get("reload_error", ""))
        return f"Master {row['name']} refused a reload; the old code serves on: {why}"
    return ""


def _notes_of_pauses(seen: Seen) -> list[dict[str, str]]:
    """Lists the paused queues whose jobs have waited for long."""
    return [
        {
            "about": row["name"],
            "text": f"Queue {row['name']} is paused; {counted(row['ready'], 'job')} wait, the first"
            f" for {duration(row['latency_s'])}.",
            "do": f"rqd resume {row['name']}",
        }
        for row in seen.queues
        if row["paused"] and row["ready"] and row["latency_s"] > _LONG_PAUSE_S
    ]


def last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2][:300]


def _row(look: Look, record: JobRecord) -> dict[str, Any]:
    fields = asdict(listed(record)) | {"when": iso(instant_us(record, _state_of(record)))}
    return redacted(look, fields | {"description": record.description[:500]})


def _state_of(record: JobRecord) -> str:
    status = str(record.status)
    return "failed" if status == "stopped" else status


def _latest(views: Queries, state: str, names: Sequence[str], most: int) -> list[JobRecord]:
    """Returns the first jobs in a state, over these queues; the latest first of ended jobs."""
    _, found = list_jobs(views, state, names, most)
    return found


def redacted(look: Look, fields: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields with the redactor's version of each text."""
    kept = ("id", "status", "queue", "type")
    return {
        name: look.redact(value[:300_000]) if isinstance(value, str) and name not in kept else value
        for name, value in fields.items()
    }
