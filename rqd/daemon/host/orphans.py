"""Processes that come to the master as their subreaper: reaped, or ended and awaited."""

from __future__ import annotations

import ctypes
import os
import signal
from contextlib import suppress

import psutil

from rqd.daemon.host.pidfd_signals import has_ended

_DEATH_MS = 50
_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
_libc = ctypes.CDLL(None, use_errno=True)


def become_subreaper() -> None:
    """Makes orphaned descendants of this process its children (PR_SET_CHILD_SUBREAPER)."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap_strangers(ours: set[int]) -> None:
    """Reaps what was given to this process, but none of `ours`, who are waited for elsewhere."""
    while True:
        try:
            seen = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if seen is None or seen.si_pid in ours:
            return
        os.waitpid(seen.si_pid, 0)


def kill_orphan(pid: int, pidfd: int) -> None:
    """SIGKILL to an orphan and its group; returns once it is dead, or after a short while."""
    for send in (os.killpg, os.kill):
        try:
            send(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue
    has_ended(pidfd, _DEATH_MS)


def kill_descendants(but: set[int]) -> None:
    """What escaped its group by setsid was orphaned to us: nothing of a job outlives the master.

    For its very end: standard input is closed.
    """
    with suppress(OSError):
        os.close(0)  # where no descriptor is free this one makes room to look
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
                spared.add(process.pid)  # it has become another user's
        psutil.wait_procs(left, timeout=0.02)
