"""Finds and reaps the processes that jobs leave, and gives them a moment to end before a kill.

The resource trackers of `multiprocessing` and joblib remove semaphores and shared memory once
their pipe closes. If they are killed, these stay in /dev/shm for ever.
"""

from __future__ import annotations

import os
from _signal import SIG_IGN, SIGTERM, signal
from fcntl import F_GETFL, fcntl
from time import sleep

_LOOK_EVERY_S = 0.005
_MOST_LOOKS = 100
_FIFO, _TYPE = 0o010000, 0o170000  # as `stat` has them


def has_children() -> bool:
    """True if this process has a child that runs, or that was not waited for."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except OSError:
        return False
    return True


def children_of(pid: int) -> list[int]:
    """Returns the children of all threads of a process; empty if it is gone."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb", 0) as listing:
                found += map(int, listing.read().split())
    except (OSError, ValueError):
        pass
    return found


def reap_strangers(ours: set[int]) -> None:
    """Reaps adopted children of this process, a subreaper, but none of `ours`."""
    while True:
        try:
            seen = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if seen is None or seen.si_pid in ours:
            return
        os.waitpid(seen.si_pid, 0)


def end_children() -> None:
    """Sends SIGTERM to the group, gives up our ends of pipes, and waits for our children's end.

    It waits for half a second at most. Called by a child after its last answer.
    """
    signal(SIGTERM, SIG_IGN)
    try:
        os.killpg(os.getpid(), SIGTERM)
        _let_go_of_pipes()
    except OSError:
        return  # the job left its group, left no descriptor free, or runs as another user
    looks = 0  # a count, as a job's tests may have left a clock that stands still
    while looks < _MOST_LOOKS:
        try:
            if os.waitpid(0, os.WNOHANG)[0] == 0:
                looks += 1
                sleep(_LOOK_EVERY_S)
        except ChildProcessError:
            return


def _let_go_of_pipes() -> None:
    # Replaced, not closed: threads of the job may still write to these numbers, which would soon be
    # other files. The outputs are pipes, too, so errors of these threads are lost on purpose.
    null_fd = os.open(os.devnull, os.O_WRONLY)
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        try:
            is_pipe = os.fstat(fd).st_mode & _TYPE == _FIFO
            if is_pipe and fcntl(fd, F_GETFL) & os.O_ACCMODE == os.O_WRONLY:
                os.dup2(null_fd, fd)
        except OSError:
            pass  # the listing's own descriptor, or closed meanwhile
