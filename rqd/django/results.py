"""Shows a job as Django's TaskResult."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from rqd.client.job import Job
from rqd.client.results import Result, ResultType
from rqd.django.framework import Task, TaskError, TaskResult, TaskResultStatus
from rqd.model.records import JobStatus

# The states of rqd that Django has no word for count as the nearest of its four.
_STATUS = {
    JobStatus.STARTED: TaskResultStatus.RUNNING,
    JobStatus.FINISHED: TaskResultStatus.SUCCESSFUL,
    JobStatus.FAILED: TaskResultStatus.FAILED,
    JobStatus.STOPPED: TaskResultStatus.FAILED,
    JobStatus.CANCELED: TaskResultStatus.FAILED,
}
_CRASH, _LOSS = "rqd.exceptions.JobFailedError", "rqd.exceptions.AbandonedJobError"


def new_result(task: Task, job_id: str, args: Any, kwargs: Any) -> TaskResult:
    """Makes the result of a task that is not enqueued yet.

    Raises TypeError for arguments that JSON does not have.
    """
    return TaskResult(
        task=task,
        id=job_id,
        status=TaskResultStatus.READY,
        enqueued_at=None,
        started_at=None,
        finished_at=None,
        last_attempted_at=None,
        args=list(args),
        kwargs=dict(kwargs),
        backend=task.backend,
        errors=[],
        worker_ids=[],
    )


def to_task_result(task: Task, job: Job[Any], attempts: Iterable[Result]) -> TaskResult:
    """Makes the result from the job and its attempts that are over, latest first.

    `worker_ids` has an entry an attempt: the latest as master:number, the others as host:pid.
    Raises SignatureError, DeserializationError as `Job.args`.
    """
    over = list(attempts)[::-1]
    result = new_result(task, job.id, job.args, job.kwargs)
    status = _STATUS.get(job.get_status(refresh=False), TaskResultStatus.READY)
    first = over[0].execution_started_at if over else None
    update(
        result,
        status=status,
        enqueued_at=job.created_at,
        started_at=first or job.started_at,
        last_attempted_at=job.started_at,
        finished_at=job.ended_at,
    )
    result.errors.extend(_error(one) for one in over if one.type is not ResultType.SUCCESSFUL)
    result.worker_ids.extend(_worker(one) for one in over)
    if over and over[-1].attempt == job.attempt and job.worker_name:
        result.worker_ids[-1] = job.worker_name
    elif status is TaskResultStatus.RUNNING:
        result.worker_ids.append(job.worker_name or "")
    return result


def begin(result: TaskResult) -> TaskResult:
    """Makes the result of a job that runs here: its record may be older than its start."""
    update(result, status=TaskResultStatus.RUNNING)
    return result


def succeed(result: TaskResult, value: Any) -> None:
    """Makes the result that of a success, with its return value."""
    update(
        result,
        status=TaskResultStatus.SUCCESSFUL,
        finished_at=result.finished_at or datetime.now(UTC),
        _return_value=value,
    )


def update(result: TaskResult, **values: Any) -> None:
    """Sets fields of a result, which is frozen for all others, as Django's own backends do."""
    for name, value in values.items():
        object.__setattr__(result, name, value)


def _error(attempt: Result) -> TaskError:
    cause = attempt.cause or ""
    named = attempt.details.get("exc_type")
    kind = named or (_LOSS if cause.startswith("abandoned") else _CRASH)
    told = attempt.exc_string or "\n".join(filter(None, (cause, attempt.stack)))
    return TaskError(exception_class_path=kind, traceback=told)


def _worker(attempt: Result) -> str:
    return f"{attempt.details.get('host', '?')}:{attempt.details.get('pid', '?')}"
