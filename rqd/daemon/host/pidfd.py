"""Signals by descriptor: a pidfd, and the pipe whose end means that the master died."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess

from rqd.daemon.zygote import protocol


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
    _signal_by_pidfd(pidfd, protocol.STOP_SIGNAL)


def tell_cpu_limit_by_pidfd(pidfd: int) -> None:
    """Has JobTimeoutException raised in the child's job: its cpu time is over."""
    _signal_by_pidfd(pidfd, protocol.CPU_SIGNAL)


def show_stack_by_pidfd(pidfd: int) -> None:
    """Has the process write the stacks of its threads into its place's file."""
    _signal_by_pidfd(pidfd, protocol.STACK_SIGNAL)


def _signal_by_pidfd(pidfd: int, signum: int) -> None:
    try:
        signal.pidfd_send_signal(pidfd, signum)
    except (ProcessLookupError, PermissionError):
        return  # it is gone, or has changed its user: what is left is the zygote's kill


def signal_at_close(read_fd: int, signum: int, pid: int) -> None:
    """Has the kernel send this process the signal when the last write end closes."""
    # By its name here, not at the import: a client on macOS, where it is not, imports this.
    fcntl.fcntl(read_fd, fcntl.F_SETSIG, signum)
    fcntl.fcntl(read_fd, fcntl.F_SETOWN, pid)
    fcntl.fcntl(read_fd, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)


def end_with_master(read_fd: int, write_fd: int, signum: int) -> None:
    """In a forked process, before its exec: the kernel sends it the signal when its master dies."""
    signal_at_close(read_fd, signum, os.getpid())
    # Last, so that there is no gap: if the master is dead by now, it was this copy of its end that
    # kept the pipe open, and closing it signals us; if it dies later, its own end does.
    os.close(write_fd)
