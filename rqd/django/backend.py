"""The backend for `TASKS`: Django's tasks as jobs, with JSON for calls and results."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async
from django.core import checks
from django.db import transaction

from rqd.client import aio
from rqd.client.callbacks import Callback
from rqd.client.connection import Backend
from rqd.client.job import Job
from rqd.client.job_id import new_job_id
from rqd.client.queue import Queue
from rqd.client.results import Result
from rqd.django.framework import (
    BaseTaskBackend,
    InvalidTask,
    Task,
    TaskResult,
    TaskResultDoesNotExist,
    signals,
)
from rqd.django.options import Options, check_options
from rqd.django.results import new_result, to_task_result, update
from rqd.django.tasks import RQD_OPTIONS, RqdTask, find_task
from rqd.model.errors import ConfigurationError, DeserializationError
from rqd.model.limits import Unique
from rqd.model.records import AttemptRecord, JobRecord, JobStatus
from rqd.model.retry import Retry

# Whoever writes to Redis shall not choose the code that reads it.
SERIALIZER = "json"
_HIGHEST_PRIORITY = 100  # Django's
# Read once, as each enqueue has it twice.
_FAILED = Callback("rqd.django.signals.send_task_finished")


class RqdBackend(BaseTaskBackend):
    """Puts tasks on rqd's queues, and reads their results. `Options` has its OPTIONS."""

    task_class = RqdTask
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        """Reads the settings. Raises ImproperlyConfigured for an option that does not exist."""
        super().__init__(alias, params)
        self.settings = Options.read(alias, self.options)

    @property
    def backend(self) -> Backend:
        """The namespace in Redis. Raises ConfigurationError for a bad URL or key."""
        return self.settings.backend()

    def validate_task(self, task: Task) -> None:
        """Raises InvalidTask for a task that this backend can't run."""
        super().validate_task(task)
        if not isinstance(task, RqdTask):
            raise InvalidTask(
                f"{task.module_path} is a task of another backend, which no worker of rqd can call:"
                f" write @task(backend={self.alias!r})"
            )

    def enqueue(self, task: Task, args: Any, kwargs: Any) -> TaskResult:
        """Enqueues the task, once the open transaction commits; at once without a transaction.

        Raises TypeError for arguments that JSON does not have, and as `rqd.Queue.enqueue`.
        """
        result = self._new_result(task, args, kwargs)
        options = self._options_of(result)
        if self.settings.waits_for_commit and transaction.get_connection().in_atomic_block:
            check_options(options)  # a mistake is raised here, and not at the commit
            transaction.on_commit(partial(self._send, result, options))
        else:
            self._send(result, options)
        return result

    async def aenqueue(self, task: Task, args: Any, kwargs: Any) -> TaskResult:
        """Enqueues the task at once: Django has no transactions in coroutines. Raises as `enqueue`.

        With Sentinel or a Cluster, a thread enqueues it.
        """
        result = self._new_result(task, args, kwargs)
        options = self._options_of(result)
        if self.settings.is_awaitable:
            queue = aio.Queue(task.queue_name, self.backend, serializer=SERIALIZER)
            at, name = task.run_after, task.module_path
            call = {"args": result.args, "kwargs": result.kwargs, **options}
            job = await (queue.enqueue_at(at, name, **call) if at else queue.enqueue(name, **call))
            self._is_enqueued(result, job.handle)
        else:
            await sync_to_async(self._send)(result, options)
        return result

    def get_result(self, result_id: str) -> TaskResult:
        """Reads a task's result from Redis.

        Raises TaskResultDoesNotExist if there is none, or if its job is of no task. Raises
        SignatureError if there are signing keys and none of them signed it, DeserializationError
        for a damaged value.
        """
        views = self.backend.views
        record = _found(result_id, views.job(str(result_id)))
        found = _Found(record, self.backend, views.attempts(record.id))
        value = views.result_bytes(record.id, found.success) if found.success else None
        return self._read(found, value)

    async def aget_result(self, result_id: str) -> TaskResult:
        """Reads a task's result as `get_result` does, without blocking the loop."""
        if not self.settings.is_awaitable:
            return await sync_to_async(self.get_result)(result_id)
        store = self.backend.awaiting
        record = _found(result_id, await store.job(str(result_id)))
        record = replace(record, payload=await store.payload(record))
        found = _Found(record, self.backend, await store.attempts(record.id))
        value = await store.result_bytes(record.id, found.success) if found.success else None
        return self._read(found, value)

    def check(self, **kwargs: Any) -> Iterable[checks.CheckMessage]:
        """Returns what is wrong in the settings."""
        return [*super().check(**kwargs), *self.settings.check()]

    # -- enqueueing

    def _new_result(self, task: Task, args: Any, kwargs: Any) -> TaskResult:
        self.validate_task(task)
        return new_result(task, new_job_id(), args, kwargs)

    def _send(self, result: TaskResult, options: dict[str, Any]) -> None:
        task = result.task
        queue = Queue(task.queue_name, self.backend, serializer=SERIALIZER)
        at, name = task.run_after, task.module_path
        call = {"args": result.args, "kwargs": result.kwargs, **options}
        job = queue.enqueue_at(at, name, **call) if at else queue.enqueue(name, **call)
        self._is_enqueued(result, job)

    def _options_of(self, result: TaskResult) -> dict[str, Any]:
        """Returns the options of rqd's `enqueue`. Raises ConfigurationError."""
        task = result.task
        own = {name: getattr(task, name, None) for name in RQD_OPTIONS}
        named = self.settings.defaults | {k: v for k, v in own.items() if v is not None}
        if isinstance(retry := named.get("retry"), int):
            named["retry"] = Retry(retry) if retry else None
        if (unique := named.pop("unique", None)) is not None:
            named["unique"] = _unique(unique, result)
        named |= {"job_id": result.id, "priority": task.priority}
        return named | {"on_failure": _FAILED, "on_stopped": _FAILED}

    def _is_enqueued(self, result: TaskResult, job: Job[Any]) -> None:
        """Notes the enqueue; of a unique task, the id of the job that has its key."""
        is_new = job.id == result.id
        update(result, id=job.id, enqueued_at=job.created_at)
        if is_new:
            signals.task_enqueued.send_robust(sender=type(self), task_result=result)

    def _read(self, found: _Found, value: bytes | None) -> TaskResult:
        record = found.record
        task = find_task(found.job)
        changes = {"backend": self.alias, "run_after": found.job.due_at}
        if not self.queues or record.origin in self.queues:
            changes["queue_name"] = record.origin
        if abs(record.priority) <= _HIGHEST_PRIORITY:
            changes["priority"] = record.priority
        try:
            result = to_task_result(replace(task, **changes), found.job, found.results)
        except DeserializationError as error:
            raise TaskResultDoesNotExist(f"job {record.id} is of no task: {error}") from error
        if value is not None:
            update(result, _return_value=found.results[0].read(value))
        return result


class _Found:
    """A job of Redis with its attempts, latest first."""

    def __init__(
        self, record: JobRecord, backend: Backend, attempts: Sequence[AttemptRecord]
    ) -> None:
        self.record = record
        self.job: Job[Any] = Job(record, backend, SERIALIZER)
        self.results = [Result(backend, record.id, SERIALIZER, one) for one in attempts]
        is_success = record.status is JobStatus.FINISHED and bool(attempts)
        self.success = attempts[0] if is_success else None


def _found(result_id: str, record: JobRecord | None) -> JobRecord:
    if record is None:
        raise TaskResultDoesNotExist(result_id)
    return record


def _unique(given: Unique | str | bool, result: TaskResult) -> Unique | None:
    if isinstance(given, Unique) or given is False:
        return given or None
    if given is True:
        call = json.dumps([result.args, result.kwargs], sort_keys=True).encode()
        given = f"{result.task.module_path}({hashlib.sha256(call).hexdigest()[:32]})"
    if not isinstance(given, str):
        raise ConfigurationError(f"unique={given!r}: write True, a key or a Unique")
    # The holder's result serves the caller as well, and at a commit nobody would catch an error.
    return Unique(given, on_conflict="existing")
