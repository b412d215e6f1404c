"""The pages for operators: running jobs, masters by host, cron entries, limits."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from rqd.client.activity import ORDERS, ordered, running_jobs
from rqd.client.control import DEFAULT_GRACE_S
from rqd.client.cron import CronJob, entries
from rqd.model.numbers import iso
from rqd.store.limit_queries import LimitView
from rqd.web.frame import BadRequestError, Data, Look, page
from rqd.web.pages import last_line, redacted

# A master writes its row every five seconds.
_LATE_S = 15.0
_MOST_WORKERS = 200


@page("running", "Running", key="r")
def running(look: Look) -> Data:
    """Reads the running jobs of all hosts, as `rqd top` has them."""
    by = look.param("sort", "time")
    if by not in ORDERS:
        raise BadRequestError(f"sort {by!r}: choose {', '.join(ORDERS)}")
    found = [one for one in running_jobs(look.backend.views) if look.access.sees(one.queue)]
    return {
        "sort": by,
        "orders": list(ORDERS),
        "jobs": [redacted(look, asdict(one)) for one in ordered(found, by)],
        "hosts": len({one.host for one in found}),
        "grace_s": DEFAULT_GRACE_S,
    }


@page("hosts", "Hosts", key="h")
def hosts(look: Look) -> Data:
    """Reads the masters by host, each with its workers."""
    seen = look.seen
    workers: dict[str, list[dict[str, Any]]] = {}
    for row in seen.workers:
        workers.setdefault(row["master"], []).append(redacted(look, row))
    by_host: dict[str, list[dict[str, Any]]] = {}
    for row in seen.masters:
        shown = _master(row, workers.get(row["name"], []), seen.now_us)
        by_host.setdefault(row.get("host", ""), []).append(shown)
    return {
        "hosts": [
            {"host": host, "masters": masters, "names": [one["name"] for one in masters]}
            for host, masters in sorted(by_host.items())
        ],
        "masters": len(seen.masters),
    }


@page("cron", "Cron", key="c")
def cron(look: Look) -> Data:
    """Reads the cron entries of the queues that the visitor may see, the next due first."""
    seen = [one for one in entries(look.backend) if look.access.sees(one.queue_name)]
    now = datetime.fromisoformat(iso(look.backend.views.now_us()) or "")
    never = datetime.max.replace(tzinfo=now.tzinfo)
    seen.sort(key=lambda one: (one.next_run or never, one.name))
    return {"entries": [redacted(look, _entry(one, now)) for one in seen]}


@page("limits", "Limits", key="l")
def limits(look: Look) -> Data:
    """Reads the limits in use: their holders, and the jobs that wait for them."""
    if not look.access.sees_all:
        raise BadRequestError("limits are shared by all queues: you may see some only")
    views = look.backend.views
    found = views.limits()
    holders = [job_id for limit in found for job_id in limit.holders]
    functions = {
        record.id: record.func_name for record in views.jobs(holders) if record is not None
    }
    now_us = views.now_us()
    return {"limits": [_limit(look, one, functions, now_us) for one in found]}


def _master(row: dict[str, Any], workers: list[dict[str, Any]], now_us: int) -> dict[str, Any]:
    """Returns a master's row with its workers, and True for `is_late` if it gives no beat."""
    workers.sort(key=lambda one: one["number"])
    return row | {
        "places": max(row["busy"], row.get("wanted", 0)),
        "is_late": _age_s(row.get("heartbeat", ""), now_us) > _LATE_S,
        "reload_line": last_line(row.get("reload_error", "")),
        "why_line": last_line(row.get("why_no_zygote", "")),
        "workers": workers[:_MOST_WORKERS],
        "more_workers": max(0, len(workers) - _MOST_WORKERS),
    }


def _age_s(at: str, now_us: int) -> float:
    try:
        return now_us / 1e6 - datetime.fromisoformat(at).timestamp()
    except ValueError:
        return 0.0


def _entry(entry: CronJob, now: datetime) -> dict[str, Any]:
    """Returns an entry; `late_s` says for how long its next run is overdue, None if it is not."""
    due = entry.next_run if entry.state == "active" else None
    late_s = (now - due).total_seconds() if due is not None else 0.0
    return {
        "name": entry.name,
        "schedule": entry.schedule,
        "missed_runs": entry.missed,
        "function": entry.func_name,
        "description": entry.description,
        "queue": entry.queue_name,
        "state": entry.state,
        "error": entry.error,
        "next": entry.next_run.isoformat() if entry.next_run else "",
        "late_s": late_s if late_s > _LATE_S else None,
        "last": entry.last_run.isoformat() if entry.last_run else "",
        "last_job": entry.last_job_id or "",
        "runs": entry.runs,
        "source": entry.source,
    }


def _limit(look: Look, limit: LimitView, functions: dict[str, str], now_us: int) -> dict[str, Any]:
    return {
        "key": limit.key,
        "concurrency": limit.concurrency,
        "burst": limit.burst,
        "every_s": limit.every_us / 1e6 if limit.every_us else None,
        "next_s": max(0.0, (limit.next_us - now_us) / 1e6) if limit.next_us else None,
        "holders": [
            {"id": job_id, "function": look.redact(functions.get(job_id, ""))}
            for job_id in limit.holders
        ],
        "waiting": dict(limit.waiting),
        "waits": sum(limit.waiting.values()),
    }
