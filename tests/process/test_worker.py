"""`Worker(...).work()` from a user's own process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from rqd import Queue
from rqd.client.connection import Backend
from rqd.exceptions import ConfigurationError
from rqd.worker_pool import WorkerPool
from tests import jobs
from tests.daemons import ROOT
from tests.processes import bound_to_pytest, found_first
from tests.waiting import eventually

LIMIT_S = 30.0

SCRIPT = """
import sys
from rqd import Queue, Worker, use_redis
use_redis({url!r})
worker = Worker(map(Queue, ["high", "normal", "low"]))
sys.exit(0 if worker.{call} else 1)
"""
POOL = """
from rqd import Queue, SimpleWorker, use_redis
from rqd.worker_pool import WorkerPool
use_redis({url!r})
pool = WorkerPool(["high", Queue("low")], num_workers=2, worker_class=SimpleWorker)
pool.{call}
"""


def start(url: str, call: str, tmp_path: Path, text: str = SCRIPT) -> subprocess.Popen[str]:
    script = tmp_path / "worker.py"
    script.write_text(text.format(url=url, call=call))
    with (tmp_path / "log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, str(script)],
            cwd=ROOT,
            env={**os.environ, **found_first(ROOT)},
            stderr=log,
            text=True,
            preexec_fn=bound_to_pytest(LIMIT_S),
        )


def test_work_returns_when_the_queues_are_empty(there: Backend, tmp_path: Path) -> None:
    history = str(tmp_path / "history")
    for name in ("low", "normal", "high"):
        Queue(name, there).enqueue(jobs.append, history, name)
    worker = start(there.url, "work(logging_level='ERROR')", tmp_path)
    assert worker.wait(LIMIT_S) == 0
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert line.startswith("rqd: work() returns when its queues are empty, unlike RQ's: for a")
    assert "rqd start --queues high,normal,low, or write work_forever()" in line
    assert Path(history).read_text().split() == ["high", "normal", "low"]


def test_a_burst_that_was_asked_for_says_nothing(there: Backend, tmp_path: Path) -> None:
    worker = start(there.url, "work(True, logging_level='ERROR')", tmp_path)
    assert worker.wait(LIMIT_S) == 0
    assert (tmp_path / "log").read_text() == ""


def test_work_forever_goes_on_until_it_is_told_to_stop(there: Backend, tmp_path: Path) -> None:
    worker = start(there.url, "work_forever()", tmp_path)
    for _ in range(2):
        job = Queue("low", there).enqueue(jobs.multiply, 3, 4)
        result = job.latest_result(timeout=LIMIT_S)
        assert result is not None
        assert result.return_value == 12
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(LIMIT_S) == 0


def test_work_ends_by_itself_after_so_many_jobs_or_so_long_without_any(
    there: Backend, tmp_path: Path
) -> None:
    queue = Queue("low", there)
    enqueued = [queue.enqueue(jobs.multiply, 3, 4) for _ in range(3)]
    assert start(there.url, "work(False, max_jobs=2)", tmp_path).wait(LIMIT_S) == 0
    assert [job.is_finished for job in enqueued] == [True, True, False]

    assert start(there.url, "work(False, max_idle_time=0.5)", tmp_path).wait(LIMIT_S) == 0
    assert enqueued[2].is_finished


def test_a_pool_runs_as_many_jobs_at_once_until_it_is_told_to_stop(
    there: Backend, tmp_path: Path, fifo: str
) -> None:
    pool = start(there.url, "start()", tmp_path, POOL)
    fifos = {"high": fifo, "low": str(tmp_path / "second")}
    os.mkfifo(fifos["low"])
    held = [Queue(name, there).enqueue(jobs.hold, fifos[name]) for name in fifos]
    eventually(lambda: all(job.is_started for job in held), LIMIT_S)
    for path in fifos.values():
        Path(path).write_text("")
    assert [job.wait(LIMIT_S).result for job in held] == ["done", "done"]
    pool.send_signal(signal.SIGTERM)
    assert pool.wait(LIMIT_S) == 0


def test_a_pool_with_burst_returns_when_the_queues_are_empty(
    there: Backend, tmp_path: Path
) -> None:
    job = Queue("low", there).enqueue(jobs.multiply, 3, 4)
    assert (
        start(there.url, "start(burst=True, logging_level='ERROR')", tmp_path, POOL).wait(LIMIT_S)
        == 0
    )
    assert job.is_finished
    with pytest.raises(ConfigurationError, match="worker_class="):
        WorkerPool("low", there, worker_class=dict)  # type: ignore[arg-type]  # what is refused


def test_the_daemon_stops_when_its_caller_is_killed(there: Backend, tmp_path: Path) -> None:
    worker = start(there.url, "work_forever()", tmp_path)
    assert Queue("low", there).enqueue(jobs.multiply, 3, 4).latest_result(timeout=LIMIT_S)
    tree = psutil.Process(worker.pid).children(recursive=True)
    worker.kill()
    worker.wait(LIMIT_S)
    eventually(lambda: not any(p.is_running() and p.status() != "zombie" for p in tree), 5.0)
    assert '"how":"graceful"' in (tmp_path / "log").read_text()
