"""The order of a daemon's queues, as it was started."""

from __future__ import annotations

from pathlib import Path

import pytest

from rqd import Queue
from rqd.client.connection import Backend
from rqd.worker import Worker
from tests import jobs
from tests.daemons import StartDaemon


@pytest.fixture
def history(there: Backend, tmp_path: Path) -> Path:
    """Two jobs in each of three queues, which write their queue's name here; one goes first."""
    path = tmp_path / "history"
    for name in ("a", "b", "c"):
        for _ in range(2):
            Queue(name, there).enqueue(jobs.append, str(path), name)
    Queue("b", there).enqueue(jobs.append, str(path), "first-of-b", priority=7)
    return path


def test_a_daemon_takes_its_queues_in_rotation(start_daemon: StartDaemon, history: Path) -> None:
    daemon = start_daemon("--burst", "--precedence", "round-robin", queues="a,b,c")
    assert daemon.wait() == 0
    assert history.read_text().split() == ["a", "first-of-b", "c", "a", "b", "c", "b"]


def test_a_daemon_takes_its_queues_by_weight(start_daemon: StartDaemon, history: Path) -> None:
    daemon = start_daemon("--burst", queues="a:9,b,c:2")
    assert daemon.wait() == 0
    assert sorted(history.read_text().split()) == ["a", "a", "b", "b", "c", "c", "first-of-b"]
    assert "queues=a,b,c" in daemon.log()


def test_work_takes_a_strategy_of_rqs(there: Backend, history: Path) -> None:
    worker = Worker([Queue(name, there) for name in ("a", "b", "c")])
    assert worker.work(dequeue_strategy="round_robin")
    assert history.read_text().split()[:3] == ["a", "first-of-b", "c"]
