"""The processes that a master left behind when it was killed, and their end.

A master's death takes its children's groups with it (zygote/); what is left is what a job started
in a session of its own. It is known by the mark in its environment, or, where a process that sets
titles has overwritten that, by the master's lock file, which everything forked holds open.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path

MARK = "RQD_MASTER_BOOT"
_BETWEEN_LOOKS_S = 0.02


def sweep(boot: str, lock_path: Path, patience_s: float) -> list[int]:
    """Kills what is left of the master with this boot id, which had this lock.

    Returns the pids that still live when the patience is over. Call it while holding the lock, and
    before anything of one's own holds the file open.
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
    """False also for a zombie, and for another user's process, which shows neither."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as environment:
            if f"{MARK}={boot}".encode() in environment.read().split(b"\0"):
                return True
    except OSError:
        return False
    return has_open(pid, lock_path)


def has_open(pid: str, path: str) -> bool:
    """Whether a process has this file open; False also for one that is gone, or another user's."""
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
        # Looked at again through the descriptor's back: the pid can't be another's any more.
        if _came_of(str(pid), boot, lock_path):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            select.select([pidfd], [], [], _BETWEEN_LOOKS_S)
    except OSError:
        pass  # gone, or another user's: then it still counts as left
    finally:
        os.close(pidfd)
