"""Runs as a callback after a task has failed or was stopped: sends Django's `task_finished`.

It is a job of its own, so it comes after a crash, too, when the task's process is gone.
"""

from __future__ import annotations

from typing import Any

from rqd.client.job import Job
from rqd.django.framework import TaskResultDoesNotExist, signals
from rqd.django.results import to_task_result
from rqd.django.tasks import find_task
from rqd.model.errors import JobStoppedException


def send_task_finished(
    job: Job[Any],
    _connection: Any,
    _kind: type[BaseException] | None = None,
    error: BaseException | None = None,
    _traceback: Any = None,
) -> None:
    """Sends `task_finished` for a job that failed with this error; None for a stopped job."""
    try:
        task = find_task(job)
    except TaskResultDoesNotExist:
        return  # the task is no longer in the code
    result = to_task_result(task, job, job.results())
    try:
        # Receivers, Django's log among them, ask for the exception being handled.
        raise error if error is not None else JobStoppedException(job.cause or "stopped")
    except BaseException:  # noqa: BLE001 - a failure of the task's, of any kind
        signals.task_finished.send_robust(sender=type(task.get_backend()), task_result=result)
