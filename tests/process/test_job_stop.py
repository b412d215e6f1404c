"""A running job is stopped by its id: softly, then hard, and for good."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from rqd import Queue, Retry
from rqd.command import send_kill_horse_command, send_stop_job_command
from rqd.daemon.zygote.protocol import STOP_SIGNAL
from rqd.job import Job
from rqd.results import Result
from rqd.store.scripts import load_script
from tests import jobs
from tests.daemons import StartDaemon
from tests.relay import Relay
from tests.servers import RedisServer
from tests.waiting import eventually

WAIT_S = 10.0
SOFT_S = 0.2


def run(queue: Queue, path: Path, rounds: int = 1, **options: Any) -> Job[Any]:
    """A job that runs, and can only be stopped."""
    job = queue.enqueue(jobs.note_a_stop, str(path), rounds, **options)
    eventually(lambda: path.exists() and "started" in path.read_text(), WAIT_S)
    return job


def ended(job: Job[Any]) -> Result:
    result = job.latest_result(timeout=WAIT_S)
    assert result is not None
    return result


def stopped(job: Job[Any]) -> Result:
    result = job.latest_result(timeout=WAIT_S)
    assert result is not None
    assert job.is_stopped, job.get_status()
    assert result.type == "stopped"
    return result


def is_pending(pid: int, signum: int) -> bool:
    """Whether a process that is stopped has this signal to hear."""
    (line,) = re.findall(r"ShdPnd:\s+(\w+)", Path(f"/proc/{pid}/status").read_text())
    return bool(int(line, 16) & 1 << signum - 1)


def test_a_stop_is_an_exception_in_the_job_within_200_ms_and_no_retry(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path
) -> None:
    start_daemon("--jobs-per-child", "5")

    # The quickest of three: the machine may be busy with something else.
    assert min(stop_once(queue, tmp_path / f"history-{n}") for n in range(3)) < SOFT_S

    # Its worker goes on.
    assert ended(queue.enqueue(jobs.multiply, 6, 7)).return_value == 42


def stop_once(queue: Queue, history: Path) -> float:
    """How long it took until a running job heard of it, in seconds."""
    job = run(queue, history, retry=Retry(max=3), job_timeout=-1)
    asked_at = time.monotonic()
    send_stop_job_command(queue.connection, job.id, by="the test")
    result = stopped(job)
    assert result.cause == job.cause == "stopped by the test"
    assert "JobStoppedException" in (result.exc_string or "")
    assert (job.attempt, job.retries_left) == (1, 3)
    return float(history.read_text().split("stopped-at-")[1]) - asked_at


def test_a_job_that_swallows_the_exception_is_killed_when_the_grace_is_over(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path
) -> None:
    start_daemon()
    job = run(queue, tmp_path / "history", rounds=9)
    job.stop(grace="0.3", by="the test")
    assert stopped(job).cause == "stopped by the test, killed"
    assert (tmp_path / "history").read_text().count("stopped-at-") == 1


def test_without_grace_a_job_is_killed_at_once(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path
) -> None:
    start_daemon()
    job = run(queue, tmp_path / "history", rounds=9)
    job.cancel(stop=True)
    job.stop(grace=0, by="another")
    stopped(job)


def test_a_stop_that_comes_before_the_job_begins_is_not_lost(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path
) -> None:
    daemon = start_daemon()
    child = daemon.titled("rqd: worker 1")
    child.suspend()
    job = queue.enqueue(jobs.append, str(tmp_path / "history"), "ran")
    eventually(lambda: job.is_started, WAIT_S)
    job.stop(grace=60)
    eventually(lambda: is_pending(child.pid, STOP_SIGNAL), WAIT_S)
    child.resume()
    assert "JobStoppedException" in (stopped(job).exc_string or "")
    assert not (tmp_path / "history").exists()


def test_a_stop_that_a_master_was_not_told_of_comes_with_its_next_beat(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path
) -> None:
    daemon = start_daemon()
    job = run(queue, tmp_path / "history", job_timeout=-1)
    # As where Redis comes back after rows have run out.
    redis = queue.connection.store.redis
    redis.delete(*redis.keys("{rqd}:master:*"))

    send_stop_job_command(queue.connection, job.id, by="the test")

    assert stopped(job).return_value is None
    assert daemon.log().count("job is to stop") == 1


def test_a_stop_that_comes_before_the_answer_of_the_turn_that_claimed_its_job_is_not_lost(
    start_daemon: StartDaemon, server: RedisServer, queue: Queue, tmp_path: Path
) -> None:
    queue.connection.store.redis.script_load(load_script("turn").source)
    job = queue.enqueue(jobs.note_a_stop, str(tmp_path / "history"), job_timeout=-1)
    with Relay(server.folder / "relay.sock", server.socket_path) as relay:
        relay.keep_back = load_script("turn").sha.encode()
        start_daemon(url=relay.url)
        assert relay.is_kept.wait(WAIT_S)
        assert job.is_started

        job.stop(grace=60, by="the test")

        assert stopped(job).cause == "stopped by the test"


@pytest.mark.parametrize("how", ["master", "zygote", "daemon stops"])
def test_whoever_is_lost_in_the_middle_of_a_stop_the_job_does_not_run_again(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path, how: str
) -> None:
    daemon = start_daemon("--name", "alpha", "--grace", "0.1")
    history = tmp_path / "history"
    job = run(queue, history, rounds=9)
    job.stop(grace=60, by="the test")
    eventually(lambda: "stopped-at-" in history.read_text(), WAIT_S)
    if how == "zygote":
        daemon.zygote().kill()
    elif how == "master":
        daemon.signal(signal.SIGKILL)
        daemon.wait()
        start_daemon("--name", "alpha")
    else:
        daemon.stop()
    result = stopped(job)
    assert (result.cause or "").startswith("stopped by the test")
    assert history.read_text().count("started") == 1


def test_a_killed_horse_counts_as_a_crash(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path
) -> None:
    start_daemon("--name", "alpha")
    job = run(queue, tmp_path / "history")
    send_kill_horse_command(queue.connection, "alpha:1")
    assert ended(job).cause == "crashed: SIGKILL"
