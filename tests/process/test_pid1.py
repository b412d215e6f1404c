"""A daemon as PID 1 of a container: `unshare` makes the namespaces, and no init is in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Protocol

import psutil
import pytest

from rqd import Queue
from rqd.job import Job, JobStatus
from tests import jobs
from tests.daemons import Daemon, StartDaemon, alive
from tests.lacking import needs_namespaces
from tests.waiting import eventually, has_text

WAIT_S = 10.0
UNSHARE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


class StartContainer(Protocol):
    def __call__(self, *extra: str) -> tuple[Daemon, psutil.Process]: ...


@pytest.fixture
def start_container(start_daemon: StartDaemon) -> StartContainer:
    """Starts daemons as PID 1; a daemon is `unshare`, whose exit status is the master's."""
    needs_namespaces(*UNSHARE, "true")

    def start(*extra: str) -> tuple[Daemon, psutil.Process]:
        daemon = start_daemon(*extra, within=UNSHARE)
        (master,) = psutil.Process(daemon.pid).children()
        status = Path(f"/proc/{master.pid}/status").read_text()
        assert f"NSpid:\t{master.pid}\t1\n" in status
        return daemon, master

    return start


def hold(queue: Queue, tmp_path: Path, fifo: str) -> Job[str]:
    history = tmp_path / "history"
    job = queue.enqueue(jobs.note_and_hold, str(history), fifo)
    eventually(lambda: has_text(history), WAIT_S)
    return job


def executed(master: psutil.Process, daemon: Daemon, *command: str) -> str:
    """What `docker exec` would run, and what it wrote."""
    there = ["nsenter", "--target", str(master.pid), "--pid", "--mount"]
    state = {"XDG_STATE_HOME": str(daemon.log_path.parent / "state")}
    ran = subprocess.run(
        [*there, *command],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        env={**os.environ, **state},
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_the_first_process_of_a_container_stops_gracefully(
    start_container: StartContainer, queue: Queue, tmp_path: Path, fifo: str, signum: int
) -> None:
    daemon, master = start_container()
    job = hold(queue, tmp_path, fifo)
    master.send_signal(signum)
    eventually(lambda: "stopping how=graceful" in daemon.log())
    Path(fifo).write_text("")
    assert daemon.wait() == 0
    assert job.return_value() == "done"


def test_the_first_process_of_a_container_stops_at_once_and_puts_back(
    start_container: StartContainer, queue: Queue, tmp_path: Path, fifo: str
) -> None:
    daemon, master = start_container()
    job = hold(queue, tmp_path, fifo)
    master.send_signal(signal.SIGQUIT)
    assert daemon.wait() == 0
    assert job.get_status() is JobStatus.QUEUED


def test_the_first_process_of_a_container_reloads_and_is_probed_from_inside(
    start_container: StartContainer, queue: Queue
) -> None:
    daemon, master = start_container()
    probe = [sys.executable, "-m", "rqd", "healthcheck", "--ready"]
    assert executed(master, daemon, *probe).partition(" (namespace ")[0].endswith(": idle")
    master.send_signal(signal.SIGHUP)
    eventually(lambda: "reloaded" in daemon.log(), WAIT_S)
    assert queue.enqueue(jobs.multiply, 2, 3).wait(WAIT_S).return_value() == 6


def test_orphans_of_jobs_and_of_strangers_are_reaped_by_the_first_process_of_a_container(
    start_container: StartContainer, queue: Queue, tmp_path: Path, fifo: str
) -> None:
    daemon, master = start_container()
    job = queue.enqueue(jobs.spawn_and_hold, str(tmp_path / "history"), fifo)
    # The program `setsid` may not have come to it yet.
    escaped = eventually(
        lambda: [
            p for p in daemon.tree() if title(p) == "sleep 1000" and os.getsid(p.pid) == p.pid
        ],
        WAIT_S,
    )[0]
    Path(fifo).write_text("")
    assert job.wait(WAIT_S).return_value() == "done"
    assert alive(escaped)  # it left its group, so that its job's end is none of its own
    escaped.kill()
    # The zygote looks every few seconds.
    eventually(lambda: not psutil.pid_exists(escaped.pid), WAIT_S, "reaped by the zygote")

    executed(master, daemon, "sh", "-c", "setsid sleep 1001 >/dev/null 2>&1 &")
    stranger = eventually(lambda: [p for p in daemon.tree() if title(p) == "sleep 1001"])[0]
    eventually(lambda: stranger.ppid() == master.pid)
    stranger.kill()
    eventually(lambda: not psutil.pid_exists(stranger.pid), WAIT_S, "reaped by the master")

    assert queue.enqueue(jobs.multiply, 2, 3).wait(WAIT_S).return_value() == 6
    master.send_signal(signal.SIGTERM)
    assert daemon.wait() == 0


def test_a_container_ends_with_the_masters_exit_status() -> None:
    needs_namespaces(*UNSHARE, "true")
    broken = [*UNSHARE, sys.executable, "-m", "rqd", "start", "--workers", "0"]
    assert subprocess.run(broken, capture_output=True, timeout=WAIT_S).returncode == 64


def test_sigabrt_ends_the_first_process_of_a_container_too_with_its_stack(
    start_container: StartContainer,
) -> None:
    daemon, master = start_container()
    master.send_signal(signal.SIGABRT)
    assert daemon.wait() == 128 + signal.SIGABRT
    assert "ended by SIGABRT, here:" in daemon.log()


def title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
