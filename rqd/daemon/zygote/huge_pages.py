"""The application's memory in huge pages, of which a fork copies few entries.

A fork copies an entry of the page tables for each page that the zygote has written, and the child's
exit looks at each of them again: for an application of 60 MB the larger part of what a job costs.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as typing has it, whose import would be paid at every fork
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

# For less it is not worth it: where a child writes, the kernel divides the huge page first.
_LEAST_BYTES = 16 * 1024 * 1024
_MADV_COLLAPSE = 25  # linux/mman.h, since 6.1; Python has no name for it
_TRIES = 3
_SIZE_PATH = "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size"


def use_huge_pages() -> int:
    """Has the kernel put what this process has written into huge pages; how many bytes. 0 where
    there are few, or the kernel has none.

    Once, when all is imported: in what is written afterwards, pages are divided again.
    """
    try:
        with open(_SIZE_PATH) as size, open("/proc/self/smaps") as smaps:
            areas = [*full_areas(smaps, int(size.read()))]
    except (OSError, ValueError):
        return 0  # a kernel without, or a sandbox
    if sum(length for _, length in areas) < _LEAST_BYTES:
        return 0
    import ctypes  # noqa: PLC0415 - what is loaded before the fork is paid at each

    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return collapse(areas, madvise)


def collapse(areas: Iterable[tuple[int, int]], madvise: Callable[[int, int, int], int]) -> int:
    """Puts each area, an address and a length, into huge pages; how many bytes are by now."""
    # A page that is in use for a moment fails its whole area, and may not the next time
    # (madvise(2): EAGAIN, EBUSY); what is huge by then costs nothing.
    return sum(
        length
        for at, length in areas
        if any(madvise(at, length, _MADV_COLLAPSE) == 0 for _ in range(_TRIES))
    )


def full_areas(smaps: Iterable[str], size: int) -> Iterator[tuple[int, int]]:
    """Address and length of what may be huge pages of `size` bytes, in memory that has no file, and
    nearly all of which was written: in a thread's stack there would be memory for nothing.

    `smaps`: the lines of /proc/PID/smaps.
    """
    start = end = 0
    for line in smaps:
        name, *told = line.split()
        if name.endswith(":"):
            is_full = name == "Rss:" and int(told[0]) * 1024 >= 0.9 * (end - start)
            first, last = -(-start // size) * size, end // size * size
            if is_full and first < last:
                yield first, last - first
        elif told[0] == "rw-p" and told[3] == "0":
            start, end = (int(address, 16) for address in name.split("-"))
        else:
            start = end = 0
