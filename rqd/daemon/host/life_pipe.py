"""A pipe that nobody writes into: when its write end closes, the kernel signals who has the other.

The only write end is with the process that the other one must not outlive, or not serve on without:
it closes by whatever death. What is set here belongs to the read end, and survives an exec.
"""

from __future__ import annotations

import fcntl
import os


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
