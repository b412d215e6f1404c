"""What the jobs of a campaign do. Each notes its start and its end in its master's history.

The history is opened when this module is imported, in the zygote: a job that runs out of
descriptors, or closes them, has its say all the same. Nothing here is a test.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rqd
from rqd.exceptions import RetryLater
from rqd.model.current import current

LATER_S = 0.3  # as in calls.py, which is not imported in every child

MASTER = os.environ.get("RQD_TORTURE_MASTER", "")
PEER = os.environ.get("RQD_TORTURE_PEER", "")
_HIGH_FD = 900
_HANG = os.environ.get("RQD_TORTURE_HANG", "")


def _open_history() -> int:
    path = os.environ.get("RQD_TORTURE_HISTORY")
    if not path:
        return -1
    fd = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o644)
    # Far from the low numbers, which a job that closes what it inherited goes through.
    try:
        high = os.dup2(fd, _HIGH_FD, inheritable=False)
    except OSError:  # a host fault: there are no such numbers at the moment
        return fd
    os.close(fd)
    return high


_fd = _open_history()


if os.path.exists(os.environ.get("RQD_TORTURE_BROKEN", "")):
    raise ImportError("a broken deploy")


def _hang_while_told() -> None:
    while os.path.exists(_HANG):
        time.sleep(0.05)


if _HANG:
    os.register_at_fork(after_in_child=_hang_while_told)


def note(ev: str, job_id: str, **more: Any) -> None:
    """Appends an event of this execution."""
    event = {"ev": ev, "t": round(time.time(), 6), "id": job_id, "master": MASTER}
    event |= {"pid": os.getpid(), "fence": _fence(), **more}
    os.write(_fd, json.dumps(event).encode() + b"\n")
    os.fdatasync(_fd)


def attempt_number() -> int:
    """Which attempt this is, from 1."""
    if PEER == "rq":
        from rq import get_current_job

        job = get_current_job()
        return 1 + job.meta["retries"] - (job.retries_left or 0) if job else 0
    return current().attempt


def _fence() -> int:
    return 0 if PEER else current().fence


@contextmanager
def running(job_id: str) -> Iterator[None]:
    """Notes start and end, and how it ended."""
    note("start", job_id, attempt=attempt_number())
    try:
        yield
    except BaseException as error:
        note("end", job_id, how=type(error).__name__)
        raise
    note("end", job_id, how="returned")


def _result(job_id: str) -> str:
    return f"{job_id}/{_fence()}"


# -- the common work


def plain(job_id: str, seconds: float = 0.0) -> str:
    with running(job_id):
        time.sleep(seconds)
    return _result(job_id)


def flaky(job_id: str, failures: int) -> str:
    with running(job_id):
        if attempt_number() <= failures:
            raise ValueError(f"attempt {attempt_number()}")
    return _result(job_id)


def later(job_id: str, times: int, most: int | None = None) -> str:
    with running(job_id):
        if attempt_number() <= times:
            raise RetryLater(LATER_S, "not yet", max=most)
    return _result(job_id)


def carry(job_id: str, payload: bytes) -> str:
    with running(job_id):
        assert payload == payload[:1] * len(payload)
    return _result(job_id)


def produce(job_id: str, size_bytes: int) -> bytes:
    with running(job_id):
        return b"x" * size_bytes


def with_grandchild(job_id: str, seconds: float) -> str:
    with running(job_id):
        subprocess.run(["sleep", str(seconds)], check=False)
    return _result(job_id)


def overrun(job_id: str) -> None:
    with running(job_id):
        time.sleep(60)


def telling(job_id: str, times: int) -> str:
    with running(job_id):
        rqd.extend_timeout(60)
        for number in range(times):
            rqd.progress(number / times, "telling")
            print("telling", number)
        rqd.progress(1, "told")
    return _result(job_id)


def called(*_: Any) -> str:
    """A callback: a job of its own, whose id its producer does not know."""
    job_id = current().id or ""
    with running(job_id):
        pass
    return _result(job_id)


# -- jobs that behave badly


def leave(job_id: str) -> None:
    note("start", job_id, attempt=attempt_number())
    os._exit(0)


def segfault(job_id: str) -> None:
    note("start", job_id, attempt=attempt_number())
    ctypes.string_at(0)


def poison(job_id: str) -> None:
    note("start", job_id, attempt=attempt_number())
    os.kill(os.getpid(), signal.SIGKILL)


def sys_exit(job_id: str) -> None:
    with running(job_id):
        sys.exit(3)


def recurse(job_id: str) -> None:
    with running(job_id):
        _recurse(0)


def _recurse(depth: int) -> int:
    return _recurse(depth + 1) + 1


def leave_daemon(job_id: str, seconds: float) -> str:
    """Leaves a process behind in a session of its own, whose parent is gone."""
    with running(job_id):
        if (middle := os.fork()) == 0:
            os.setsid()
            if os.fork() == 0:
                note("left", job_id)
                time.sleep(seconds)
            os._exit(0)
        os.waitpid(middle, 0)
    return _result(job_id)


def close_output(job_id: str) -> str:
    with running(job_id):
        os.close(1)
        os.close(2)
    return _result(job_id)


def flood_output(job_id: str, size_bytes: int) -> str:
    with running(job_id):
        line = "y" * 1023 + "\n"
        for number in range(size_bytes // 2048):
            print(line, end="", file=sys.stdout if number % 2 else sys.stderr)
    return _result(job_id)


def close_descriptors(job_id: str) -> str:
    with running(job_id):
        os.closerange(3, 800)
    return _result(job_id)


def swallow_timeouts(job_id: str) -> None:
    note("start", job_id, attempt=attempt_number())
    while True:
        try:
            time.sleep(0.05)
        except BaseException:  # noqa: BLE001 - the fault that is injected
            continue


def wait_for_a_stop(job_id: str) -> None:
    """Ends by nothing else."""
    with running(job_id):
        while True:
            time.sleep(0.05)


def hold_the_gil(job_id: str) -> int:
    note("start", job_id, attempt=attempt_number())
    return sum(range(10**12))  # a loop in C: no signal handler written in Python runs


def eat_memory(job_id: str, size_bytes: int) -> str:
    with running(job_id):
        held = bytearray(size_bytes)
        held[::4096] = b"x" * len(held[::4096])
        assert len(held) == size_bytes
    return _result(job_id)


def hoard(job_id: str, size_bytes: int) -> None:
    """Has it until somebody ends it."""
    note("start", job_id, attempt=attempt_number())
    held = bytearray(size_bytes)
    held[::4096] = b"x" * len(held[::4096])
    while held:
        time.sleep(0.05)


def leave_threads(job_id: str) -> str:
    with running(job_id):
        for _ in range(3):
            threading.Thread(target=time.sleep, args=(30,)).start()
    return _result(job_id)


def unpicklable(job_id: str) -> Any:
    with running(job_id):
        return lambda: Path
