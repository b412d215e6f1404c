"""Daemons on two hosts, and one who tells them what to do from anywhere."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rqd import Queue
from rqd.client.connection import Backend
from rqd.job import JobStatus
from tests import jobs
from tests.cli.running import ROOT, rqd
from tests.daemons import StartDaemon
from tests.lacking import needs_namespaces
from tests.waiting import eventually, has_text

WAIT_S = 10.0


@pytest.fixture
def other_host() -> list[str]:
    """Runs a daemon as on another host, `web2`: under that name."""
    within = ["unshare", "--uts"]
    needs_namespaces(*within, "true")
    return [*within, "sh", "-c", 'hostname web2 && exec "$@"', "sh"]


def test_hosts_are_scaled_drained_and_stopped_from_anywhere(
    start_daemon: StartDaemon,
    there: Backend,
    queue: Queue,
    tmp_path: Path,
    fifo: str,
    other_host: list[str],
) -> None:
    url = there.url

    def told(*arguments: str, status: int = 0) -> Any:
        ran = rqd(*arguments, "--json", url=url)
        assert (ran.status, ran.err) == (status, ""), ran
        return json.loads(ran.out)

    there_daemon = start_daemon("--name", "there", workers=2, within=other_host)
    running = queue.enqueue(jobs.note_and_hold, str(tmp_path / "history"), fifo)
    eventually(lambda: has_text(tmp_path / "history"), WAIT_S)

    # More and fewer workers, which `rqd workers` lists at once.
    (scaled,) = told("scale", "+2", "--host", "web2")
    assert scaled["answer"] == {"state": "busy", "busy": 1, "workers": 4, "were": 2}
    eventually(lambda: len(told("workers", "--host", "web2")) == 4, WAIT_S)
    (refused,) = told("scale", "-4", "--host", "web2", status=1)
    assert "1 to 1,000" in refused["answer"]["error"]
    assert told("scale", "1", "--host", "web2")[0]["answer"]["workers"] == 1
    eventually(lambda: len(told("workers", "--host", "web2")) == 1, WAIT_S)

    # The pause of a master is waited for until the job's end; another host goes on meanwhile.
    draining = subprocess.Popen(
        [sys.executable, "-m", "rqd", "pause", "--host", "web2", "--url", url],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    there_daemon.titled("rqd: master [default] paused 1/1 busy")
    waiting = queue.enqueue(jobs.multiply, 6, 7)
    here_daemon = start_daemon("--name", "here")
    assert waiting.wait(WAIT_S).return_value() == 42
    assert draining.poll() is None
    with open(fifo, "w"):
        pass
    out, _ = draining.communicate(timeout=WAIT_S)
    assert (draining.returncode, out.splitlines()[-1]) == (0, "there: drained")
    assert "paused, 1 running" in out
    assert running.return_value() == "done"

    # One that stands still is the only one that does not answer.
    here_daemon.signal(signal.SIGSTOP)
    resumed = told("resume", "--all-masters", "--timeout", "1", status=1)
    answers = {row["master"]: row["answer"] for row in resumed}
    assert answers == {"here": None, "there": {"state": "idle", "busy": 0, "workers": 1}}
    here_daemon.signal(signal.SIGCONT)
    assert queue.enqueue(jobs.multiply, 2, 2).wait(WAIT_S).return_value() == 4

    # Drained at once: what ran is in its queue again, for others; a stop ends a paused master.
    told("pause", "--master", "here")
    again = queue.enqueue(jobs.hold, fifo)
    eventually(lambda: again.get_status() is JobStatus.STARTED, WAIT_S)
    assert told("pause", "--now", "--host", "web2")[0]["became"] == "drained"
    assert (again.get_status(), again.get_position()) == (JobStatus.QUEUED, 0)
    stopped = told("stop")
    assert {row["master"]: row["became"] for row in stopped} == {
        "here": "stopped",
        "there": "stopped",
    }
    assert [here_daemon.wait(), there_daemon.wait()] == [0, 0]
