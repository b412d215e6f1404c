"""Finds and kills processes that a dead master or zygote left running."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from rqd.daemon.host.pidfd import has_ended

MARK = "RQD_MASTER_BOOT"  # the variable that names a process's master
_DEATH_MS = 50
_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
_libc = ctypes.CDLL(None, use_errno=True)


def become_subreaper() -> None:
    """Makes orphaned descendants of this process its children (PR_SET_CHILD_SUBREAPER)."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def kill_orphan(pid: int, pidfd: int) -> None:
    """Sends SIGKILL to an orphan and its group; returns once it is dead, or after a short while."""
    for send in (os.killpg, os.kill):
        with suppress(ProcessLookupError, PermissionError):
            send(pid, signal.SIGKILL)
    has_ended(pidfd, _DEATH_MS)


def kill_descendants(but: set[int]) -> None:
    """Kills all descendants but these and theirs, so that nothing of a job outlives the master.

    Processes that left their group by setsid are our orphans, too. For the master's very end:
    standard input is closed.
    """
    with suppress(OSError):
        os.close(0)  # where no descriptor is free, the close makes room to look
    spared = set(but)
    for pid in but:
        try:
            spared |= {child.pid for child in psutil.Process(pid).children(recursive=True)}
        except psutil.NoSuchProcess:
            continue
    for _ in range(100):
        left = [p for p in psutil.Process().children(recursive=True) if p.pid not in spared]
        if not left:
            return
        for process in left:
            try:
                process.kill()
                os.waitpid(process.pid, os.WNOHANG)
            except (psutil.NoSuchProcess, ChildProcessError):
                continue
            except psutil.AccessDenied:
                spared.add(process.pid)  # it runs as another user by now
        psutil.wait_procs(left, timeout=0.02)


def kill_stale(boot: str, lock_path: Path, patience_s: float) -> list[int]:
    """Kills the processes left by the master with this boot id, which had this lock.

    Returns the pids that still live after `patience_s` seconds. Call it while holding the lock, and
    before any child of this process has the file open.
    """
    give_up_at = time.monotonic() + patience_s
    while left := list(_left_behind(boot, str(lock_path))):
        for pid in left:
            _kill(pid, boot, str(lock_path))
        if time.monotonic() >= give_up_at:
            break
    return left


def _left_behind(boot: str, lock_path: str) -> Iterator[int]:
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid() and _came_of(entry, boot, lock_path):
            yield int(entry)


def _came_of(pid: str, boot: str, lock_path: str) -> bool:
    """True if a process belongs to this master. False for a zombie or another user's process."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as environment:
            if f"{MARK}={boot}".encode() in environment.read().split(b"\0"):
                return True
    except OSError:
        return False
    return has_open(pid, lock_path)


def has_open(pid: str, path: str) -> bool:
    """True if a process has this file open; False if it is gone, or another user's."""
    try:
        open_fds = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False
    for fd in open_fds:
        try:
            if os.readlink(f"/proc/{pid}/fd/{fd}") == path:
                return True
        except OSError:
            continue  # closed meanwhile
    return False


def _kill(pid: int, boot: str, lock_path: str) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        # Checked again while the descriptor is open: the pid can't be another process's any more.
        if _came_of(str(pid), boot, lock_path):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            has_ended(pidfd, _DEATH_MS)
    except OSError:
        pass  # gone, or another user's: such a process still counts as left
    finally:
        os.close(pidfd)
