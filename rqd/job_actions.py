"""What can be done with a job from anywhere, each by one script or one command to its master."""

from __future__ import annotations

from typing import Any

from rqd import running
from rqd.command import send_stop_job_command
from rqd.connection import Backend
from rqd.job_lookup import no_such_job
from rqd.model.call import encode_value
from rqd.model.current import current
from rqd.model.errors import InvalidJobOperation
from rqd.model.records import JobRecord, JobStatus
from rqd.signatures import sign_meta
from rqd.store.live import send_to

_NOT_TO_CANCEL = (JobStatus.STARTED, JobStatus.FINISHED, JobStatus.FAILED, JobStatus.STOPPED)
_TO_REQUEUE = (JobStatus.FAILED, JobStatus.STOPPED, JobStatus.CANCELED)
# What RQ's registries and queues do with one that waits for its time or for others.
RUN_NOW = "to run one now that waits, cancel it and then requeue it"


def cancel(backend: Backend, job_id: str, enqueue_dependents: bool, stop: bool) -> None:
    """Takes a waiting job out of its queue, and with `stop` stops one that runs.

    Raises InvalidJobOperation, NoSuchJobError.
    """
    found = backend.store.cancel(job_id, enqueue_dependents=enqueue_dependents)
    _check_found(found, job_id)
    if found == JobStatus.STARTED and stop:
        send_stop_job_command(backend, job_id)
    elif found in _NOT_TO_CANCEL:
        instead = "; stop ends this one" if found == JobStatus.STARTED else ""
        raise InvalidJobOperation(
            f"job {job_id} is {found}: only a waiting job can be canceled{instead}"
        )


def requeue(backend: Backend, job_id: str, at_front: bool) -> None:
    """Has an ended job run again. Raises InvalidJobOperation, NoSuchJobError."""
    found = backend.store.requeue(job_id, at_front)
    _check_found(found, job_id)
    if found not in _TO_REQUEUE:
        waits = found in (JobStatus.SCHEDULED, JobStatus.DEFERRED)
        raise InvalidJobOperation(
            f"job {job_id} is {found}: only a failed, stopped or canceled job can be requeued"
            f"{f'; {RUN_NOW}' if waits else ''}"
        )


def save_meta(backend: Backend, job_id: str, meta: dict[str, Any], serializer: str) -> None:
    """Stores the meta, from inside the job by way of its master.

    Raises NoSuchJobError, InvalidCallError for what can't be serialized.
    """
    data = encode_value(meta, serializer, f"the meta of job {job_id}")
    signature = sign_meta(data, job_id, serializer, backend)
    if running.runs_here(job_id) and current.open_line is not None:
        running.save_meta(data, signature)
    elif not backend.store.save_meta(job_id, data, signature):
        raise no_such_job(job_id)


def extend(backend: Backend, record: JobRecord, more_s: float) -> None:
    """Has the master of the attempt that runs give it so much longer.

    Raises InvalidJobOperation if the job does not run, or its master is gone.
    """
    if record.status is not JobStatus.STARTED:
        raise InvalidJobOperation(
            f"job {record.id} is {record.status}: only a running job can be extended"
        )
    store, fence = backend.store, record.fence
    command = {"id": store.request_id(), "do": "extend", "job": record.id, "fence": fence}
    master = record.worker.rpartition(":")[0]
    if not send_to(store, command | {"seconds": more_s}, master, backend.keyring):
        raise InvalidJobOperation(f"the master that runs job {record.id} is gone")


def _check_found(status: str, job_id: str) -> None:
    if not status:
        raise no_such_job(job_id)
