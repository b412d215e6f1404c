"""What a job has left running gets a moment to end by itself, before the zygote kills its group.

The resource trackers of `multiprocessing` and joblib remove semaphores and shared memory once
nobody holds their pipe any more: killed, they leave them in /dev/shm for ever.
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
    """True if a process that this one has started runs, or was not waited for."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except OSError:
        return False
    return True


def end_children() -> None:
    """Sends SIGTERM to what is left of the group, lets go of its pipes, and waits for its end, half
    a second at most. For a child that has said its last.
    """
    signal(SIGTERM, SIG_IGN)
    try:
        os.killpg(os.getpid(), SIGTERM)
        _let_go_of_pipes()
    except OSError:
        return  # the job has left its group or no descriptor, or others' rights let us do no more
    looks = 0  # and not the time: a job's tests may have left a clock that stands still
    while looks < _MOST_LOOKS:
        try:
            if os.waitpid(0, os.WNOHANG)[0] == 0:
                looks += 1
                sleep(_LOOK_EVERY_S)
        except ChildProcessError:
            return


def _let_go_of_pipes() -> None:
    # Not closed: threads of the job may write there still, and their numbers would be others' soon.
    # Its outputs are pipes, too: what these threads say of the loss is nobody's concern.
    null_fd = os.open(os.devnull, os.O_WRONLY)
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        try:
            is_pipe = os.fstat(fd).st_mode & _TYPE == _FIFO
            if is_pipe and fcntl(fd, F_GETFL) & os.O_ACCMODE == os.O_WRONLY:
                os.dup2(null_fd, fd)
        except OSError:
            pass  # the one that the folder was read by, or closed meanwhile
