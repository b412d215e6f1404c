"""Where a job's record comes from: from Redis, by way of the job's own master, from its end."""

from __future__ import annotations

from dataclasses import replace

from rqd.client.connection import Backend
from rqd.model.current import current
from rqd.model.errors import NoSuchJobError
from rqd.model.records import AttemptRecord, JobRecord, JobStatus

# An attempt's type, where it was the last one.
_STATUS_AFTER = {
    "successful": JobStatus.FINISHED,
    "failed": JobStatus.FAILED,
    "stopped": JobStatus.STOPPED,
}


def fetch_record(backend: Backend, job_id: str) -> JobRecord:
    """As it is in Redis. Raises NoSuchJobError if there is none."""
    record = backend.views.job(job_id)
    if record is None:
        raise no_such_job(job_id)
    return record


def own_record(backend: Backend, job_id: str) -> JobRecord:
    """Of the job that runs here, as its master reads it."""
    line = current.open_line
    fields = line.record() if line is not None else None
    if not fields or b"status" not in fields:
        return fetch_record(backend, job_id)
    return JobRecord.parse(job_id, fields)


def ended_record(known: JobRecord, latest: AttemptRecord | None) -> JobRecord:
    """Of a job that has ended and whose time to live is 0: as it was `known`, with how it ended.

    Its latest attempt tells, which is there for a minute. Raises NoSuchJobError without one.
    """
    if latest is None or (status := _STATUS_AFTER.get(latest.type)) is None:
        raise no_such_job(known.id)
    return replace(known, status=status, ended_us=latest.created_us, cause=latest.text("cause"))


def no_such_job(job_id: str) -> NoSuchJobError:
    """The error to raise about this id."""
    told = f"no job {job_id!r}: it was deleted, or its time to live is over"
    return NoSuchJobError(told, job_id)
