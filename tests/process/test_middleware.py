"""Code of the user's own in a daemon: middleware, exception handlers, a serializer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rqd import Queue, Worker
from rqd.client.connection import Backend
from rqd.exceptions import ConfigurationError
from rqd.job import Job
from rqd.results import Result
from tests import codec, jobs, middleware
from tests.daemons import StartDaemon

WAIT_S = 15.0


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "history"
    path.touch()
    monkeypatch.setenv("RQD_TEST_HISTORY", str(path))
    return path


def ended(job: Job[Any]) -> Result:
    result = job.latest_result(timeout=WAIT_S)
    assert result is not None
    return result


def test_middleware_nests_and_sees_arguments_results_and_errors(
    start_daemon: StartDaemon, queue: Queue, history: Path
) -> None:
    start_daemon("--middleware", "tests.middleware.outer,tests.middleware.inner")
    assert ended(queue.enqueue(middleware.divide_later, 6, 3, description="six")).return_value == 3
    assert history.read_text().splitlines() == [
        "outer divide_later (6, 3)",
        "divide",
        "inner 2.0 six",
        "outer is over",
    ]
    failed = ended(queue.enqueue(middleware.divide, 1, 0))
    assert failed.exc_string is not None
    assert "ZeroDivisionError" in failed.exc_string
    assert "ValueError: translated" in failed.exc_string


def test_a_middleware_that_raises_is_its_jobs_failure(
    start_daemon: StartDaemon, queue: Queue, history: Path
) -> None:
    start_daemon("--middleware", "tests.middleware.broken")
    failed = ended(queue.enqueue(middleware.divide, 1, 1))
    assert failed.cause == "raised RuntimeError: the middleware is broken"
    assert history.read_text() == ""


def test_exception_handlers_hear_what_jobs_raise_until_one_returns_false(
    start_daemon: StartDaemon, queue: Queue, history: Path
) -> None:
    handlers = ("report", "fail_to_report", "stop_if_divided", "report")
    daemon = start_daemon(
        "--exception-handler", ",".join(f"tests.middleware.{h}" for h in handlers)
    )
    assert ended(queue.enqueue(middleware.divide, 1, 0)).cause == (
        "raised ZeroDivisionError: division by zero"
    )
    ended(queue.enqueue("tests.jobs.nowhere"))
    ended(queue.enqueue(jobs.run_for_ever, job_timeout=0.2))
    assert history.read_text().splitlines() == [
        "divide",
        "report ZeroDivisionError divide True",
        *["report InvalidCallError nowhere True"] * 2,
        *["report JobTimeoutException run_for_ever True"] * 2,
    ]
    assert "LookupError: the handler is broken" in daemon.log()


def test_a_handler_of_rqs_changes_and_saves_the_meta(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    start_daemon("--exception-handler", "tests.middleware.mark")
    job = queue.enqueue(middleware.divide, 1, 0, meta={"page": 1})
    ended(job)
    assert job.get_meta() == {"page": 1, "handled": True}


def test_a_handler_that_hangs_or_dies_leaves_a_known_outcome(
    start_daemon: StartDaemon, queue: Queue, history: Path
) -> None:
    daemon = start_daemon("--exception-handler", "tests.middleware.hang_or_die")
    assert ended(queue.enqueue(jobs.fail)).cause == "crashed: SIGKILL"
    assert ended(queue.enqueue(middleware.divide, 1, 0, job_timeout=-1)).cause == (
        "raised ZeroDivisionError: division by zero"
    )
    assert "JobTimeoutException" in daemon.log()


@pytest.mark.parametrize(
    "name", ["tests.middleware.nowhere", "no_such_module.f", "tests.middleware.Layer"]
)
def test_a_name_without_a_function_ends_the_start(start_daemon: StartDaemon, name: str) -> None:
    daemon = start_daemon("--middleware", name)
    assert daemon.wait() == 78
    assert name.rpartition(".")[2] in daemon.log()


def test_a_worker_takes_handlers_and_middleware(there: Backend, history: Path) -> None:
    queue = Queue(connection=there)
    good, bad = queue.enqueue(middleware.divide, 6, 3), queue.enqueue(middleware.divide, 1, 0)
    worker = Worker(
        [queue], exception_handlers=[middleware.report], middleware=["tests.middleware.inner"]
    )
    assert worker.work()
    assert good.return_value() == 3
    assert bad.is_failed
    assert "report ZeroDivisionError divide True" in history.read_text()


def test_a_worker_refuses_what_a_daemon_could_not_find(there: Backend) -> None:
    with pytest.raises(ConfigurationError, match="is no function of a module: move it to a module"):
        Worker(["default"], connection=there, exception_handlers=jobs.Callable())


@pytest.mark.parametrize("serializer", ["tests.codec", codec])
def test_a_serializer_of_ones_own_carries_call_meta_and_result(
    start_daemon: StartDaemon, there: Backend, serializer: Any
) -> None:
    start_daemon()
    job = Queue(connection=there, serializer=serializer).enqueue(jobs.echo, (1, "a"), meta={"k": 1})
    assert ended(job).return_value == (1, "a")
    again = Job.fetch(job.id, there)
    assert again.args == ((1, "a"),)
    assert again.meta == {"k": 1}
    raw = there.store.redis.hget(f"{{rqd}}:job:{job.id}", "payload")
    assert isinstance(raw, bytes)
    assert raw.startswith(b"own:")
