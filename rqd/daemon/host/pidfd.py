"""Signals by descriptor: a pidfd, and the pipe whose end means that the master died."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess

from rqd.daemon.zygote import protocol


def watched(process: subprocess.Popen[bytes]) -> int:
    """Returns the pidfd of a new process. Raises OSError, and ends it, if there is none."""
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
    """Sends SIGKILL to the process itself, safe from a reused pid, where the zygote can't."""
    _signal_by_pidfd(pidfd, signal.SIGKILL)


def stop_by_pidfd(pidfd: int) -> None:
    """Has JobStoppedException raised in the child's job; its other processes get no signal."""
    _signal_by_pidfd(pidfd, protocol.STOP_SIGNAL)


def send_cpu_limit_by_pidfd(pidfd: int) -> None:
    """Has JobTimeoutException raised in the child's job: its cpu time is over."""
    _signal_by_pidfd(pidfd, protocol.CPU_SIGNAL)


def show_stack_by_pidfd(pidfd: int) -> None:
    """Has the process write the stacks of its threads into its slot's file."""
    _signal_by_pidfd(pidfd, protocol.STACK_SIGNAL)


def _signal_by_pidfd(pidfd: int, signum: int) -> None:
    try:
        signal.pidfd_send_signal(pidfd, signum)
    except (ProcessLookupError, PermissionError):
        return  # it is gone, or has changed its user: the zygote's kill remains


def signal_at_close(read_fd: int, signum: int, pid: int) -> None:
    """Has the kernel send this process the signal when the last write end closes."""
    # Named here, not at the import: a client on macOS, which lacks it, imports this module.
    fcntl.fcntl(read_fd, fcntl.F_SETSIG, signum)
    fcntl.fcntl(read_fd, fcntl.F_SETOWN, pid)
    fcntl.fcntl(read_fd, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)


def end_with_master(read_fd: int, write_fd: int, signum: int) -> None:
    """Has the kernel send the signal when the master dies. For a forked process, before exec."""
    signal_at_close(read_fd, signum, os.getpid())
    # Last, so that there is no gap. If the master is dead by now, this copy of its end kept the
    # pipe open, and closing it signals us. If it dies later, its own end does.
    os.close(write_fd)
