"""A master that can't have a descriptor or a process for now: it says so, and goes on."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from resource import RLIMIT_NOFILE, prlimit
from types import SimpleNamespace
from typing import cast

import psutil
import pytest

from rqd.daemon.config import LogSettings
from rqd.daemon.event_loop import Loop
from rqd.daemon.host.embedded import EmbeddedServer, EmbeddedServerError
from rqd.daemon.host.systemd import Notifier
from rqd.daemon.instance import Instance
from rqd.daemon.log import sinks
from rqd.daemon.log.log import open_log
from rqd.daemon.zygotes.learning import Learning
from rqd.daemon.zygotes.manager import Zygotes
from rqd.daemon.zygotes.process import ZygoteProcess, ZygoteSpawner
from rqd.daemon.zygotes.spawn import ZygoteSettings
from rqd.queue import Queue
from tests import jobs
from tests.daemons import StartDaemon
from tests.descriptors import descriptors, room_for
from tests.waiting import eventually

WAIT_S = 15.0


def test_a_line_for_systemd_that_finds_no_descriptor_is_lost_and_ends_nobody() -> None:
    with room_for(0):
        Notifier("/no/such/socket").ready()


def test_a_record_that_needs_a_file_on_its_way_to_the_journal_is_counted_as_lost_without_one(
    tmp_path: Path,
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(tmp_path / "socket"))
        sink = sinks.JournalSink(str(tmp_path / "socket"))
        record = b"x" * 20_000_000
        with room_for(0):
            sink.write(record)
        assert sink.dropped_bytes == len(record)
        sink.close()


def test_a_journal_that_finds_no_descriptor_leaves_the_old_log_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "JOURNAL_SOCKET", str(tmp_path / "socket"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(tmp_path / "socket"))
        log = open_log(LogSettings(file=str(tmp_path / "log"), format="text"))
        with room_for(0):
            log.reopen(LogSettings(format="journal"))
        log.info("after")
    first, second = (tmp_path / "log").read_text().splitlines()
    assert "WARNING log can't be opened anew, the old one serves on error=" in first
    assert "Too many open files" in first
    assert second.endswith("INFO after")


@pytest.mark.parametrize("room", range(8))
def test_an_embedded_server_that_finds_no_descriptor_is_a_refusal_and_leaves_none_open(
    tmp_path: Path, room: int
) -> None:
    before = descriptors(os.getpid())
    server = EmbeddedServer(tmp_path)
    refusal = None
    with room_for(room):
        try:
            server.ensure()
        except EmbeddedServerError as error:
            refusal = str(error)
    if room < 4:
        assert "Too many open files" in (refusal or "")
    if refusal is not None:
        assert (server._lock_fd, server._life_pipe_fd, server.state) == (None, None, "down")
        assert descriptors(os.getpid()) == before
    server.stop()
    assert descriptors(os.getpid()) == before


def test_an_embedded_server_that_could_not_be_started_again_closes_no_descriptor_of_others(
    tmp_path: Path,
) -> None:
    server = EmbeddedServer(tmp_path)
    server.ensure()
    process, life_fd = psutil.Process(server.pid), server._life_pipe_fd
    process.kill()
    eventually(lambda: server.poll() is not None)
    server._started_at_s = float("-inf")  # it is due again at once
    with room_for(0), pytest.raises(EmbeddedServerError):
        server.ensure()
    others = os.open(os.devnull, os.O_RDONLY)
    assert (server._lock_fd, server._life_pipe_fd) == (None, None)
    server.stop()
    os.fstat(others)
    os.close(others)
    assert life_fd not in descriptors(os.getpid())


@pytest.mark.parametrize("room", range(12))
def test_a_zygote_that_can_not_be_had_leaves_neither_a_process_nor_a_descriptor(room: int) -> None:
    before = (descriptors(os.getpid()), children())
    settings = ZygoteSettings(sys.path, (), 1, mark=Path(os.devnull), trust=b"trust")
    zygote = None
    with room_for(room), suppress(OSError):
        zygote = ZygoteProcess(settings)
    if zygote is not None:
        zygote.end()
        zygote.close()
    assert (descriptors(os.getpid()), children()) == before


def test_a_zygote_that_can_not_be_prepared_leaves_no_descriptor() -> None:
    before = descriptors(os.getpid())

    def fail() -> None:
        raise OSError

    with pytest.raises(subprocess.SubprocessError):
        ZygoteProcess(ZygoteSettings(sys.path, (), 1, prepare=fail))
    assert descriptors(os.getpid()) == before


def test_a_reload_whose_zygote_can_not_be_had_says_why(tmp_path: Path) -> None:
    class Spawner(SimpleNamespace):
        def spawn(self, _learnt: tuple[str, ...], **_: object) -> ZygoteProcess:
            raise OSError("too many of them")

    log = open_log(LogSettings(format="text", file=str(tmp_path / "log")))
    zygotes = Zygotes(cast("ZygoteSpawner", Spawner()), cast("Loop", None), log, Learning())
    zygotes.is_ready = True

    zygotes.follow("request", 0.0)

    assert zygotes.reloads.latest is not None
    assert (zygotes.reloads.latest.state, zygotes.reloads.latest.error) == (
        "refused",
        "it can't be started: too many of them",
    )


def test_a_lock_that_the_file_system_refuses_leaves_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_fd: int, _how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    # As NFS does whose lock daemon is gone; no other file system has such an error.
    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    before = descriptors(os.getpid())
    instance = Instance("redis://h", "n", "name")
    assert not instance.is_locked
    assert instance.lock_error.startswith("[Errno 37] No locks available: set STATE_DIRECTORY")
    assert descriptors(os.getpid()) == before


def test_a_master_whose_own_limit_was_lowered_says_that_it_has_no_zygote_and_serves_on(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    soft, hard = prlimit(0, RLIMIT_NOFILE)
    if hard < 4096:
        pytest.skip("this user may open too few files")
    # Root can raise it again, if it has this capability.
    drop = ("setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource")
    within = drop if os.geteuid() == 0 else ()
    daemon = start_daemon("--max-files", "4096", within=within)
    assert queue.enqueue(jobs.multiply, 2, 3).wait(WAIT_S).return_value() == 6
    # A fork can't raise it to what --max-files says.
    prlimit(daemon.pid, RLIMIT_NOFILE, (min(soft, 2048), 2048))

    daemon.zygote().kill()

    eventually(lambda: daemon.log().count("can't start the zygote") >= 2, WAIT_S, daemon.log)
    assert daemon.stop() == 0
    assert daemon.leftovers() == []


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}
