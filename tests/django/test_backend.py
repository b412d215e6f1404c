"""Django's tasks on rqd: enqueued, run by a real daemon, and read back."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import django
import pytest
import redis
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.dispatch import Signal

from rqd import Queue, Retry, Unique
from rqd.client.connection import Backend
from rqd.client.control import send_stop_job_command
from rqd.django.backend import RqdBackend
from rqd.django.framework import (
    InvalidTask,
    TaskResult,
    TaskResultDoesNotExist,
    TaskResultStatus,
    signals,
    task_backends,
)
from rqd.model.errors import DuplicateJobError, SignatureError
from rqd.model.resources import TERM as RESOURCES
from rqd.model.resources import resource_term
from rqd.model.terms import read_terms
from tests.django import tasks
from tests.django.conftest import StartDjango
from tests.django.tasks import task
from tests.jobs import multiply as plain_multiply
from tests.waiting import eventually

KEY = "0123456789abcdef" * 4


def ended(result: TaskResult) -> TaskResult:
    """Waits for a task's end."""

    def is_finished() -> bool:
        result.refresh()
        return bool(result.is_finished)

    eventually(is_finished, 15)
    return result


@contextmanager
def heard(signal: Signal) -> Iterator[list[TaskResult]]:
    """Collects the results that a signal is sent with."""
    results: list[TaskResult] = []

    def note(task_result: TaskResult, **_: Any) -> None:
        results.append(task_result)

    signal.connect(note)
    yield results
    signal.disconnect(note)


def test_a_task_is_a_job_by_its_functions_name_in_json(there: Backend) -> None:
    with heard(signals.task_enqueued) as enqueued:
        result = tasks.multiply.using(priority=-100).enqueue(6, b=7)

    assert result.status == TaskResultStatus.READY
    assert (result.args, result.kwargs, result.attempts) == ([6], {"b": 7}, 0)
    assert enqueued == [result]
    record = there.views.job(result.id)
    assert record is not None
    assert (record.func_name, record.origin) == ("tests.django.tasks.multiply", "default")
    assert (record.serializer, record.priority) == ("json", -100)
    assert result.enqueued_at == datetime.fromtimestamp((record.created_us or 0) / 1e6, UTC)
    read = tasks.multiply.get_result(result.id)
    assert read.task == tasks.multiply.using(priority=-100)
    assert (read.id, read.status, read.args, read.kwargs) == (result.id, "READY", [6], {"b": 7})


def test_tasks_of_both_kinds_run_and_their_results_come_back(
    start_django: StartDjango, signals_file: Path
) -> None:
    results = [tasks.multiply.enqueue(6, 7), tasks.greet.enqueue("you")]
    results += [tasks.returns_a_tuple.enqueue(), tasks.which_attempt.enqueue()]
    daemon = start_django()

    product, greeting, pair, attempt = map(ended, results)

    assert (product.return_value, greeting.return_value) == (42, "hello you")
    assert pair.return_value == [1, "two"]
    assert attempt.return_value == [1, attempt.id]
    for one in results:
        assert (one.status, one.attempts, one.errors) == ("SUCCESSFUL", 1, [])
        (worker,) = one.worker_ids
        assert worker.endswith(":1")
        assert one.enqueued_at <= one.started_at <= one.finished_at
        lines = [line.split() for line in signals_file.read_text().splitlines()]
        mine = [line for line in lines if line[1] == one.id]
        assert [(line[0], line[2]) for line in mine] == [
            ("started", "RUNNING"),
            ("finished", "SUCCESSFUL"),
        ]
    assert daemon.stop() == 0


def test_each_failed_attempt_is_an_error_with_its_traceback(
    start_django: StartDjango, signals_file: Path
) -> None:
    start_django()
    again = tasks.which_attempt.using(retry=2).enqueue(least=3)
    never = tasks.which_attempt.using(retry=Retry(1)).enqueue(least=9)

    ended(again)
    ended(never)

    assert (again.status, again.attempts, again.return_value[0]) == ("SUCCESSFUL", 3, 3)
    assert [error.exception_class for error in again.errors] == [ValueError, ValueError]
    assert "ValueError: attempt 2\n" in again.errors[1].traceback
    assert (never.status, never.attempts, len(never.errors)) == ("FAILED", 2, 2)
    assert 'raise ValueError(f"attempt {context.attempt}")' in never.errors[0].traceback
    with pytest.raises(ValueError, match="Task failed"):
        _ = never.return_value
    eventually(lambda: f"finished {never.id} FAILED 2 2\n" in signals_file.read_text(), 10)
    assert signals_file.read_text().count(f"finished {again.id} SUCCESSFUL 2 3\n") == 1


def test_a_crash_has_its_cause_and_sends_task_finished(
    start_django: StartDjango, signals_file: Path
) -> None:
    daemon = start_django()
    result = ended(tasks.crash.enqueue())

    assert (result.status, result.attempts) == ("FAILED", 1)
    (error,) = result.errors
    assert error.exception_class_path == "rqd.exceptions.JobFailedError"
    assert "SIGKILL" in error.traceback
    eventually(lambda: f"finished {result.id} FAILED 1 1\n" in signals_file.read_text(), 10)
    assert "NoneType: None" not in daemon.log()


def test_a_stopped_task_has_failed_and_sends_task_finished(
    start_django: StartDjango, there: Backend, signals_file: Path, fifo: str
) -> None:
    start_django()
    result = tasks.read.enqueue(fifo)
    writer = open(fifo, "w")  # noqa: SIM115 - opens once the task has opened its end
    result.refresh()
    assert (result.status, result.attempts) == ("RUNNING", 1)

    send_stop_job_command(there, result.id)

    assert ended(result).status == "FAILED"
    assert result.errors[0].exception_class_path == "rqd.exceptions.JobStoppedException"
    eventually(lambda: f"finished {result.id} FAILED 1 1\n" in signals_file.read_text(), 10)
    writer.close()


def test_a_return_value_that_json_lacks_fails_the_task(start_django: StartDjango) -> None:
    start_django()
    result = ended(tasks.returns_a_set.enqueue())

    assert result.status == "FAILED"
    assert result.errors[0].exception_class is TypeError


def test_a_task_waits_for_its_time(there: Backend) -> None:
    at = datetime.now(UTC) + timedelta(hours=1)

    result = tasks.multiply.using(run_after=at).enqueue(1, 1)

    record = there.views.job(result.id)
    assert record is not None
    assert record.status == "scheduled"
    read = tasks.multiply.get_result(result.id)
    assert (read.status, read.task.run_after) == ("READY", at)


def test_a_higher_priority_goes_first(there: Backend) -> None:
    ids = [
        tasks.multiply.using(priority=priority).enqueue(1, 1).id for priority in (-100, 0, 100, 7)
    ]

    assert there.views.ready_ids("default") == [ids[2], ids[3], ids[1], ids[0]]


@pytest.mark.parametrize(
    ("enqueue", "error", "text"),
    [
        (lambda: tasks.multiply.enqueue(object(), 1), TypeError, "Unsupported type"),
        (lambda: tasks.multiply.using(priority=101), InvalidTask, "priority"),
        (lambda: tasks.multiply.using(queue_name="nobodys"), InvalidTask, "nobodys"),
        (lambda: tasks.multiply.using(retries=3), TypeError, "no option retries=: write one of"),
        (lambda: tasks.multiply.using(job_timeout="soon").enqueue(1, 1), ValueError, "soon"),
    ],
)
def test_mistakes_are_raised_at_the_enqueue(
    there: Backend, enqueue: Callable[[], Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        enqueue()
    assert there.views.ready_ids("default") == []


def test_a_task_of_another_backends_class_is_refused_and_ours_runs_there() -> None:
    theirs = task(backend="at_call")(tasks.no_task)
    with pytest.raises(InvalidTask, match=r"write @task\(backend='default'\)"):
        theirs.using(backend="default")

    assert tasks.multiply.using(backend="at_call").enqueue(6, 7).return_value == 42


# -- transactions


def test_a_task_is_enqueued_when_the_transaction_commits(there: Backend, database: Any) -> None:
    with heard(signals.task_enqueued) as enqueued, transaction.atomic():
        result = tasks.multiply.enqueue(6, 7)
        assert (result.enqueued_at, enqueued) == (None, [])
        assert there.views.job(result.id) is None
        at_once = tasks.multiply.using(backend="at_once").enqueue(6, 7)
        assert there.views.job(at_once.id) is not None

    assert there.views.job(result.id) is not None
    assert result.enqueued_at is not None
    assert enqueued == [at_once, result]


def test_a_task_of_a_transaction_that_is_rolled_back_is_never_enqueued(
    there: Backend, database: Any
) -> None:
    with transaction.atomic():
        tasks.multiply.enqueue(6, 7)
        transaction.set_rollback(True)

    assert there.views.ready_ids("default") == []


def test_a_mistake_in_a_transaction_is_raised_at_the_enqueue(there: Backend, database: Any) -> None:
    with transaction.atomic():
        for options in ({"job_timeout": "soon"}, {"unique": 3}, {"retry": "twice"}):
            with pytest.raises(ValueError, match=next(iter(options))):
                tasks.multiply.using(**options).enqueue(6, 7)

    assert there.views.ready_ids("default") == []


# -- rqd's options


def test_options_come_from_the_task_then_the_call_then_the_settings(there: Backend) -> None:
    plain = there.views.job(tasks.careful.enqueue().id)
    by_call = there.views.job(tasks.careful.using(retry=4).enqueue().id)
    by_settings = there.views.job(tasks.multiply.using(backend="at_once").enqueue(1, 1).id)

    assert plain is not None
    assert (plain.retries_left, plain.timeout_s) == (1, 300)
    assert read_terms(plain.terms)[RESOURCES] == resource_term("1G", None)
    assert by_call is not None
    assert by_call.retries_left == 4
    assert by_settings is not None
    assert (by_settings.retries_left, by_settings.timeout_s) == (1, 120)


@pytest.mark.skipif(
    (6, 0) <= django.VERSION < (6, 1), reason="Django 6.0's @task takes no options of a backend"
)
def test_the_decorator_takes_options(there: Backend) -> None:
    result = task(retry=5, job_timeout="5m")(tasks.no_task).enqueue()

    record = there.views.job(result.id)
    assert record is not None
    assert (record.retries_left, record.timeout_s) == (5, 300)
    with pytest.raises(TypeError, match="retires"):
        task(retires=3)(tasks.no_task)


def test_a_unique_task_is_enqueued_once_and_its_result_is_shared(there: Backend) -> None:
    unique = tasks.multiply.using(unique=True)
    with heard(signals.task_enqueued) as enqueued:
        first, same, other = unique.enqueue(6, 7), unique.enqueue(6, 7), unique.enqueue(6, 8)

    assert same.id == first.id != other.id
    assert enqueued == [first, other]
    assert tasks.multiply.using(unique="k").enqueue(1, 1) == tasks.multiply.using(
        unique="k"
    ).enqueue(1, 1)
    tasks.multiply.using(unique=Unique("strict")).enqueue(1, 1)
    with pytest.raises(DuplicateJobError):
        tasks.multiply.using(unique=Unique("strict")).enqueue(1, 1)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"commit": "later"}, "commit='later': write 'on_commit' or 'now'"),
        ({"url": "http://nowhere"}, "http://nowhere"),
        ({"job_timeout": "soon"}, "soon"),
        ({"retry": -1}, "Retry"),
    ],
)
def test_check_finds_unusable_options(options: dict[str, Any], text: str) -> None:
    (error,) = RqdBackend("mine", {"OPTIONS": options}).check()

    assert error.id == "rqd.E001"
    assert text in error.msg


def test_an_option_that_does_not_exist_is_named() -> None:
    with pytest.raises(ImproperlyConfigured, match="OPTIONS has no 'queue': write one of commit"):
        RqdBackend("mine", {"OPTIONS": {"queue": "mails"}})
    assert list(RqdBackend("mine", {"OPTIONS": {"retry": 3}}).check()) == []


def test_all_capabilities_are_there() -> None:
    backend = task_backends["default"]
    assert backend.supports_defer
    assert backend.supports_async_task
    assert backend.supports_get_result
    assert backend.supports_priority


# -- results


def test_what_is_no_task_has_no_result(there: Backend) -> None:
    queue, backend = Queue(connection=there, serializer="json"), task_backends["default"]
    foreign = [
        queue.enqueue("tests.jobs.multiply", 6, 7).id,
        queue.enqueue("tests.django.tasks.no_task").id,
        queue.enqueue("tests.django.tasks.gone").id,
        Queue(connection=there).enqueue("tests.django.tasks.multiply", 6, 7).id,
        Queue(connection=there).enqueue(plain_multiply, 6, 7).id,
        "never",
        "no:id",
    ]

    for job_id in foreign:
        with pytest.raises(TaskResultDoesNotExist):
            backend.get_result(job_id)
        with pytest.raises(TaskResultDoesNotExist):
            asyncio.run(backend.aget_result(job_id))


def test_a_name_from_redis_imports_no_module_but_an_apps(there: Backend) -> None:
    sys.modules.pop("this", None)
    job = Queue(connection=there, serializer="json").enqueue("this.s")

    with pytest.raises(TaskResultDoesNotExist):
        task_backends["default"].get_result(job.id)

    assert "this" not in sys.modules
    sys.modules.pop("tests.django.late", None)
    job = Queue(connection=there, serializer="json").enqueue("tests.django.late.add", 1, 2)
    assert task_backends["default"].get_result(job.id).task.name == "add"


def test_a_forged_task_is_not_read(
    there: Backend, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RQD_SIGNING_KEY", KEY)
    signing = RqdBackend("default", {"OPTIONS": {"url": there.url, "namespace": "signing"}})
    good = signing.enqueue(tasks.multiply, [6, 7], {})
    assert signing.get_result(good.id).args == [6, 7]

    forged = b'["tests.django.tasks.multiply", null, [1, 1], {}]'
    redis_client.hset(f"{{signing}}:job:{good.id}", "payload", forged)

    with pytest.raises(SignatureError):
        signing.get_result(good.id)


def test_tasks_are_enqueued_and_read_without_blocking(
    start_django: StartDjango, there: Backend
) -> None:
    start_django()
    long = "x" * 100_000  # it has a key of its own in Redis

    async def use() -> tuple[TaskResult, TaskResult]:
        later = datetime.now(UTC) + timedelta(hours=1)
        scheduled = await tasks.multiply.using(run_after=later).aenqueue(1, 1)
        result = await tasks.greet.aenqueue(long)
        while not (result := await tasks.greet.aget_result(result.id)).is_finished:
            await there.awaiting.wait_for_end(result.id, 10)
        return await tasks.multiply.aget_result(scheduled.id), result

    scheduled, result = asyncio.run(use())

    assert (scheduled.status, scheduled.task.run_after is not None) == ("READY", True)
    assert result.args == [long]
    assert result.return_value == f"hello {long}"


# -- calls, and who may be called


def test_a_task_called_by_other_code_is_a_plain_call(start_django: StartDjango) -> None:
    start_django()
    assert tasks.multiply(6, 7) == 42

    job = Queue().enqueue(tasks.no_task)

    assert job.wait(15).return_value() == 12


def test_an_allowlist_of_the_tasks_and_the_callback_is_enough(
    start_django: StartDjango, signals_file: Path
) -> None:
    allow = "tests.django.tasks.*,rqd.django.signals.*"
    start_django("--allow", allow, "--serializers", "json")

    assert ended(tasks.multiply.enqueue(6, 7)).return_value == 42
    result = ended(tasks.crash.enqueue())
    eventually(lambda: f"finished {result.id} FAILED 1 1\n" in signals_file.read_text(), 10)
