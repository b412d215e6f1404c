"""A pipe that nobody writes into: when its write end closes, the kernel signals who has the other.

The only write end is with the process that the other one must not outlive, or not serve on without:
it closes by whatever death. What is set here belongs to the read end, and survives an exec.
"""

from __future__ import annotations

import os
from fcntl import F_SETFL, F_SETOWN, F_SETSIG, fcntl


def signal_at_close(read_fd: int, signum: int, pid: int) -> None:
    """Has the kernel send this process the signal when the last write end closes."""
    fcntl(read_fd, F_SETSIG, signum)
    fcntl(read_fd, F_SETOWN, pid)
    fcntl(read_fd, F_SETFL, os.O_ASYNC | os.O_NONBLOCK)


def end_with_master(read_fd: int, write_fd: int, signum: int) -> None:
    """In a forked process, before its exec: the kernel sends it the signal when its master dies."""
    signal_at_close(read_fd, signum, os.getpid())
    # Last, so that there is no gap: if the master is dead by now, it was this copy of its end that
    # kept the pipe open, and closing it signals us; if it dies later, its own end does.
    os.close(write_fd)
