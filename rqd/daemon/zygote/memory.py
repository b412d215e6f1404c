"""Where in the zygote's memory its children will make their objects."""

from __future__ import annotations

import sys

# How the interpreter divides memory among its objects (its Objects/obmalloc.c): into pools of
# blocks of one size, whose free ones it hands out before it begins another pool.
_BLOCK_BYTES, _LARGEST_BLOCK_BYTES = 16, 512
_POOL_BYTES, _POOL_HEADER_BYTES = 16384, 48
_EMPTY_BYTES = sys.getsizeof(b"")
_MOST_HOLES = 2000  # of a size: where memory is divided in another way no end is seen


def fill_holes() -> list[object]:
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
