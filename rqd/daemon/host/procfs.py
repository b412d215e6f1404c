"""Reads other processes' memory and cpu time from /proc.

Reading smaps_rollup walks through a process's page tables: 2 ms for 35 MB and 33 ms for 430 MB, in
the reader; `status` takes 20 us.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rqd.daemon.zygote.exit_cleanup import children_of

_TICKS = os.sysconf("SC_CLK_TCK")
# A larger process is not walked through: the walk would hold up the master for 0.25 s.
_MOST_WALKED_BYTES = 2 * 1024**3
# Fields of /proc/PID/stat after the command's name: utime, stime, and the same of reaped children.
_CPU_FIELDS = slice(11, 15)


@dataclass(frozen=True, slots=True)
class Size:
    """A process's memory without a file behind it, including memory shared with its parent."""

    anon_bytes: int
    shmem_bytes: int
    swap_bytes: int

    @property
    def unbacked_bytes(self) -> int:
        """Resident or swapped out, without memory shared by name (shared memory)."""
        return self.anon_bytes + self.swap_bytes


def size_of(pid: int) -> Size | None:
    """Returns a process's size, at little cost; None if it is gone."""
    sizes = _kibibytes(pid, "status", (b"RssAnon", b"RssShmem", b"VmSwap"))
    return None if sizes is None else Size(*sizes)


def own_bytes(pids: Sequence[int], parent: int, limit_bytes: int | None = None) -> int | None:
    """Returns the memory that these processes, the first and its descendants, share with no others.

    `parent` is the process that forked the first. The figure is exact near `limit_bytes`. Clearly
    below or above it, and beyond 2 GiB, it is a lower bound. It then lacks the pages of its parent
    that the first has changed. None if the first is gone.
    """
    sizes = {pid: size for pid in pids if (size := size_of(pid)) is not None}
    first = pids[0]
    if first not in sizes:
        return None
    inherited = size_of(parent)
    at_least = _at_least(sizes, first, inherited.unbacked_bytes if inherited else 0)
    at_most = sum(size.unbacked_bytes + size.shmem_bytes for size in sizes.values())
    is_clear = limit_bytes is not None and not at_least <= limit_bytes < at_most
    if is_clear or at_most > _MOST_WALKED_BYTES:
        return at_least
    return _walk(sizes, parent)


def cpu_s(pids: Iterable[int]) -> float:
    """Returns the cpu seconds of these processes, and of the children they have waited for."""
    return sum(map(_cpu_s, pids))


def group_of(leader: int, parent: int) -> list[int]:
    """Returns the process first, then all its descendants, then orphans of its group.

    The orphans are children of `parent`, the subreaper.
    """
    found = [leader]
    for pid in found:
        found += children_of(pid)
    for orphan in children_of(parent):
        if orphan not in found and _group(orphan) == leader:
            found.append(orphan)
    return found


def _at_least(sizes: dict[int, Size], first: int, inherited_bytes: int) -> int:
    """Returns the bytes that can't be shared.

    The first's memory beyond its parent's, and the others' beyond the larger of these two.
    """
    largest = max(inherited_bytes, sizes[first].unbacked_bytes)
    others = (size.unbacked_bytes for pid, size in sizes.items() if pid != first)
    beyond = max(0, sizes[first].unbacked_bytes - inherited_bytes)
    return beyond + sum(max(0, other - largest) for other in others)


def _walk(sizes: dict[int, Size], parent: int) -> int:
    walked = [one for pid in sizes if (one := _walked(pid)) is not None]
    own = sum(private for private, _ in walked)
    if len(walked) > 1 and (whole := _walked(parent)) is not None:
        # Memory that a job had before it forked is shared by now, but among its own processes only:
        # all that exceeds its parent's share.
        own += max(0, *(shared - sum(whole) for _, shared in walked))
    return own


def _walked(pid: int) -> tuple[int, int] | None:
    """Returns a process's private and shared bytes, by its page tables; None if it is gone."""
    sizes = _kibibytes(pid, "smaps_rollup", (b"Private_Dirty", b"SwapPss", b"Shared_Dirty"))
    return None if sizes is None else (sizes[0] + sizes[1], sizes[2])


def _cpu_s(pid: int) -> float:
    try:
        fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
        return sum(map(int, fields[_CPU_FIELDS])) / _TICKS
    except (OSError, ValueError):
        return 0.0


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def _kibibytes(pid: int, name: str, wanted: tuple[bytes, ...]) -> list[int] | None:
    """Reads these lines `Name: n kB` of a file of the process, in bytes; None if there are none."""
    try:
        text = _read(f"/proc/{pid}/{name}")
        lines = (line.split(b":", 1) for line in text.splitlines() if line.startswith(wanted))
        found = {key: int(value.split()[0]) * 1024 for key, value in lines}
    except (OSError, ValueError, IndexError):
        return None
    # A zombie has no such lines.
    return [found.get(key, 0) for key in wanted] if found else None


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 65536)
    finally:
        os.close(fd)
