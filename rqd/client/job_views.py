"""Describes jobs and attempts as plain data, for the command line and the pages.

Nothing of a job is unpickled: arguments and results are the texts stored with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rqd.client.job import Job
from rqd.client.results import Result
from rqd.client.snapshot import Paused, pause_of
from rqd.model.numbers import iso
from rqd.model.progress import Progress
from rqd.model.records import JobRecord
from rqd.store.queries import Queries

ENDED = ("failed", "finished", "canceled")
STATES = (*ENDED, "queued", "started", "scheduled", "deferred")
_WAITING = ("queued", "scheduled", "deferred")


@dataclass(frozen=True, slots=True)
class ListedJob:
    """A job in the list. Instants are ISO 8601; None if not reached."""

    id: str
    function: str
    queue: str
    status: str
    enqueued: str | None
    due: str | None
    started: str | None
    ended: str | None
    attempt: int
    cause: str


def list_jobs(
    views: Queries, state: str, queues: Sequence[str], limit: int
) -> tuple[int, list[JobRecord]]:
    """Returns the number of jobs in the state, and the first of them."""
    total, ids = 0, list[str]()
    for name in queues:
        if state == "queued":
            total += views.queued_count(name)
            ids += views.queued_ids(name, 0, limit)
        else:
            total += views.index_count(name, state)
            ids += (
                views.latest_ended_ids(name, state, limit)
                if state in ENDED
                else views.index_ids(name, state, 0, limit - 1)
            )
    found = [record for record in views.jobs(ids) if record is not None]
    gone = len(ids) - len(found)
    if state != "queued":  # queued jobs stay in the order of their places, by queue
        found.sort(key=lambda one: instant_us(one, state) or 0, reverse=state in ENDED)
    # Deleted jobs count in their queue until a daemon comes upon them.
    return total - gone, found[:limit]


def instant_us(record: JobRecord, state: str) -> int | None:
    """Returns the instant that matters in this state (us): the end, the due time, the start."""
    if state in ENDED:
        return record.ended_us
    if state == "scheduled":
        return record.due_us
    return record.started_us if state == "started" else record.enqueued_us or record.created_us


def listed(record: JobRecord) -> ListedJob:
    return ListedJob(
        id=record.id,
        function=record.func_name,
        queue=record.origin,
        status=str(record.status),
        enqueued=iso(record.enqueued_us),
        due=iso(record.due_us),
        started=iso(record.started_us),
        ended=iso(record.ended_us),
        attempt=record.attempt,
        cause=record.cause,
    )


def describe_job(job: Job[Any], position: int | None, paused: Paused) -> dict[str, Any]:
    status = str(job.get_status(refresh=False))
    # A pause does not hold a job that has begun or ended.
    held = pause_of(job.origin, paused if status in _WAITING else {})
    return {
        "id": job.id,
        "status": status,
        "queue": job.origin,
        **held,
        "position": position,
        "served_by": None,
        "limited_by": job.limited_by,
        "function": job.func_name,
        "description": job.description,
        "created": _iso(job.created_at),
        "due": _iso(job.due_at),
        "enqueued": _iso(job.enqueued_at),
        "put_back": job.was_put_back,
        "losses": job.losses,
        "started": _iso(job.started_at),
        "ended": _iso(job.ended_at),
        "worker": job.worker_name,
        "progress": _progress(job.progress),
        "timeout_s": job.timeout,
        "retries_left": job.retries_left,
        "repeats_left": job.repeats_left,
        "depends_on": job.dependency_ids,
        "dependents": job.dependent_ids,
        "cause": job.cause,
    }


def describe_callback(job: Job[Any]) -> dict[str, Any]:
    status = str(job.get_status(refresh=False))
    return {"id": job.id, "status": status, "description": job.description, "cause": job.cause}


def describe_attempt(result: Result) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "attempt": result.attempt,
        "type": str(result.type),
        "ended": _iso(result.created_at),
        "cause": result.cause,
    }
    fields |= result.details
    if "preview" in fields:
        fields["result"] = fields.pop("preview")
    fields |= {"traceback": result.exc_string, "stack": result.stack}
    return fields | {"output": result.output or None}


def _progress(progress: Progress | None) -> dict[str, Any] | None:
    if progress is None:
        return None
    fields = {"fraction": progress.fraction, "message": progress.message}
    return fields | {"updated": _iso(progress.updated_at)}


def _iso(instant: datetime | None) -> str | None:
    return instant.isoformat() if instant else None
