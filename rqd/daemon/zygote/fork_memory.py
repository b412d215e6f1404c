"""Keeps memory shared between the zygote and its forks: huge pages, full pools."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # in place of typing's, whose import every fork would pay for
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


# The interpreter divides memory into pools of blocks of one size (its Objects/obmalloc.c). It hands
# out a pool's free blocks before it begins another pool.
_BLOCK_BYTES, _LARGEST_BLOCK_BYTES = 16, 512
_POOL_BYTES, _POOL_HEADER_BYTES = 16384, 48
_EMPTY_BYTES = sys.getsizeof(b"")
_MOST_HOLES = 2000  # of a size: the end is not found if memory is divided in another way


def fill_partial_pools() -> list[object]:
    """Fills the free blocks between the application's objects, for as long as the result is kept.

    A child would put its objects there, with a page to copy for nearly each. With full pools it
    begins empty ones instead, and copies a page for each size.
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
    """True if `first` is the first block of a pool, and the next two blocks lie behind it."""
    behind = _block(size), _block(size)
    kept += behind
    # For this size a check would fail: the numbers that this code computes have it, too.
    return size == 2 * _BLOCK_BYTES or id(behind[1]) == id(first) + 2 * size


def _block(size: int) -> object:
    """Returns an object of so many bytes."""
    if size > 2 * _BLOCK_BYTES:
        return bytes(size - _EMPTY_BYTES)
    return float("1") if size > _BLOCK_BYTES else object()


# Less is not worth it: the kernel divides a huge page before a child can write to it.
_LEAST_BYTES = 16 * 1024 * 1024
_MADV_COLLAPSE = 25  # linux/mman.h, since 6.1; Python has no name for it
_TRIES = 3
_SIZE_PATH = "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size"


def use_huge_pages() -> int:
    """Has the kernel move this process's memory into huge pages; returns how many bytes.

    0 if there is little memory, or the kernel has no huge pages. Called once, after all imports:
    later writes divide pages again.
    """
    try:
        with open(_SIZE_PATH) as size, open("/proc/self/smaps") as smaps:
            areas = [*full_areas(smaps, int(size.read()))]
    except (OSError, ValueError):
        return 0  # a kernel without huge pages, or a sandbox
    if sum(length for _, length in areas) < _LEAST_BYTES:
        return 0
    import ctypes  # noqa: PLC0415 - what is loaded before the fork is paid at each

    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return collapse(areas, madvise)


def collapse(areas: Iterable[tuple[int, int]], madvise: Callable[[int, int, int], int]) -> int:
    """Moves each area, an address and a length, into huge pages; returns how many bytes are."""
    # A page in use fails its whole area for the moment (madvise(2): EAGAIN, EBUSY), so we try
    # again. Pages that are huge already cost nothing.
    return sum(
        length
        for at, length in areas
        if any(madvise(at, length, _MADV_COLLAPSE) == 0 for _ in range(_TRIES))
    )


def full_areas(smaps: Iterable[str], size: int) -> Iterator[tuple[int, int]]:
    """Yields address and length of the areas that can become huge pages of `size` bytes.

    They have no file and are nearly all written; a thread's stack, say, would waste memory.
    `smaps`: the lines of /proc/PID/smaps.
    """
    start = end = 0
    for line in smaps:
        name, *values = line.split()
        if name.endswith(":"):
            is_full = name == "Rss:" and int(values[0]) * 1024 >= 0.9 * (end - start)
            first, last = -(-start // size) * size, end // size * size
            if is_full and first < last:
                yield first, last - first
        elif values[0] == "rw-p" and values[3] == "0":
            start, end = (int(address, 16) for address in name.split("-"))
        else:
            start = end = 0
