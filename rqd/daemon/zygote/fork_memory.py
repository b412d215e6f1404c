"""Keeps memory shared between the zygote and its forks: huge pages, full pools."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # as typing has it, whose import would be paid at every fork
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


# How the interpreter divides memory among its objects (its Objects/obmalloc.c): into pools of
# blocks of one size, whose free ones it hands out before it begins another pool.
_BLOCK_BYTES, _LARGEST_BLOCK_BYTES = 16, 512
_POOL_BYTES, _POOL_HEADER_BYTES = 16384, 48
_EMPTY_BYTES = sys.getsizeof(b"")
_MOST_HOLES = 2000  # of a size: where memory is divided in another way no end is seen


def fill_partial_pools() -> list[object]:
    """Takes what is free between the application's objects, for as long as the result is kept.

    There a child would make its own, a page to copy for nearly each. So it begins pools that have
    nothing else in them, and copies a page for each size.
    """
    kept: list[object] = []
    for size in range(_BLOCK_BYTES, _LARGEST_BLOCK_BYTES + 1, _BLOCK_BYTES):
        for _ in range(_MOST_HOLES):
            block = _block(size)
            kept.append(block)
            if id(block) % _POOL_BYTES == _POOL_HEADER_BYTES and _is_alone(block, size, kept):
                break
    return kept


def _is_alone(first: object, size: int, kept: list[object]) -> bool:
    """True if the two that are made next lie behind the first one of a pool."""
    behind = _block(size), _block(size)
    kept += behind
    # Of this size are the numbers that are reckoned with here, too.
    return size == 2 * _BLOCK_BYTES or id(behind[1]) == id(first) + 2 * size


def _block(size: int) -> object:
    """An object that takes so many bytes."""
    if size > 2 * _BLOCK_BYTES:
        return bytes(size - _EMPTY_BYTES)
    return float("1") if size > _BLOCK_BYTES else object()


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
