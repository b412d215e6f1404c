"""A zygote that stands still, or never boots: another one follows it, and what runs runs on."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from rqd import Queue
from tests.daemons import Daemon, StartDaemon
from tests.installed import Installed
from tests.waiting import eventually

SHOP = """
import os, pathlib, signal
if (hindrance := pathlib.Path(__file__).with_name("hindrance")).exists():
    hindrance.read_text()
def hold(fifo, told):
    if not os.fork():
        while True:
            signal.pause()
    with open(told, "a") as file:
        file.write(f"{os.getpid()}\\n")
    return open(fifo).read()
def nothing():
    return os.getppid()
"""


class Held:
    """A job that runs until it is let go, beside a process of its own."""

    def __init__(self, queue: Queue, folder: Path, name: str) -> None:
        self.fifo, self.told = folder / f"{name}.fifo", folder / f"{name}.pids"
        os.mkfifo(self.fifo)
        self.told.touch()
        self.job = queue.enqueue("shop.hold", str(self.fifo), str(self.told), job_timeout=-1)

    @property
    def pids(self) -> list[int]:
        """Of its attempts so far."""
        return [int(line) for line in self.told.read_text().splitlines()]

    def let_go(self, word: str) -> None:
        self.fifo.write_text(word)


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    """An rqd whose zygotes are given up after a second, and not after half a minute."""
    folder = tmp_path / "installed"
    folder.mkdir()
    (folder / "shop.py").write_text(SHOP)
    installed = Installed(folder)
    installed.edit("daemon/zygote/protocol.py", "HERE_S = 5.0", "HERE_S = 0.15")
    # It looks when it wakes.
    installed.edit("daemon/master.py", "_POLL_S = 1.0", "_POLL_S = 0.1")
    return installed


def start(start_daemon: StartDaemon, installed: Installed) -> Daemon:
    daemon = start_daemon("--preload", "shop", workers=3, cwd=installed.folder, env=installed.env)
    eventually(lambda: "zygote booted" in daemon.log(), message=daemon.log)
    return daemon


def members(group: int) -> list[int]:
    """The processes of a group that are no zombies."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _, pgrp = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(pgrp) == group and state != "Z":
                found.append(int(entry.name))
    return found


def test_where_a_zygote_stands_still_another_one_follows_and_no_job_waits_for_it(
    start_daemon: StartDaemon, queue: Queue, installed: Installed, tmp_path: Path
) -> None:
    daemon = start(start_daemon, installed)
    healthy, killed = (Held(queue, tmp_path, name) for name in ("healthy", "killed"))
    eventually(lambda: len(healthy.pids) == len(killed.pids) == 1, message=daemon.log)
    old, (first,) = daemon.zygote().pid, killed.pids
    os.kill(old, signal.SIGSTOP)
    os.kill(first, signal.SIGKILL)

    # Nobody reports that death; and nobody forks: one place holds the last child there is.
    jobs = [queue.enqueue("shop.nothing") for _ in range(2)]
    assert jobs[0].wait(10).return_value() == old
    assert jobs[1].wait(10).return_value() != old
    eventually(lambda: len(killed.pids) == 2, message=daemon.log)
    assert members(first) == []
    eventually(lambda: "its zygote stood still" in daemon.log(), message=daemon.log)
    assert daemon.log().count("zygote stands still, starting another one") == 1
    killed.job.refresh()
    assert killed.job.losses == 1
    killed.let_go("two")
    assert killed.job.wait(10).return_value() == "two"

    assert len(healthy.pids) == 1
    assert old in [zygote.pid for zygote in daemon.zygotes()]
    healthy.let_go("one")
    assert healthy.job.wait(10).return_value() == "one"
    eventually(lambda: old not in [zygote.pid for zygote in daemon.zygotes()], 10.0, daemon.log)
    assert daemon.stop() == 0
    assert daemon.leftovers() == []


def test_a_zygote_that_goes_on_before_it_is_given_up_serves_on(
    start_daemon: StartDaemon, queue: Queue, installed: Installed
) -> None:
    daemon = start(start_daemon, installed)
    zygote = daemon.zygote().pid
    for _ in range(3):
        os.kill(zygote, signal.SIGSTOP)
        job = queue.enqueue("shop.nothing")
        os.kill(zygote, signal.SIGCONT)
        assert job.wait(10).return_value() == zygote
    assert "stands still" not in daemon.log()
    assert daemon.stop() == 0


def test_a_zygote_that_hangs_at_its_import_is_ended_and_another_one_tried(
    start_daemon: StartDaemon, queue: Queue, installed: Installed
) -> None:
    limit = "_SHORTEST_LIMIT_S, _LIMIT_TIMES = "
    installed.edit("daemon/zygotes/boot_backoff.py", f"{limit}60.0, 10", f"{limit}0.5, 1")
    daemon = start(start_daemon, installed)
    hindrance = installed.folder / "hindrance"
    os.mkfifo(hindrance)
    daemon.zygote().kill()

    eventually(lambda: daemon.log().count("zygote not ready, ending it") > 1, 10.0, daemon.log)
    job = queue.enqueue("shop.nothing")
    hindrance.unlink()

    assert job.wait(10).return_value() == daemon.zygote().pid
    assert daemon.stop() == 0
    assert daemon.leftovers() == []
