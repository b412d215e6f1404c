"""Gets a job's record: from Redis, by way of the job's own master, or from its last attempt."""

from __future__ import annotations

from dataclasses import replace

from rqd.client.connection import Backend
from rqd.model.current import current
from rqd.model.errors import NoSuchJobError
from rqd.model.records import AttemptRecord, JobRecord, JobStatus

# The job's state after its last attempt, by the attempt's type.
_STATUS_AFTER = {
    "successful": JobStatus.FINISHED,
    "failed": JobStatus.FAILED,
    "stopped": JobStatus.STOPPED,
}


def fetch_record(backend: Backend, job_id: str) -> JobRecord:
    """Reads the record from Redis. Raises NoSuchJobError if there is none."""
    record = backend.views.job(job_id)
    if record is None:
        raise no_such_job(job_id)
    return record


def own_record(backend: Backend, job_id: str) -> JobRecord:
    """Reads the record of the job that runs here, by way of its master, or else from Redis."""
    line = current().open_line
    fields = line.record() if line is not None else None
    if not fields or b"status" not in fields:
        return fetch_record(backend, job_id)
    return JobRecord.parse(job_id, fields)


def ended_record(known: JobRecord, latest: AttemptRecord | None) -> JobRecord:
    """Returns the `known` record of an ended job whose time to live is 0, with its end added.

    The end is in its latest attempt, which stays for a minute. Raises NoSuchJobError without one.
    """
    if latest is None or (status := _STATUS_AFTER.get(latest.type)) is None:
        raise no_such_job(known.id)
    return replace(known, status=status, ended_us=latest.created_us, cause=latest.text("cause"))


def no_such_job(job_id: str) -> NoSuchJobError:
    """Makes the error to raise about this id."""
    message = f"no job {job_id!r}: it was deleted, or its time to live is over"
    return NoSuchJobError(message, job_id)
