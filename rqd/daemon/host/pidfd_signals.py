"""Processes by their pidfds: a signal reaches this one or none, whatever became of its pid."""

from __future__ import annotations

import os
import select
import signal
import subprocess

from rqd.daemon.zygote import frames


def watched(process: subprocess.Popen[bytes]) -> int:
    """The pidfd of a process that was just started; ends it where none can be had: OSError."""
    try:
        return os.pidfd_open(process.pid)
    except OSError:
        process.kill()
        process.wait()
        raise


def has_ended(pidfd: int, within_ms: float | None = 0) -> bool:
    """True if the process is gone, reaped or not; waits so long for that, None for without end."""
    watch = select.poll()
    watch.register(pidfd, select.POLLIN)
    return bool(watch.poll(within_ms))


def kill_by_pidfd(pidfd: int) -> None:
    """SIGKILL to the process itself, whatever became of its pid: when the zygote can't do it."""
    _signal_by_pidfd(pidfd, signal.SIGKILL)


def stop_by_pidfd(pidfd: int) -> None:
    """Has JobStoppedException raised in the child's job; its other processes hear nothing."""
    _signal_by_pidfd(pidfd, frames.STOP_SIGNAL)


def tell_cpu_limit_by_pidfd(pidfd: int) -> None:
    """Has JobTimeoutException raised in the child's job: its cpu time is over."""
    _signal_by_pidfd(pidfd, frames.CPU_SIGNAL)


def show_stack_by_pidfd(pidfd: int) -> None:
    """Has the process write the stacks of its threads into its place's file."""
    _signal_by_pidfd(pidfd, frames.STACK_SIGNAL)


def _signal_by_pidfd(pidfd: int, signum: int) -> None:
    try:
        signal.pidfd_send_signal(pidfd, signum)
    except (ProcessLookupError, PermissionError):
        return  # it is gone, or has changed its user: what is left is the zygote's kill
