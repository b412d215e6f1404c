"""A task of Django's with the options of rqd. A worker calls it by its function's name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from datetime import datetime
from importlib import import_module
from inspect import iscoroutinefunction
from typing import Any

from django.apps import apps

from rqd.client.job import Job, get_current_job
from rqd.client.results import ResultType
from rqd.django.framework import (
    Task,
    TaskContext,
    TaskResult,
    TaskResultDoesNotExist,
    normalize_json,
    signals,
)
from rqd.django.results import begin, succeed, to_task_result
from rqd.model.current import current
from rqd.model.limits import RateLimit, Unique
from rqd.model.retry import Retry


@dataclass(frozen=True, slots=True, kw_only=True)
class RqdTask(Task):
    """A task of a `RqdBackend`, with options of `rqd.Queue.enqueue` as fields.

    None leaves the backend's OPTIONS, then rqd's defaults. `retry` is a Retry or the number of
    retries. `unique=True` makes a key of the function and its arguments; with it, or with a key of
    your own, an enqueue returns the result of the task that has the key.
    """

    retry: Retry | int | None = None
    job_timeout: float | str | None = None
    result_ttl: float | str | None = None
    failure_ttl: float | str | None = None
    unique: Unique | str | bool | None = None
    rate_limit: RateLimit | None = None
    max_memory: int | str | None = None

    def using(
        self,
        *,
        priority: int | None = None,
        queue_name: str | None = None,
        run_after: datetime | None = None,
        backend: str | None = None,
        **options: Any,
    ) -> Task:
        """Returns the task with other settings: Django's four, and rqd's options.

        Raises TypeError for an option that doesn't exist.
        """
        if unknown := options.keys() - RQD_OPTIONS:
            known = ", ".join(sorted(RQD_OPTIONS))
            raise TypeError(f"a task has no option {min(unknown)}=: write one of {known}")
        options["priority"], options["queue_name"] = priority, queue_name
        options["run_after"], options["backend"] = run_after, backend
        return replace(self, **{k: v for k, v in options.items() if v is not None})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function; in a job of this task, with Django's context and signals."""
        if current().func_name != self.module_path:
            return self.func(*args, **kwargs)
        result = _running(self)
        signals.task_started.send_robust(sender=type(self.get_backend()), task_result=result)
        call = (TaskContext(task_result=result), *args) if self.takes_context else args
        if iscoroutinefunction(self.func):
            return _awaited(self.func, call, kwargs, result)
        return _returned(self.func(*call, **kwargs), result)


RQD_OPTIONS = frozenset(one.name for one in fields(RqdTask)) - {one.name for one in fields(Task)}


def find_task(job: Job[Any]) -> RqdTask:
    """Returns the task whose function a job names. Raises TaskResultDoesNotExist without one.

    The name comes from Redis: it may import a module of an installed app, and no other.
    """
    module, _, name = job.func_name.rpartition(".")
    if module not in sys.modules and apps.get_containing_app_config(module) is not None:
        try:
            import_module(module)
        except ImportError:
            pass  # the module is no longer in the code
    found = vars(sys.modules[module]).get(name) if module in sys.modules else None
    if not isinstance(found, RqdTask):
        raise TaskResultDoesNotExist(f"job {job.id} is of no task here: {job.func_name}")
    return found


def _running(task: RqdTask) -> TaskResult:
    job = get_current_job()
    assert job is not None
    # The first attempt has none before it: only a retry asks Redis.
    before = [one for one in job.results() if _counts(one.type)] if current().attempt > 1 else []
    return begin(to_task_result(task, job, before))


def _counts(kind: ResultType) -> bool:
    return kind is not ResultType.SUCCESSFUL


async def _awaited(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], result: TaskResult
) -> Any:
    return _returned(await func(*args, **kwargs), result)


def _returned(value: Any, result: TaskResult) -> Any:
    if isinstance(value, Retry):  # the job asks to run again
        return value
    value = normalize_json(value)
    succeed(result, value)
    backend = result.task.get_backend()
    signals.task_finished.send_robust(sender=type(backend), task_result=result)
    return value
