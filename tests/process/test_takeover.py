"""A master that was killed, and the one that comes after it on the same host."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from rqd import Queue
from rqd.client.connection import Backend
from rqd.store.messages import Turn
from tests import jobs
from tests.daemons import Daemon, StartDaemon, alive
from tests.waiting import eventually, has_text

WAIT_S = 10.0
# From the new master's start to the job's second start; a lease would take up to fifteen.
SOON_S = 5.0


def kill_at_once(daemon: Daemon) -> None:
    """SIGKILL to master and zygote, neither of which can do anything about the other's death."""
    zygote = daemon.zygote()
    zygote.suspend()
    os.kill(daemon.pid, signal.SIGSTOP)
    zygote.kill()
    daemon.signal(signal.SIGKILL)
    daemon.wait()


def forget(there: Backend, master: str) -> None:
    """As it is when nobody was there for twenty seconds: its rows have expired, its leases are
    over, and the next beat finds that the clock has leapt.
    """
    redis: Any = there.store.redis
    keys = there.store.keys
    redis.delete(keys.master(master), keys.worker(master, 1))
    earlier = int(time.time() * 1e6) - 20_000_000
    redis.hset(f"{keys.prefix}counters", "seen", str(earlier))
    for job_id in redis.zrange(keys.leases, 0, -1):
        redis.zadd(keys.leases, {job_id: earlier + 15_000_000})


def masters(there: Backend) -> list[str]:
    return sorted(row["name"] for row in there.views.masters())


@pytest.mark.parametrize("name", [["--name", "alpha"], []], ids=["chosen", "default"])
def test_a_killed_master_s_job_runs_again_at_once_under_its_successor(
    start_daemon: StartDaemon, queue: Queue, fifo: str, name: list[str]
) -> None:
    first = start_daemon(*name)
    job = queue.enqueue(jobs.hold, fifo)
    eventually(lambda: job.is_started, WAIT_S)
    first.signal(signal.SIGKILL)
    first.wait()

    began = time.monotonic()
    second = start_daemon(*name)
    eventually(lambda: "taken back" in second.log(), SOON_S)
    Path(fifo).write_text("")
    result = job.latest_result(timeout=SOON_S)

    assert time.monotonic() - began < SOON_S
    assert result is not None
    assert result.return_value == "done"
    assert f"id={job.id}" in second.log()
    assert f"pid={first.pid}" in second.log()


@pytest.mark.parametrize("name", [["--name", "alpha"], []], ids=["chosen", "default"])
def test_a_killed_master_s_job_runs_again_at_once_when_redis_has_forgotten_its_row(
    start_daemon: StartDaemon, there: Backend, queue: Queue, tmp_path: Path, name: list[str]
) -> None:
    first = start_daemon(*name)
    noted, fifo = tmp_path / "pid", tmp_path / "fifo"
    os.mkfifo(fifo)
    job = queue.enqueue(jobs.spawn_and_hold, str(noted), str(fifo))
    eventually(lambda: has_text(noted), WAIT_S)
    stray = psutil.Process(int(noted.read_text().split()[-1]))
    (master,) = masters(there)
    kill_at_once(first)
    forget(there, master)

    second = start_daemon(*name)
    eventually(lambda: "taken back" in second.log(), SOON_S)

    assert not alive(stray)
    assert f"id={job.id}" in second.log()
    assert f"pid={first.pid}" in second.log()
    second.signal(signal.SIGQUIT)
    assert second.wait() == 0


def test_a_start_that_fails_in_between_keeps_the_proof_of_the_death_before_it(
    start_daemon: StartDaemon, there: Backend, queue: Queue, fifo: str
) -> None:
    first = start_daemon("--name", "alpha")
    job = queue.enqueue(jobs.hold, fifo)
    eventually(lambda: job.is_started, WAIT_S)
    first.signal(signal.SIGKILL)
    first.wait()
    forget(there, "alpha")
    # As a master on another host, which has the name for a while.
    there.store.hello("alpha", "boot of another", 15, {"host": "elsewhere", "pid": 1})
    refused = start_daemon("--name", "alpha")
    assert refused.wait() == 69
    assert job.get_status(refresh=True) == "started"
    there.store.bye("alpha", "boot of another", 1)

    second = start_daemon("--name", "alpha")
    eventually(lambda: "taken back" in second.log(), SOON_S)

    assert f"id={job.id}" in second.log()
    assert f"pid={first.pid}" in second.log()


def test_jobs_of_a_master_of_this_name_on_another_host_are_not_taken_back_by_this_one_s_lock(
    start_daemon: StartDaemon, there: Backend, queue: Queue, fifo: str, tmp_path: Path
) -> None:
    elsewhere = {"XDG_STATE_HOME": str(tmp_path / "another host's disk")}
    here = start_daemon("--name", "alpha")
    here.signal(signal.SIGKILL)
    here.wait()
    forget(there, "alpha")
    there_too = start_daemon("--name", "alpha", env=elsewhere)
    job = queue.enqueue(jobs.hold, fifo)
    eventually(lambda: job.is_started, WAIT_S)
    os.kill(there_too.pid, signal.SIGSTOP)  # cut off from Redis, but alive
    there.store.redis.delete(there.store.keys.master("alpha"))

    second = start_daemon("--name", "alpha")

    assert f"pid={here.pid}" in second.log()
    assert "taken back" not in second.log()
    assert job.get_status(refresh=True) == "started"


def test_masters_of_a_host_have_its_name_and_a_number(
    start_daemon: StartDaemon, there: Backend
) -> None:
    host = socket.gethostname()
    first, second = start_daemon(), start_daemon()
    assert masters(there) == [f"{host}.1", f"{host}.2"]
    first.stop()
    start_daemon()
    assert masters(there) == [f"{host}.1", f"{host}.2"]
    assert second.running


def test_a_name_in_use_on_this_host_is_refused_even_if_redis_has_forgotten_it(
    start_daemon: StartDaemon, there: Backend
) -> None:
    first = start_daemon("--name", "alpha")
    there.store.redis.delete(there.store.keys.master("alpha"))

    second = start_daemon("--name", "alpha")

    assert second.wait() == 69
    assert (
        f"a master named 'alpha' is alive (host {socket.gethostname()}, pid {first.pid})"
        in second.log()
    )


def test_a_name_in_use_on_another_host_is_not_taken_over(
    start_daemon: StartDaemon, there: Backend, tmp_path: Path
) -> None:
    host = socket.gethostname()
    elsewhere = {"XDG_STATE_HOME": str(tmp_path / "another host's disk")}
    start_daemon("--name", "alpha")
    start_daemon()

    refused = start_daemon("--name", "alpha", env=elsewhere)
    start_daemon(env=elsewhere)

    assert refused.wait() == 69
    assert "a master named 'alpha' is alive" in refused.log()
    assert masters(there) == ["alpha", f"{host}.1", f"{host}.2"]


@pytest.mark.parametrize("job", [jobs.spawn_and_hold, jobs.daemonize_and_hold])
def test_what_a_job_left_in_a_session_of_its_own_is_killed_before_its_job_runs_again(
    start_daemon: StartDaemon,
    queue: Queue,
    fifo: str,
    tmp_path: Path,
    job: Callable[[str, str], str],
) -> None:
    first = start_daemon("--name", "alpha")
    noted = tmp_path / "pid"
    queue.enqueue(job, str(noted), fifo)
    eventually(lambda: has_text(noted), WAIT_S)
    stray = psutil.Process(int(noted.read_text().split()[-1]))
    kill_at_once(first)
    assert alive(stray)

    second = start_daemon("--name", "alpha")

    assert not alive(stray)
    # The job runs again, and leaves another one: a stop takes it along, a kill might not.
    second.signal(signal.SIGQUIT)
    assert second.wait() == 0


def test_a_master_without_a_lock_runs_and_says_so(start_daemon: StartDaemon, queue: Queue) -> None:
    daemon = start_daemon(env={"XDG_STATE_HOME": "/proc/nowhere"})
    assert queue.enqueue(jobs.multiply, 2, 3).latest_result(timeout=WAIT_S)
    assert "no lock on the name" in daemon.log()
    assert "set XDG_STATE_HOME to another folder" in daemon.log()
    assert daemon.stop() == 0


def test_a_master_whose_lock_was_removed_runs_jobs_after_a_reload_and_a_loss_of_its_zygote(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path
) -> None:
    daemon = start_daemon()
    (lock,) = (tmp_path / "state" / "rqd" / "masters").glob("*.lock")
    lock.unlink()

    daemon.signal(signal.SIGHUP)
    eventually(lambda: " reloaded " in daemon.log(), WAIT_S, daemon.log)
    daemon.zygote().kill()

    assert queue.enqueue(jobs.multiply, 2, 3).wait(WAIT_S).return_value() == 6


def test_a_start_that_fails_leaves_no_lock_behind(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon(url="redis://127.0.0.1:1")
    assert daemon.wait() == 69
    assert not list((tmp_path / "state" / "rqd" / "masters").iterdir())


def test_a_stop_leaves_no_lock_behind(start_daemon: StartDaemon, tmp_path: Path) -> None:
    daemon = start_daemon()
    folder = tmp_path / "state" / "rqd" / "masters"
    assert list(folder.iterdir())
    daemon.stop()
    assert not list(folder.iterdir())


def test_a_lost_host_s_job_runs_again_soon_after_its_lease(
    start_daemon: StartDaemon, there: Backend, queue: Queue, tmp_path: Path
) -> None:
    job = queue.enqueue(jobs.append, str(tmp_path / "ran"), "once")
    lease_us = 1_500_000
    request = there.store.request_id()
    lost = Turn(request, "elsewhere", lease_us, free_workers=(1,), queues=("default",))
    claimed = there.store.turn(lost)
    assert [claim.id for claim in claimed.claims] == [job.id]

    start_daemon()
    assert job.latest_result(timeout=WAIT_S)

    job.refresh()
    assert job.started_at is not None
    lease_over = claimed.now_us + lease_us
    assert 0 < job.started_at.timestamp() * 1e6 - lease_over < 2e6
