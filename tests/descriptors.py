"""Processes that lack descriptors: what they have open, and how much more they may."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from resource import RLIMIT_NOFILE, prlimit


def descriptors(pid: int) -> set[int]:
    """Those that a process has open."""
    listed = set(map(int, os.listdir(f"/proc/{pid}/fd")))
    return {fd for fd in listed if os.path.lexists(f"/proc/{pid}/fd/{fd}")}  # not the listing's


def leave_room(pid: int, count: int) -> Callable[[], object]:
    """Lets a process open so many descriptors more; what takes that back."""
    usual, used = prlimit(pid, RLIMIT_NOFILE), descriptors(pid)
    limit = 0
    while limit in used or count:
        count -= limit not in used
        limit += 1
    prlimit(pid, RLIMIT_NOFILE, (limit, usual[1]))
    return lambda: prlimit(pid, RLIMIT_NOFILE, usual)


@contextmanager
def room_for(count: int) -> Iterator[None]:
    """Meanwhile this process may open so many descriptors more."""
    allow_more = leave_room(os.getpid(), count)
    try:
        yield
    finally:
        allow_more()
