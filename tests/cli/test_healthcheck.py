"""`rqd healthcheck`: it asks the master's lock, and not Redis."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.cli.running import Ran, rqd
from tests.daemons import Daemon
from tests.servers import RedisServer, default_binary, running_server
from tests.waiting import eventually


def health(folder: Path, *arguments: str, **env: str) -> Ran:
    return rqd("healthcheck", *arguments, env={"XDG_STATE_HOME": str(folder / "state"), **env})


def test_it_tells_a_master_that_lives_from_one_that_hangs_and_one_that_is_gone(
    tmp_path: Path,
) -> None:
    told = health(tmp_path).err
    assert told.startswith("rqd: no master runs on this host as this user, by the locks in ")
    # A daemon that could not write there has no lock.
    assert str(tmp_path / "state" / "rqd" / "masters") in told
    assert told.endswith(": XDG_STATE_HOME names their folder, which a daemon has to write to\n")
    under_systemd = rqd("healthcheck", env={"STATE_DIRECTORY": str(tmp_path)}).err
    assert f"{tmp_path}/masters: STATE_DIRECTORY names their folder" in under_systemd
    with running_server(default_binary()) as server:
        serves(server, tmp_path)


def serves(server: RedisServer, tmp_path: Path) -> None:
    options = ("--name", "web")
    with Daemon(tmp_path / "log", *options, url=server.url, workers=1) as daemon:
        idle = f"web: idle (namespace rqd at {server.url})\n"
        eventually(lambda: health(tmp_path, "--ready").out == idle)
        assert health(tmp_path, "--name", "other").status != 0
        assert health(tmp_path, "--url", server.url).out == idle
        assert health(tmp_path, RQD_URL=server.url, RQD_NAMESPACE="rqd").out == idle
        for given in (
            {"RQD_URL": server.url, "RQD_NAMESPACE": "other"},
            {"RQD_NAMESPACE": "other"},
            {"RQD_URL": "redis://me:secret@elsewhere"},
            {"REDIS_URL": "redis://me:secret@elsewhere"},
        ):
            ran = health(tmp_path, **given)
            namespace = given.get("RQD_NAMESPACE", "rqd")
            assert (ran.status, ran.out) == (69, ""), ran
            assert ran.err.startswith(f"rqd: no master of namespace {namespace} at "), ran
            assert f"but web of namespace rqd at {server.url}: write --url, " in ran.err
            assert "secret" not in ran.err

        # An outage of Redis is no reason to restart a daemon.
        os.kill(server.pid, signal.SIGSTOP)
        assert health(tmp_path, "--ready").status == 0
        os.kill(server.pid, signal.SIGCONT)

        daemon.signal(signal.SIGSTOP)
        (lock,) = (tmp_path / "state" / "rqd" / "masters").glob("*.lock")
        long_ago = time.time() - 60
        os.utime(lock, (long_ago, long_ago))
        ran = health(tmp_path)
        assert (ran.status, "web: its loop has stood still for 6" in ran.err) == (69, True), ran
        daemon.signal(signal.SIGCONT)

        daemon.signal(signal.SIGKILL)
        assert daemon.wait() == -signal.SIGKILL
        # Its lock is still there, and free.
        assert lock.exists()
        assert "no master runs" in health(tmp_path).err


def test_a_master_that_boots_is_alive_and_not_ready(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    (tmp_path / "slow.py").write_text(f"open({str(fifo)!r}).read()\n")

    def look_while_it_boots() -> tuple[Ran, Ran]:
        with fifo.open("w"):  # somebody reads it: the module is being imported
            return health(tmp_path), health(tmp_path, "--ready")

    with running_server(default_binary()) as server, ThreadPoolExecutor(1) as aside:
        looked = aside.submit(look_while_it_boots)
        options = ("--preload", "slow", "--name", "web")
        with Daemon(tmp_path / "log", *options, url=server.url, workers=1, cwd=tmp_path):
            alive, ready = looked.result()
            starting = f"web: starting (namespace rqd at {server.url})\n"
            assert (alive.status, alive.out) == (0, starting)
            assert (ready.status, ready.err) == (69, "rqd: web: starting\n")
            eventually(lambda: health(tmp_path, "--ready").status == 0)


def test_without_a_home_it_says_in_one_line_what_to_set(tmp_path: Path) -> None:
    # As a user id that has no home, in a container: what expands to no path is none.
    ran = rqd("healthcheck", env={"HOME": "~", "XDG_STATE_HOME": ""}, folder=tmp_path)
    assert (ran.status, ran.err.count("\n")) == (64, 1)
    assert "there is no home for the locks of masters: set XDG_STATE_HOME" in ran.err
