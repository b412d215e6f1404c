"""What an operator's signals do to a daemon: pause, resume, kill the running jobs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from rqd import Queue
from rqd.client.connection import Backend
from rqd.client.snapshot import snapshot
from rqd.job import Job, JobStatus
from tests import jobs
from tests.daemons import Daemon, StartDaemon
from tests.process.test_zygotes import write_slow
from tests.waiting import eventually, has_text

WAIT_S = 10.0


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """What hears a daemon's STATUS=, and is known to it by its path."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(WAIT_S)
        yield listening


def hear(systemd: socket.socket, status: str) -> None:
    while f"STATUS={status}".encode() not in systemd.recv(4096).splitlines():
        continue


def hold(queue: Queue, tmp_path: Path, fifo: str) -> Job[str]:
    job = queue.enqueue(jobs.note_and_hold, str(tmp_path / "history"), fifo)
    eventually(lambda: has_text(tmp_path / "history"), WAIT_S)
    return job


def release(fifo: str) -> None:
    with open(fifo, "w"):
        pass


def states(there: Backend) -> tuple[Any, ...]:
    """As `rqd info` has them: the only master's, its workers'."""
    seen = snapshot(there.views)
    return tuple(row["state"] for row in (*seen.masters, *seen.workers))


# Stands before the real one, so that a start is at its imports for as long as a test wants.
SLOW_CLICK = """
import os, sys
open(os.environ["GATE"]).read()
sys.path.remove(os.path.dirname(__file__))
del sys.modules["click"]
import click
"""


@contextmanager
def told_at_its_imports(
    signum: int, url: str, folder: Path, gate: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon that has got a signal before it had handlers."""
    (folder / "modules").mkdir()
    (folder / "modules" / "click.py").write_text(SLOW_CLICK)
    env = {**os.environ, "PYTHONPATH": str(folder / "modules"), "GATE": gate}
    command = [sys.executable, "-m", "rqd", "start", "--url", url]
    with (
        (folder / "log").open("wb") as output,
        subprocess.Popen(command, stderr=output, env=env) as daemon,
    ):
        try:
            with open(gate, "w"):
                daemon.send_signal(signum)
            yield daemon
        finally:
            daemon.kill()


def paused(daemon: Daemon, signum: int = signal.SIGUSR2) -> None:
    daemon.signal(signum)
    eventually(lambda: "paused" in daemon.log(), WAIT_S)


def test_usr2_pauses_claims_and_cont_resumes_them(
    start_daemon: StartDaemon,
    there: Backend,
    queue: Queue,
    tmp_path: Path,
    fifo: str,
    systemd: socket.socket,
) -> None:
    daemon = start_daemon(workers=2, env={"NOTIFY_SOCKET": systemd.getsockname()})
    running = hold(queue, tmp_path, fifo)
    redis, keys = there.store.redis, there.store.keys

    paused(daemon)
    assert f"kill -CONT {daemon.pid}" in daemon.log()
    waiting = queue.enqueue(jobs.multiply, 6, 7)
    # The marker has woken it, and is there again for others.
    eventually(lambda: redis.exists(keys.wake_queue("default")), WAIT_S)
    daemon.titled("rqd: master [default] paused 1/2 busy")
    hear(systemd, "paused 1/2 busy")
    eventually(lambda: sorted(states(there)) == ["busy", "paused", "paused"], WAIT_S)

    # Its running job's lease is renewed, and what else is asked of it done.
    lease = redis.zscore(keys.leases, running.id)
    daemon.signal(signal.SIGWINCH)
    daemon.signal(signal.SIGTTIN)
    eventually(lambda: "workers resized workers=3" in daemon.log(), WAIT_S)
    eventually(lambda: redis.zscore(keys.leases, running.id) != lease, WAIT_S)
    daemon.signal(signal.SIGHUP)
    eventually(lambda: "reloaded" in daemon.log(), WAIT_S)
    release(fifo)
    assert running.wait(WAIT_S).return_value() == "done"
    daemon.titled("rqd: master [default] paused 0/3 busy")
    assert waiting.get_status() is JobStatus.QUEUED

    daemon.signal(signal.SIGCONT)
    assert waiting.wait(WAIT_S).return_value() == 42
    hear(systemd, "0/3 busy")
    eventually(lambda: states(there) == ("idle", "idle", "idle", "idle"), WAIT_S)
    assert daemon.log().count("paused") == daemon.log().count("resumed") == 1


def test_ctrl_z_pauses_and_a_stop_as_systemd_sends_it_is_one(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path, fifo: str
) -> None:
    daemon = start_daemon(workers=2)
    running = hold(queue, tmp_path, fifo)
    paused(daemon, signal.SIGTSTP)
    assert psutil.Process(daemon.pid).status() != psutil.STATUS_STOPPED
    waiting = queue.enqueue(jobs.multiply, 6, 7)

    daemon.signal(signal.SIGTERM)
    daemon.signal(signal.SIGCONT)  # systemd sends it behind each SIGTERM
    eventually(lambda: "stopping" in daemon.log(), WAIT_S)
    daemon.signal(signal.SIGUSR2)
    daemon.signal(signal.SIGCONT)
    daemon.titled("rqd: master [default] stopping, 1 running")
    release(fifo)

    assert daemon.wait() == 0
    assert running.return_value() == "done"
    assert waiting.get_status() is JobStatus.QUEUED


def test_usr1_kills_the_running_jobs_which_run_again_uncharged(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path, fifo: str
) -> None:
    daemon = start_daemon()
    job = hold(queue, tmp_path, fifo)
    behind = queue.enqueue(jobs.multiply, 6, 7)
    history = tmp_path / "history"

    daemon.signal(signal.SIGUSR1)  # back to its place, before the other, and claimed again
    eventually(lambda: history.read_text().count("started") == 2, WAIT_S)
    assert behind.get_status() is JobStatus.QUEUED

    paused(daemon)
    daemon.signal(signal.SIGUSR1)  # now for another daemon
    eventually(lambda: job.get_status() is JobStatus.QUEUED, WAIT_S)
    job.refresh()
    assert (job.attempt, queue.get_job_position(job)) == (0, 0)
    assert job.results() == []

    start_daemon()
    eventually(lambda: history.read_text().count("started") == 3, WAIT_S)
    release(fifo)
    assert job.wait(WAIT_S).return_value() == "done"
    behind.wait(WAIT_S)
    job.refresh()
    assert job.attempt == 1
    assert daemon.stop() == 0


def test_cont_after_a_standstill_looks_at_the_leases_at_once(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path, fifo: str
) -> None:
    daemon = start_daemon()
    job = hold(queue, tmp_path, fifo)
    daemon.signal(signal.SIGSTOP)
    job.delete()  # its lease is another's, as if it had run out
    daemon.signal(signal.SIGCONT)
    eventually(lambda: "lease lost" in daemon.log(), 2.0)
    assert queue.enqueue(jobs.multiply, 2, 2).wait(WAIT_S).return_value() == 4


def is_unresponsive(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_STOPPED
    except psutil.NoSuchProcess:
        return False  # SIGTTOU asks for a worker less


@pytest.mark.parametrize("signum", [signal.SIGTTIN, signal.SIGTTOU, signal.SIGTSTP])
def test_a_masters_signal_that_hits_every_process_has_none_stand_still(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path, fifo: str, signum: int
) -> None:
    daemon = start_daemon(workers=2)
    job = hold(queue, tmp_path, fifo)
    processes = psutil.Process(daemon.pid).children(recursive=True)

    for process in processes:
        process.send_signal(signum)
    daemon.signal(signum)
    eventually(lambda: "resized" in daemon.log() or "paused" in daemon.log(), WAIT_S)

    assert not any(map(is_unresponsive, processes))
    release(fifo)
    eventually(lambda: job.is_finished, WAIT_S)


@pytest.mark.parametrize("signum", [signal.SIGTTIN, signal.SIGTTOU, signal.SIGTSTP])
def test_a_masters_signal_that_hits_a_zygote_which_boots_does_not_have_it_stand_still(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path, signum: int
) -> None:
    write_slow(tmp_path)
    daemon = start_daemon("--preload", "slow", cwd=tmp_path)
    (tmp_path / "wait").touch()
    daemon.signal(signal.SIGHUP)
    eventually((tmp_path / "waits").exists, WAIT_S)

    for process in psutil.Process(daemon.pid).children():
        process.send_signal(signum)
    (tmp_path / "wait").unlink()

    eventually(lambda: " reloaded " in daemon.log(), WAIT_S, daemon.log)


def test_a_stop_that_comes_while_a_daemon_is_started_is_obeyed(
    redis_url: str, tmp_path: Path, fifo: str
) -> None:
    with told_at_its_imports(signal.SIGTERM, redis_url, tmp_path, fifo) as daemon:
        assert daemon.wait(WAIT_S) == 0
    assert "master stopped" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("signum", "told"),
    [(signal.SIGHUP, "reloaded"), (signal.SIGUSR2, "paused"), (signal.SIGTTIN, "workers resized")],
)
def test_what_else_comes_while_a_daemon_is_started_is_obeyed_and_does_not_end_it(
    redis_url: str, tmp_path: Path, fifo: str, signum: int, told: str
) -> None:
    log = tmp_path / "log"
    with told_at_its_imports(signum, redis_url, tmp_path, fifo) as daemon:
        eventually(lambda: told in log.read_text(), WAIT_S, log.read_text)
        daemon.terminate()
        assert daemon.wait(WAIT_S) == 0


def test_a_signal_that_was_blocked_where_the_daemon_was_started_is_obeyed(
    start_daemon: StartDaemon,
) -> None:
    blocking = (
        "import os, signal, sys\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    daemon = start_daemon(within=[sys.executable, "-c", blocking])

    daemon.signal(signal.SIGTERM)

    assert daemon.wait() == 0
