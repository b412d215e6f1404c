"""A daemon stops as it is told, and nothing it started outlives it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from rqd import Queue
from rqd.client.connection import Backend
from rqd.job import Job, JobStatus
from rqd.store.connection import client_connection
from rqd.store.store import Store
from tests import jobs
from tests.cli.running import rqd
from tests.daemons import ROOT, StartDaemon, alive
from tests.lacking import ROOT_ALONE
from tests.servers import RedisServer
from tests.waiting import eventually, has_text

WAIT_S = 10.0


def started(job: Job[Any], path: Path) -> None:
    """Waits until the job's own code runs."""
    eventually(lambda: has_text(path), WAIT_S, f"{job} to run")


def release(fifo: str) -> None:
    with open(fifo, "w"):
        pass


def hold(queue: Queue, tmp_path: Path, fifo: str) -> Job[str]:
    history = tmp_path / "history"
    job = queue.enqueue(jobs.note_and_hold, str(history), fifo)
    started(job, history)
    return job


def test_term_lets_the_running_job_finish_and_claims_no_more(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path, fifo: str
) -> None:
    daemon = start_daemon()
    running = hold(queue, tmp_path, fifo)
    waiting = queue.enqueue(jobs.multiply, 1, 1)
    daemon.signal(signal.SIGTERM)
    eventually(lambda: "stopping" in daemon.log())
    daemon.signal(signal.SIGTERM)  # repeats change nothing
    release(fifo)
    assert daemon.wait() == 0
    assert running.return_value() == "done"
    assert waiting.get_status() is JobStatus.QUEUED
    assert not daemon.leftovers()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_signals_that_come_until_a_daemon_is_gone_do_not_end_it(
    start_daemon: StartDaemon, signum: int
) -> None:
    daemon = start_daemon(python=sys.executable)  # whose interpreter ends in its own time
    daemon.signal(signal.SIGTERM)
    eventually(lambda: "master stopped" in daemon.log(), 10.0)

    while daemon.running:
        daemon.signal(signum)

    assert daemon.wait() == 0


def test_an_idle_daemon_stops_at_once(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(workers=3)
    begun = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - begun < 1.0
    assert not daemon.leftovers()


def test_past_its_grace_a_job_is_put_back_uncharged_at_its_place(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path, fifo: str
) -> None:
    daemon = start_daemon("--grace", "0.2")
    job = hold(queue, tmp_path, fifo)
    queue.enqueue(jobs.multiply, 1, 1)
    assert daemon.stop() == 0
    assert_put_back(job, queue)
    assert not daemon.leftovers()


def assert_put_back(job: Job[str], queue: Queue) -> None:
    assert job.get_status() is JobStatus.QUEUED
    assert job.attempt == 0
    assert queue.get_job_position(job) == 0
    assert job.results() == []


def test_quit_kills_and_puts_back_within_two_seconds(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path, fifo: str
) -> None:
    daemon = start_daemon()
    job = hold(queue, tmp_path, fifo)
    queue.enqueue(jobs.multiply, 1, 1)
    begun = time.monotonic()
    daemon.signal(signal.SIGQUIT)
    assert daemon.wait() == 0
    assert time.monotonic() - begun < 2.0
    assert_put_back(job, queue)
    assert not daemon.leftovers()


def test_a_second_int_a_second_later_is_quit(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path, fifo: str
) -> None:
    daemon = start_daemon()
    job = hold(queue, tmp_path, fifo)
    daemon.signal(signal.SIGINT)
    eventually(lambda: "stopping" in daemon.log())
    daemon.signal(signal.SIGINT)  # typed once, delivered twice: too early to count
    begun = time.monotonic()
    eventually(lambda: time.monotonic() - begun > 1.1)
    assert daemon.running
    daemon.signal(signal.SIGINT)
    assert daemon.wait() == 0
    assert_put_back(job, queue)


def test_quit_after_term_does_not_wait_for_the_grace(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path, fifo: str, redis_url: str
) -> None:
    daemon = start_daemon()
    job = hold(queue, tmp_path, fifo)
    daemon.signal(signal.SIGTERM)
    eventually(lambda: " stopping  1/1 " in rqd("info", url=redis_url).out)
    daemon.signal(signal.SIGQUIT)
    assert daemon.wait(2.0) == 0
    assert_put_back(job, queue)


def test_a_put_back_job_runs_under_the_next_daemon(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path, fifo: str
) -> None:
    first = start_daemon()
    job = hold(queue, tmp_path, fifo)
    first.signal(signal.SIGQUIT)
    first.wait()
    start_daemon()
    release(fifo)
    assert job.wait(WAIT_S).return_value() == "done"
    job.refresh()
    assert job.attempt == 1


def test_ttin_and_ttou_change_the_number_of_workers(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    daemon = start_daemon(workers=1)

    def idle_children() -> int:
        return sum(title.endswith(" idle") for title in daemon.titles())

    eventually(lambda: idle_children() == 1)
    daemon.signal(signal.SIGTTIN)
    eventually(lambda: idle_children() == 2)
    daemon.signal(signal.SIGTTIN)
    eventually(lambda: idle_children() == 3)
    daemon.signal(signal.SIGTTOU)
    eventually(lambda: idle_children() == 2)
    for _ in range(3):  # never below one
        daemon.signal(signal.SIGTTOU)
    eventually(lambda: idle_children() == 1)
    assert queue.enqueue(jobs.multiply, 2, 2).wait(WAIT_S).return_value() == 4
    assert daemon.stop() == 0


def test_ttou_lets_a_busy_worker_finish_its_job(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path, fifo: str
) -> None:
    daemon = start_daemon(workers=2)
    other = tmp_path / "other"
    os.mkfifo(other)
    first = hold(queue, tmp_path, fifo)
    second = queue.enqueue(jobs.hold, str(other))
    eventually(lambda: second.is_started)
    daemon.signal(signal.SIGTTOU)
    eventually(lambda: "workers resized workers=1" in daemon.log())
    release(fifo)
    release(str(other))
    assert first.wait(WAIT_S).return_value() == "done"
    assert second.wait(WAIT_S).return_value() == "done"
    assert queue.enqueue(jobs.multiply, 2, 2).wait(WAIT_S).return_value() == 4


def spawn(queue: Queue, tmp_path: Path, fifo: str) -> tuple[psutil.Process, psutil.Process]:
    """A job that runs with a grandchild in its group, and one in a session of its own."""
    history = tmp_path / "history"
    job = queue.enqueue(jobs.spawn_and_hold, str(history), fifo)
    started(job, history)
    inside, escaped = (psutil.Process(int(pid)) for pid in history.read_text().split())
    # The program `setsid` runs already, and may not have come to it.
    eventually(lambda: os.getsid(escaped.pid) != os.getsid(inside.pid))
    return inside, escaped


def test_nothing_outlives_a_killed_master(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path, fifo: str
) -> None:
    daemon = start_daemon(workers=2)
    inside, escaped = spawn(queue, tmp_path, fifo)
    daemon.tree()
    daemon.signal(signal.SIGKILL)
    daemon.wait()
    eventually(lambda: not daemon.leftovers(), 2.0, lambda: str(daemon.leftovers()))
    assert not alive(inside)
    assert not alive(escaped)


def test_no_group_outlives_a_killed_master_though_its_zygote_stands_still(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path, fifo: str
) -> None:
    daemon = start_daemon(workers=2)
    inside, _ = spawn(queue, tmp_path, fifo)
    children = [p for title, p in daemon.titles().items() if title.startswith("rqd: worker")]
    zygote = daemon.zygote()
    zygote.suspend()
    daemon.signal(signal.SIGKILL)
    daemon.wait()
    busy = [p for p in [inside, *children] if p != zygote]
    eventually(lambda: not any(map(alive, busy)), 2.0, lambda: str(busy))
    # Unless the kernel has: its group is orphaned by its master's death where they share a session.
    with suppress(psutil.NoSuchProcess):
        zygote.resume()
    eventually(lambda: not daemon.leftovers(), 2.0)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGQUIT])
def test_a_stop_takes_along_what_jobs_left_behind(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path, fifo: str, signum: int
) -> None:
    daemon = start_daemon("--grace", "0.2")
    inside, escaped = spawn(queue, tmp_path, fifo)
    daemon.signal(signum)
    assert daemon.wait() == 0
    eventually(lambda: not alive(inside) and not alive(escaped), 2.0)
    assert not daemon.leftovers()


def test_what_a_job_leaves_in_its_group_dies_with_its_process(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path, fifo: str
) -> None:
    start_daemon()
    inside, _ = spawn(queue, tmp_path, fifo)
    release(fifo)
    eventually(lambda: not alive(inside), WAIT_S)


def test_a_lost_zygote_is_replaced_and_its_jobs_put_back_uncharged(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path, fifo: str
) -> None:
    daemon = start_daemon()
    job = hold(queue, tmp_path, fifo)
    daemon.zygote().kill()
    eventually(lambda: "zygote lost" in daemon.log())
    eventually(lambda: (tmp_path / "history").read_text().count("started") == 2)
    release(fifo)
    assert job.wait(WAIT_S).return_value() == "done"
    job.refresh()
    assert job.attempt == 1
    assert daemon.running


def test_a_job_past_its_time_is_killed_though_the_zygote_stands_still(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    daemon = start_daemon("--preload", "tests.jobs")
    job = queue.enqueue(jobs.swallow_timeouts, job_timeout=0.1)
    eventually(lambda: job.is_started)
    child = daemon.titled("rqd: worker 1 tests.jobs.swallow_timeouts")
    zygote = daemon.zygote()
    zygote.suspend()
    eventually(lambda: not alive(child), 8.0)
    zygote.resume()
    result = job.latest_result(timeout=WAIT_S)
    assert result is not None
    assert result.cause == "timed out after 0.1 s, killed as it did not stop"


@pytest.fixture
def lonely(own_server: RedisServer) -> Callable[[], Queue]:
    return lambda: Queue(connection=Backend(Store(client_connection(own_server.url)), ""))


def test_a_job_survives_an_outage_of_redis_and_is_settled_after_it(
    start_daemon: StartDaemon,
    own_server: RedisServer,
    lonely: Callable[[], Queue],
    tmp_path: Path,
    fifo: str,
) -> None:
    daemon = start_daemon(url=own_server.url)
    job = hold(lonely(), tmp_path, fifo)
    own_server.freeze()
    eventually(lambda: "redis is gone" in daemon.log(), 8.0)
    daemon.titled("rqd: master [default] 1/1 busy, redis gone")
    release(fifo)
    own_server.thaw()
    assert job.wait(WAIT_S).return_value() == "done"
    eventually(lambda: "redis is back" in daemon.log())
    daemon.titled("rqd: master [default] 0/1 busy")
    assert (tmp_path / "history").read_text().count("started") == 1


@pytest.mark.parametrize("how", ["frozen", "killed"])
def test_quit_is_obeyed_within_two_seconds_while_redis_is_gone(
    start_daemon: StartDaemon,
    own_server: RedisServer,
    lonely: Callable[[], Queue],
    tmp_path: Path,
    fifo: str,
    how: str,
) -> None:
    daemon = start_daemon(url=own_server.url)
    hold(lonely(), tmp_path, fifo)
    own_server.freeze() if how == "frozen" else own_server.kill()
    eventually(lambda: "redis is gone" in daemon.log(), 8.0)
    begun = time.monotonic()
    daemon.signal(signal.SIGQUIT)
    assert daemon.wait() == 75  # its jobs' put-back could not be recorded
    assert time.monotonic() - begun < 2.0
    assert not daemon.leftovers()
    own_server.thaw() if how == "frozen" else None


def test_an_idle_daemon_stops_at_once_while_redis_is_gone(
    start_daemon: StartDaemon, own_server: RedisServer, lonely: Callable[[], Queue]
) -> None:
    daemon = start_daemon("--grace", "60", url=own_server.url)
    assert lonely().enqueue(jobs.multiply, 3, 3).wait(WAIT_S).return_value() == 9
    daemon.titled("rqd: master [default] 0/1 busy")
    own_server.kill()
    eventually(lambda: "redis is still gone" in daemon.log(), 8.0)
    begun = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - begun < 5.0


def test_an_idle_daemon_survives_a_restart_of_redis(
    start_daemon: StartDaemon, own_server: RedisServer, lonely: Callable[[], Queue]
) -> None:
    daemon = start_daemon(url=own_server.url)
    own_server.restart()
    job = lonely().enqueue(jobs.multiply, 3, 3)
    assert job.wait(WAIT_S).return_value() == 9
    assert daemon.stop() == 0


def test_a_dead_masters_jobs_run_again_under_another(
    start_daemon: StartDaemon, queue: Queue, there: Backend, tmp_path: Path, fifo: str
) -> None:
    first = start_daemon()
    job = hold(queue, tmp_path, fifo)
    first.signal(signal.SIGKILL)
    first.wait()
    # Its lease would run for 15 s more: as if that time were over.
    there.store.redis.zadd(there.store.keys.leases, {job.id: 1})
    second = start_daemon()
    eventually(lambda: (tmp_path / "history").read_text().count("started") == 2, WAIT_S)
    release(fifo)
    assert job.wait(WAIT_S).return_value() == "done"
    job.refresh()
    assert job.attempt == 1
    assert "job of a lost master taken back" in second.log()


def test_a_job_whose_lease_is_anothers_is_killed(
    start_daemon: StartDaemon, queue: Queue, there: Backend, tmp_path: Path, fifo: str
) -> None:
    daemon = start_daemon()
    job = hold(queue, tmp_path, fifo)
    job.delete()
    eventually(lambda: "lease lost" in daemon.log(), WAIT_S)
    eventually(lambda: "outcome refused" in daemon.log(), WAIT_S)
    assert queue.enqueue(jobs.multiply, 2, 2).wait(WAIT_S).return_value() == 4


def test_a_master_without_free_descriptors_keeps_its_zygote_and_its_jobs(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path, fifo: str
) -> None:
    daemon = start_daemon(workers=2)
    long = hold(queue, tmp_path, fifo)
    usual = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir(f"/proc/{daemon.pid}/fd")))
    # The next child's two arrive before those of the one before it are closed.
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (highest + 1, usual[1]))
    quick = [queue.enqueue(jobs.multiply, number, 1) for number in range(3)]
    eventually(lambda: "too many open files" in daemon.log(), WAIT_S)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, usual)
    assert all(job.latest_result(timeout=WAIT_S) for job in quick)
    release(fifo)
    assert long.wait(WAIT_S).return_value() == "done"
    assert (tmp_path / "history").read_text().count("started") == 1
    assert "zygote lost" not in daemon.log()


def test_a_master_without_a_free_descriptor_ends_what_came_of_it_and_with_its_own_status(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path, fifo: str
) -> None:
    daemon = start_daemon()
    _, escaped = spawn(queue, tmp_path, fifo)
    daemon.zygote().suspend()  # which would kill it first
    usual = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (3, usual[1]))
    daemon.signal(signal.SIGQUIT)
    assert daemon.wait() == os.EX_TEMPFAIL  # the zygote has not told of the job's end
    assert not alive(escaped)


ANOTHERS = """
import os, subprocess
from rqd.daemon.host.orphans import kill_descendants
anothers = subprocess.Popen(["sleep", "1000"])
os.setresuid(65534, 65534, 0)
ours = subprocess.Popen(["sleep", "1000"])
kill_descendants(set())
os.setresuid(0, 0, 0)
assert anothers.poll() is None
anothers.kill()
anothers.wait()
assert not os.path.exists(f"/proc/{ours.pid}")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason=ROOT_ALONE)
def test_the_end_of_a_master_passes_over_what_has_become_another_users() -> None:
    """Such as what a job has started by sudo."""
    subprocess.run([sys.executable, "-c", ANOTHERS], check=True, timeout=20, cwd=ROOT)


def test_a_job_that_kills_its_zygote_is_given_up_and_its_neighbours_complete(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path, fifo: str
) -> None:
    daemon = start_daemon(workers=2)
    neighbour = hold(queue, tmp_path, fifo)
    poison = queue.enqueue(jobs.kill_the_zygote)
    # Both were there at two losses; now each runs alone, the neighbour first.
    eventually(lambda: daemon.log().count("zygote booted") == 3, WAIT_S)
    eventually(lambda: any("note_and_hold" in title for title in daemon.titles()), WAIT_S)
    after = [queue.enqueue(jobs.multiply, n, n) for n in range(4)]
    assert all(job.get_status() is JobStatus.QUEUED for job in after)
    release(fifo)
    assert neighbour.wait(WAIT_S).return_value() == "done"
    assert [job.wait(WAIT_S).return_value() for job in after] == [0, 1, 4, 9]
    poison.refresh()
    assert poison.is_failed
    assert f"job failed, abandoned job_id={poison.id}" in daemon.log()
    assert daemon.log().count("zygote lost") == 3


def test_a_stop_after_fewer_workers_and_a_new_zygote_lets_the_job_finish(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path, fifo: str
) -> None:
    """The new zygote has never heard of the place that was taken away before its time."""
    daemon = start_daemon(workers=2)
    daemon.signal(signal.SIGTTOU)
    eventually(lambda: "workers resized workers=1" in daemon.log())
    daemon.zygote().kill()
    eventually(lambda: daemon.log().count("zygote booted") == 2)
    job = hold(queue, tmp_path, fifo)
    daemon.signal(signal.SIGTERM)
    eventually(lambda: "stopping" in daemon.log())
    release(fifo)
    assert daemon.wait() == 0
    assert job.return_value() == "done"
    assert daemon.log().count("zygote lost") == 1


def test_quit_reaches_a_job_that_has_left_its_group(
    start_daemon: StartDaemon, queue: Queue, fifo: str
) -> None:
    daemon = start_daemon("--preload", "tests.jobs")
    job = queue.enqueue(jobs.leave_the_group_and_hold, fifo)
    child = daemon.titled("rqd: worker 1 tests.jobs.leave_the_group_and_hold")
    eventually(lambda: os.getpgid(child.pid) != child.pid)
    daemon.signal(signal.SIGQUIT)
    assert daemon.wait(2.0) == 0
    assert job.get_status() is JobStatus.QUEUED
    assert not daemon.leftovers()


def test_hundreds_of_workers_all_get_their_children(
    start_daemon: StartDaemon, queue: Queue, there: Backend
) -> None:
    """More frames than a socket holds, and more descriptors than a message takes."""
    many = 300
    daemon = start_daemon("--preload", "tests.jobs", workers=many)

    def idle() -> int:
        rows = there.views.workers(there.views.masters())
        return sum(row.get("state") == "idle" and row.get("pid") != "0" for row in rows)

    eventually(lambda: idle() == many, 20.0, lambda: f"{idle()} are idle")
    zygote = daemon.zygote()
    zygote.suspend()  # so that it sees all ends at once
    made = queue.enqueue_many([Queue.prepare_data(jobs.multiply, (1, 1)) for _ in range(many)])
    for job in made:
        job.wait(20)
    zygote.resume()
    again = queue.enqueue_many([Queue.prepare_data(jobs.multiply, (2, 2)) for _ in range(many)])
    for job in again:
        assert job.wait(20).return_value() == 4
    assert "zygote lost" not in daemon.log()
    assert daemon.stop(20) == 0
