"""Zygotes that die, or lack what they fork with, and what their daemon makes of it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from rqd import Queue
from rqd.client.connection import Backend
from rqd.daemon.zygote import protocol
from rqd.daemon.zygote.protocol import FrameError, encode_frame
from rqd.daemon.zygote.server import Slot, Zygote
from rqd.daemon.zygotes.events import Forked, ForkFailed
from rqd.daemon.zygotes.process import ZygoteProcess
from rqd.daemon.zygotes.spawn import ZygoteSettings
from tests import jobs
from tests.daemons import Daemon, StartDaemon
from tests.descriptors import descriptors, leave_room
from tests.waiting import eventually

WAIT_S = 15.0


def test_a_zygote_that_dies_whenever_it_has_forked_is_replaced_after_a_growing_pause(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path
) -> None:
    (tmp_path / "deadly.py").write_text(
        "import os, threading\n"
        "def die_soon():\n"
        "    if os.path.exists('die'):\n"
        "        threading.Timer(0.05, os._exit, (3,)).start()\n"
        "os.register_at_fork(after_in_parent=die_soon)\n"
    )
    (tmp_path / "die").touch()
    daemon = start_daemon("--preload", "deadly", cwd=tmp_path)
    lost = re.compile(r"zygote lost .*restart_in_s=([\d.]+)")

    eventually(lambda: len(lost.findall(daemon.log())) >= 5, WAIT_S, daemon.log)

    assert [float(told) for told in lost.findall(daemon.log())[:5]] == [0, 0.2, 0.4, 0.8, 1.6]
    (tmp_path / "die").unlink()
    assert queue.enqueue(jobs.multiply, 2, 3).wait(WAIT_S).return_value() == 6


def tells_so_often(daemon: Daemon, event: str, number: int) -> None:
    eventually(lambda: daemon.log().count(event) >= number, WAIT_S, daemon.log)


def add_workers(daemon: Daemon, count: int) -> None:
    """More of them, one by one."""
    before = daemon.log().count("workers resized")
    for number in range(before + 1, before + count + 1):
        daemon.signal(signal.SIGTTIN)
        tells_so_often(daemon, "workers resized", number)


def await_idle(daemon: Daemon, there: Backend, count: int) -> None:
    """Until so many children are there, and their zygote has nothing more to do."""

    def idle() -> int:
        rows = there.views.workers(there.views.masters())
        return sum(row.get("state") == "idle" and row.get("pid") != "0" for row in rows)

    eventually(lambda: idle() == count, WAIT_S, daemon.log)
    eventually(lambda: daemon.zygote().status() == psutil.STATUS_SLEEPING)


def write_slow(folder: Path) -> None:
    """A module `slow`, whose import waits as long as `wait` is there."""
    (folder / "slow.py").write_text(
        "import os, time\n"
        "while os.path.exists('wait'):\n"
        "    open('waits', 'w').close()\n"
        "    time.sleep(0.01)\n"
    )


def leave_room_at_reload(daemon: Daemon, folder: Path, count: int) -> Callable[[], object]:
    """Reloads a daemon whose application is `slow`; it can open so many descriptors more by the
    time that its new zygote is ready. What takes that back.
    """
    (folder / "wait").touch()
    daemon.signal(signal.SIGHUP)
    eventually((folder / "waits").exists, WAIT_S)
    master = psutil.Process(daemon.pid)
    eventually(lambda: master.status() == psutil.STATUS_SLEEPING)
    allow_more = leave_room(master.pid, count)
    (folder / "wait").unlink()
    return allow_more


@pytest.mark.parametrize("per_child", ["1", "100"])
@pytest.mark.parametrize("room", [0, 1, 2, 3, 6])
def test_new_places_get_their_children_once_the_zygote_has_room_for_their_descriptors(
    start_daemon: StartDaemon, there: Backend, queue: Queue, room: int, per_child: str
) -> None:
    daemon = start_daemon("--preload", "tests.jobs", "--jobs-per-child", per_child)
    zygote = daemon.zygote()
    await_idle(daemon, there, 1)
    counted = [(len(descriptors(zygote.pid)), len(descriptors(daemon.pid)))]
    add_workers(daemon, 2)
    await_idle(daemon, there, 3)
    counted.append((len(descriptors(zygote.pid)), len(descriptors(daemon.pid))))

    zygote.suspend()  # so that it finds several at once
    add_workers(daemon, 2)  # which allows it more of them
    allow_more = leave_room(zygote.pid, room)
    zygote.resume()
    tells_so_often(daemon, "can't fork, trying again", 4)
    allow_more()

    await_idle(daemon, there, 5)
    counted.append((len(descriptors(zygote.pid)), len(descriptors(daemon.pid))))
    first, second, third = counted
    assert [b - a for a, b in zip(second, third, strict=True)] == [
        b - a for a, b in zip(first, second, strict=True)
    ]
    assert daemon.zygote() == zygote
    jobs_made = [queue.enqueue(jobs.multiply, number, 1) for number in range(10)]
    assert [job.wait(WAIT_S).return_value() for job in jobs_made] == [*range(10)]


def test_no_job_is_claimed_and_put_back_while_its_process_can_not_be_forked(
    start_daemon: StartDaemon, there: Backend, queue: Queue
) -> None:
    daemon = start_daemon("--preload", "tests.jobs", "--log-level", "debug")
    zygote = daemon.zygote()
    await_idle(daemon, there, 1)
    allow_more = leave_room(zygote.pid, 0)
    waiting = [queue.enqueue(jobs.multiply, number, 1) for number in range(10)]
    waiting[0].wait(WAIT_S)
    tells_so_often(daemon, "can't fork, trying again", 2)
    claimed = daemon.log().count("job claimed")  # some on their way as the first fork failed
    tells_so_often(daemon, "can't fork, trying again", 4)
    assert daemon.log().count("job claimed") == claimed
    assert len(queue) == 9

    allow_more()
    assert [job.wait(WAIT_S).return_value() for job in waiting] == [*range(10)]
    await_idle(daemon, there, 1)
    assert queue.enqueue(jobs.multiply, 2, 3).wait(WAIT_S).return_value() == 6


@pytest.mark.parametrize("room", range(4))
def test_a_master_without_room_for_the_places_of_a_new_zygote_makes_them_when_it_has(
    start_daemon: StartDaemon, there: Backend, queue: Queue, tmp_path: Path, room: int
) -> None:
    write_slow(tmp_path)
    daemon = start_daemon("--preload", "slow", workers=2, cwd=tmp_path)
    await_idle(daemon, there, 2)
    before = len(descriptors(daemon.pid))

    allow_more = leave_room_at_reload(daemon, tmp_path, room)
    tells_so_often(daemon, " reloaded", 1)
    tells_so_often(daemon, "can't fork, trying again", 1)
    allow_more()

    tells_so_often(daemon, "zygote gone", 1)
    await_idle(daemon, there, 2)
    assert len(descriptors(daemon.pid)) == before
    assert queue.enqueue(jobs.multiply, 2, 3).wait(WAIT_S).return_value() == 6


@pytest.mark.parametrize("per_child", ["1", "100"])
def test_a_child_that_its_zygote_can_not_watch_is_ended_and_forked_anew(
    start_daemon: StartDaemon, there: Backend, queue: Queue, tmp_path: Path, per_child: str
) -> None:
    (tmp_path / "scarce.py").write_text(
        "import os, resource\n"
        "def leave_no_room():\n"
        "    if os.path.exists('scarce'):\n"
        "        resource.setrlimit(resource.RLIMIT_NOFILE, (3, usual[1]))\n"
        "usual = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "os.register_at_fork(after_in_parent=leave_no_room)\n"
    )
    (tmp_path / "scarce").touch()
    daemon = start_daemon("--preload", "scarce", "--jobs-per-child", per_child, cwd=tmp_path)
    zygote = daemon.zygote()
    tells_so_often(daemon, "can't fork, trying again", 1)
    eventually(lambda: zygote.status() == psutil.STATUS_SLEEPING)
    assert zygote.children() == []
    before = len(descriptors(zygote.pid))

    (tmp_path / "scarce").unlink()
    zygote.rlimit(psutil.RLIMIT_NOFILE, (200, 200))

    await_idle(daemon, there, 1)
    assert len(descriptors(zygote.pid)) == before + 1  # by which it sees that its child ends
    assert daemon.zygote() == zygote
    assert queue.enqueue(jobs.multiply, 2, 3).wait(WAIT_S).return_value() == 6


CROWDED = """
import ctypes, resource

# Without this right the system counts, even for root, what of its user's is on its way to others.
version_3, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
assert ctypes.CDLL(None).capset(version_3, none) == 0
resource.setrlimit(resource.RLIMIT_NOFILE, (550, 550))
"""


def has_slots(zygote: psutil.Process, count: int) -> bool:
    """True once it has the files of so many, each with one for stacks, and nothing more to do."""
    folder = f"/proc/{zygote.pid}/fd"
    with suppress(OSError, psutil.NoSuchProcess):  # it ends meanwhile
        links = [os.readlink(f"{folder}/{fd}") for fd in descriptors(zygote.pid)]
        stacks = [link for link in links if link.startswith("/memfd:rqd-stacks")]
        return len(stacks) == count and zygote.status() == psutil.STATUS_SLEEPING
    return False


def test_a_zygote_that_may_send_no_descriptors_for_now_tells_of_all_its_children_later(
    start_daemon: StartDaemon, there: Backend, queue: Queue, tmp_path: Path
) -> None:
    (tmp_path / "crowded.py").write_text(CROWDED)
    near, far = socket.socketpair()
    with near, far:
        for _ in range(3):
            socket.send_fds(near, [b"x"], [near.fileno()] * 200)
        daemon = start_daemon(
            *("--preload", "crowded", "--jobs-per-child", "100"), workers=66, cwd=tmp_path
        )
        zygote = daemon.zygote()
        eventually(lambda: not zygote.is_running() or has_slots(zygote, 66), WAIT_S, daemon.log)
        (killed := zygote.children()[0]).kill()  # before it is told of
        eventually(lambda: not killed.is_running(), WAIT_S)
    await_idle(daemon, there, 66)
    assert daemon.zygote() == zygote, daemon.log()
    assert daemon.log().count("can't fork, trying again") == 16
    assert queue.enqueue(jobs.multiply, 2, 3).wait(WAIT_S).return_value() == 6


def test_a_kill_that_comes_after_its_child_has_ended_does_not_end_the_next_one() -> None:
    control, master = socket.socketpair()
    child: Any = SimpleNamespace(live=None, jobs=1)
    zygote = Zygote(control, child, -1, [])
    piped = subprocess.PIPE
    with (
        control,
        master,
        subprocess.Popen(["cat"], stdin=piped, stdout=piped, process_group=0) as running,
    ):
        assert running.stdin is not None
        assert running.stdout is not None
        zygote._slots[1] = Slot(child, -1)
        zygote._slots[1].pid = running.pid

        master.sendall(encode_frame(protocol.KILL, b"1", b"%d" % (running.pid + 1)))
        assert zygote._obey()
        running.stdin.write(b"alive")
        running.stdin.flush()
        assert running.stdout.read(5) == b"alive"

        master.sendall(encode_frame(protocol.KILL, b"1", b"%d" % running.pid))
        assert zygote._obey()
        assert running.wait(WAIT_S) == -signal.SIGKILL


@contextmanager
def far_end() -> Iterator[tuple[ZygoteProcess, socket.socket]]:
    """A zygote at its master's end, and the socket on which the test plays it."""
    ends: list[int] = []

    def played(_: ZygoteSettings, control_fd: int, _output_fd: int) -> subprocess.Popen[bytes]:
        ends.append(os.dup(control_fd))
        return subprocess.Popen([sys.executable, "-c", ""])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rqd.daemon.zygotes.process.spawn", played)
        zygote = ZygoteProcess(ZygoteSettings(sys.path, (), 1))
    with socket.socket(fileno=ends[0]) as far:
        try:
            yield zygote, far
        finally:
            zygote.close(WAIT_S)


def forked(worker: int) -> bytes:
    return encode_frame(protocol.FORKED, b"%d" % worker, b"%d" % (2**22 + worker))


def tell(far: socket.socket, workers: list[int], first_bytes: int = 1000) -> bytes:
    """Tells of new children, with all descriptors in the first part; the rest is not sent yet.

    Into each channel its worker's number is written.
    """
    report = b"".join(map(forked, workers))
    fds = []
    for worker in workers:
        near, child = socket.socketpair()
        child.sendall(b"%d" % worker)
        child.close()
        fds += [near.detach(), os.open(os.devnull, os.O_RDONLY)]
    socket.send_fds(far, [report[:first_bytes]], fds)
    for fd in fds:
        os.close(fd)
    return report[first_bytes:]


def heard(zygote: ZygoteProcess) -> dict[int, bool]:
    """By worker, whether its child has come, with its own channel."""
    news = {}
    for event in zygote.receive():
        assert isinstance(event, Forked | ForkFailed)
        news[event.worker] = isinstance(event, Forked)
        if isinstance(event, Forked):
            assert event.channel.recv(100) == b"%d" % event.worker
            event.close()
    return news


@pytest.mark.parametrize("broken", [b"\xff" * 9, encode_frame(99), encode_frame(protocol.EXITED)])
def test_what_came_of_children_before_a_broken_report_is_closed(broken: bytes) -> None:
    before = descriptors(os.getpid())
    with far_end() as (zygote, far):
        tell(far, [1, 2])
        far.sendall(broken)
        with pytest.raises(FrameError):
            zygote.receive()
    assert descriptors(os.getpid()) == before


@pytest.mark.parametrize("first_bytes", [1, 20, 21, 22, 41])  # of twice 21
def test_a_report_may_come_in_parts_with_all_descriptors_in_the_first(first_bytes: int) -> None:
    with far_end() as (zygote, far):
        rest = tell(far, [1, 2], first_bytes)
        news = heard(zygote)
        far.sendall(rest)
        assert news | heard(zygote) == {1: True, 2: True}


@pytest.mark.parametrize("room", [0, 1, 4, 5])
@pytest.mark.parametrize("first_bytes", [1, 21, 45, 62])  # of three times 21
def test_a_report_whose_descriptors_find_no_room_takes_none_of_the_next_one(
    first_bytes: int, room: int
) -> None:
    before = descriptors(os.getpid())
    with far_end() as (zygote, far):
        rest = tell(far, [1, 2, 3], first_bytes)
        allow_more = leave_room(os.getpid(), room)
        try:
            news = heard(zygote)
        finally:
            allow_more()
        far.sendall(rest)
        tell(far, [4, 5])
        news |= heard(zygote)
    assert sorted(news) == [1, 2, 3, 4, 5]
    assert not news[3]
    assert news[4]
    assert news[5]
    assert descriptors(os.getpid()) == before


def test_what_came_for_a_report_that_its_zygote_never_ended_is_closed() -> None:
    before = descriptors(os.getpid())
    with far_end() as (zygote, far):
        tell(far, [1], 20)
        assert heard(zygote) == {}
        assert descriptors(os.getpid()) != before
    assert descriptors(os.getpid()) == before
