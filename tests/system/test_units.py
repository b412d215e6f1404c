"""The systemd units are accepted and hardened, and the daemon speaks systemd's protocol."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rqd import Queue
from tests.daemons import ROOT, StartDaemon
from tests.lacking import SYSTEMD
from tests.waiting import eventually

UNITS = ROOT / "systemd"
INSTALLED = "/opt/rqd/bin/rqd"
# What systemd-analyze calls 2.0 of 10.
EXPOSURE_LIMIT = "20"
LIMIT_S = 30

needs_systemd_analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason=SYSTEMD)


@pytest.fixture(params=["rqd.service", "rqd@.service"])
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of the unit whose ExecStart= is there to be run."""
    text = (UNITS / request.param).read_text()
    assert INSTALLED in text
    copy: Path = tmp_path / request.param
    copy.write_text(text.replace(INSTALLED, str(Path(sys.executable).with_name("rqd"))))
    return copy


@needs_systemd_analyze
def test_systemd_finds_nothing_to_remark_on_in_a_unit(unit: Path) -> None:
    # It can warn and still exit 0: what it says counts.
    found = analyze("verify", "--man=no", str(unit))

    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


@needs_systemd_analyze
def test_a_unit_is_hardened(unit: Path) -> None:
    found = analyze("security", "--offline=true", f"--threshold={EXPOSURE_LIMIT}", str(unit))

    assert found.returncode == 0, found.stdout + found.stderr


def test_both_units_are_the_same_but_for_their_names() -> None:
    one = (UNITS / "rqd.service").read_text().splitlines()
    several = (UNITS / "rqd@.service").read_text().splitlines()

    changed = [pair for pair in zip(one, several, strict=True) if pair[0] != pair[1]]

    assert len(changed) == 5, changed
    assert all("%i" in ours or ours.startswith("# One of several") for _, ours in changed)


def test_a_unit_waits_for_longer_than_the_daemon_takes_to_stop(unit: Path) -> None:
    settings = settings_of(unit)
    grace_s = next(
        int(word.partition("=")[2])
        for line in settings["Environment"]
        for word in line.split()
        if word.startswith("RQD_GRACE=")
    )

    assert int(settings["TimeoutStopSec"][-1]) >= grace_s + 10


def test_a_wrong_option_exits_with_a_status_that_systemd_does_not_restart(
    unit: Path, redis_url: str, tmp_path: Path
) -> None:
    never_restarted = settings_of(unit)["RestartPreventExitStatus"][-1].split()
    (tmp_path / "broken.py").write_text("1 / 0\n")

    for wrong, status in [(["--workers", "0"], 64), (["--preload", "broken"], 78)]:
        ended = subprocess.run(
            [sys.executable, "-m", "rqd", "start", "--url", redis_url, *wrong],
            cwd=tmp_path,
            capture_output=True,
            timeout=LIMIT_S,
        )
        assert ended.returncode == status, ended.stderr
        assert str(status) in never_restarted


@pytest.fixture(params=["file", "abstract"])
def notify(request: pytest.FixtureRequest) -> Iterator[tuple[str, socket.socket]]:
    """What systemd gives a unit: the value of NOTIFY_SOCKET, and the socket behind it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        if request.param == "abstract":
            receiver.bind("")  # the kernel picks an abstract name
            address = receiver.getsockname()
            yield "@" + address[1:].decode(), receiver
            return
        # /tmp and not tmp_path: a unix socket's path is limited to 108 bytes.
        with tempfile.TemporaryDirectory(prefix="rqd-", dir="/tmp") as folder:
            receiver.bind(f"{folder}/notify")
            yield f"{folder}/notify", receiver


def test_the_daemon_tells_systemd_that_it_is_ready_what_it_does_and_that_it_stops(
    start_daemon: StartDaemon, notify: tuple[str, socket.socket]
) -> None:
    address, receiver = notify
    receiver.setblocking(False)
    heard: list[str] = []

    daemon = start_daemon(workers=2, env={"NOTIFY_SOCKET": address})
    started = {"READY=1", "STATUS=0/2 busy"}
    eventually(lambda: started <= set(listen(receiver, heard)), message=lambda: str(heard))
    assert "STOPPING=1" not in heard

    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0
    listen(receiver, heard)
    assert heard.count("READY=1") == 1
    assert "STATUS=stopping, 0 running" in heard[heard.index("STOPPING=1") :]


def test_while_jobs_end_the_daemon_asks_for_more_time(
    start_daemon: StartDaemon, notify: tuple[str, socket.socket], redis_url: str, tmp_path: Path
) -> None:
    address, receiver = notify
    receiver.setblocking(False)
    heard: list[str] = []
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    daemon = start_daemon(env={"NOTIFY_SOCKET": address})
    Queue(connection=redis_url).enqueue("pathlib.Path.read_text", fifo)
    with fifo.open("w"):  # somebody reads it: the job runs
        daemon.signal(signal.SIGTERM)
        eventually(lambda: "EXTEND_TIMEOUT_USEC=10000000" in listen(receiver, heard))
    assert daemon.wait() == 0


def test_the_watchdog_is_fed_by_the_loop_and_its_end_is_told_with_the_stack(
    start_daemon: StartDaemon, notify: tuple[str, socket.socket]
) -> None:
    address, receiver = notify
    receiver.setblocking(False)
    heard: list[str] = []
    daemon = start_daemon(env={"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "600000"})

    eventually(lambda: listen(receiver, heard).count("WATCHDOG=1") >= 5, message=lambda: str(heard))

    daemon.signal(signal.SIGABRT)  # as systemd does when it hears no more
    assert daemon.wait() == -signal.SIGABRT
    assert "ended by SIGABRT, here:" in daemon.log()
    assert "loop.py" in daemon.log()


def test_without_a_watchdog_nobody_is_fed(
    start_daemon: StartDaemon, notify: tuple[str, socket.socket]
) -> None:
    address, receiver = notify
    receiver.setblocking(False)
    heard: list[str] = []
    others = {"WATCHDOG_USEC": "600000", "WATCHDOG_PID": "1"}
    daemon = start_daemon(env={"NOTIFY_SOCKET": address, **others})
    assert daemon.stop() == 0
    assert "READY=1" in listen(receiver, heard)
    assert "WATCHDOG=1" not in heard


def test_a_daemon_whose_systemd_does_not_listen_runs_on(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(env={"NOTIFY_SOCKET": "/nowhere/notify"})

    assert daemon.stop() == 0


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", "--no-pager", *arguments],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )


def settings_of(unit: Path) -> dict[str, list[str]]:
    """Every value of each setting, in order."""
    settings: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            settings.setdefault(name, []).append(value)
    return settings


def listen(receiver: socket.socket, heard: list[str]) -> list[str]:
    """Adds to `heard` every line that has come."""
    while True:
        try:
            heard += receiver.recv(4096).decode().splitlines()
        except BlockingIOError:
            return heard
