"""A daemon where kernel or container withhold what it needs: one line says what to do."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from rqd.model.diagnosis import Verdict
from tests import seccomp
from tests.lacking import needs_namespaces
from tests.process.test_pid1 import UNSHARE

WAIT_S = 15.0
PIDFD_OPEN, PIDFD_SEND_SIGNAL = 434, 424
MEMFD_CREATE = {"x86_64": 319, "aarch64": 279}
NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child")


def lacking(*names: int) -> list[str]:
    return [sys.executable, seccomp.__file__, ",".join(map(str, names))]


Ended = subprocess.CompletedProcess[str]


def ran(within: list[str], command: str, url: str, folder: Path) -> Ended:
    return subprocess.run(
        [*within, sys.executable, "-m", "rqd", *command.split(), "--url", url],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        cwd=folder,
    )


def refused(within: list[str], url: str, folder: Path) -> str:
    """What a start says there, which has to end at once, by one line."""
    start = ran(within, "start", url, folder)
    assert start.returncode == 64, start
    assert start.stderr.count("\n") == 1, start
    return start.stderr


@pytest.mark.parametrize(
    ("number", "name"),
    [(PIDFD_OPEN, "pidfd_open"), (PIDFD_SEND_SIGNAL, "pidfd_send_signal")],
)
def test_a_system_call_that_is_withheld_is_named_at_the_start(
    redis_url: str, tmp_path: Path, number: int, name: str
) -> None:
    told = refused(lacking(number), redis_url, tmp_path)
    assert f"{name} is refused here (Operation not permitted)" in told
    assert "seccomp" in told


@pytest.mark.skipif(
    platform.machine() not in MEMFD_CREATE,
    reason="needs the number of memfd_create on this kind of machine",
)
def test_files_in_memory_that_are_withheld_are_named_at_the_start(
    redis_url: str, tmp_path: Path
) -> None:
    told = refused(lacking(MEMFD_CREATE[platform.machine()]), redis_url, tmp_path)
    assert "memfd_create is refused here" in told


@pytest.mark.parametrize("prepare", ["true", "mount -t tmpfs none /proc"])
def test_a_container_without_its_own_proc_is_told_to_mount_it(
    redis_url: str, tmp_path: Path, prepare: str
) -> None:
    needs_namespaces(*UNSHARE, "true")
    within = [*NAMESPACE, "--mount", "sh", "-c", f'{prepare} && exec "$@"', "sh"]
    told = refused(within, redis_url, tmp_path)
    assert "/proc does not show this process" in told
    assert "mount" in told


def test_doctor_sees_what_is_withheld(redis_url: str, tmp_path: Path) -> None:
    doctor = ran(lacking(PIDFD_OPEN), "doctor --json", redis_url, tmp_path)
    (kernel,) = [one for one in json.loads(doctor.stdout) if one["what"] == "kernel"]
    assert (kernel["verdict"], doctor.returncode) == (Verdict.FAILED, 1)
    assert "pidfd_open" in kernel["seen"]
    assert "seccomp" in kernel["advice"]
