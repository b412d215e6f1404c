"""Daemons and paused queues: nothing starts, nobody wakes, and all goes on after."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import psutil

from rqd import Queue
from rqd.client.connection import Backend
from rqd.suspension import resume, suspend
from tests import jobs
from tests.daemons import StartDaemon
from tests.waiting import eventually, has_text

WAIT_S = 10.0


def test_a_pause_during_a_backlog_stops_two_daemons_and_wakes_neither(
    start_daemon: StartDaemon, there: Backend, tmp_path: Path
) -> None:
    history = tmp_path / "history"
    queue = Queue("low", there)
    for _ in range(2):
        start_daemon("--preload", "tests.jobs", queues="low,other", workers=2)
    queue.enqueue_many([Queue.prepare_data(jobs.append, [str(history), "x"]) for _ in range(300)])
    eventually(lambda: has_text(history), WAIT_S)

    queue.pause()
    eventually(lambda: not queue.started_job_registry.count, WAIT_S)
    done, left = len(history.read_text().split()), queue.count
    assert done + left == 300
    assert left > 0
    queue.enqueue(jobs.append, str(history), "x")

    # The last settle is followed by another turn, whose answer may be on its way still.
    eventually(at_rest(there), WAIT_S)
    # Two daemons' looks and beats: each looks once a second, so six scripts hold two looks of one.
    before, began = turns(there), time.monotonic()
    eventually(lambda: turns(there) >= before + 6, WAIT_S)
    assert time.monotonic() - began > 1.0
    assert queue.count == left + 1
    other = Queue("other", there).enqueue(jobs.multiply, 6, 7)
    assert other.latest_result(WAIT_S) is not None

    queue.resume()
    eventually(lambda: len(history.read_text().split()) == 301, 3 * WAIT_S)


def turns(there: Backend) -> int:
    """Counts the scripts that the server has run."""
    told = there.store.redis.info("commandstats")
    return int(told["cmdstat_evalsha"]["calls"])


def at_rest(there: Backend) -> Callable[[], bool]:
    """Returns a condition: no script has run for 0.3 s, as between two looks of idle masters."""
    seen, since = turns(there), time.monotonic()

    def is_at_rest() -> bool:
        nonlocal seen, since
        if (count := turns(there)) != seen:
            seen, since = count, time.monotonic()
        return time.monotonic() - since >= 0.3

    return is_at_rest


def test_a_suspended_daemon_says_so_and_a_timed_suspension_ends_by_itself(
    start_daemon: StartDaemon, there: Backend, queue: Queue
) -> None:
    daemon = start_daemon(workers=2)

    def state() -> str:
        return there.views.masters()[0]["state"]

    def title() -> str:
        return " ".join(psutil.Process(daemon.pid).cmdline()).strip()

    held = queue.enqueue(time.sleep, WAIT_S)
    eventually(lambda: held.get_status() == "started", WAIT_S)
    suspend(there)
    eventually(lambda: state() == "suspended", 1.0)
    eventually(lambda: title() == "rqd: master [default] suspended 1/2 busy", 1.0, title)
    job = queue.enqueue(jobs.multiply, 6, 7)
    suspend(there, ttl=0.5)
    result = job.latest_result(timeout=2)
    assert result is not None
    assert result.return_value == 42
    eventually(lambda: state() in ("idle", "busy"), 1.0)
    resume(there)
