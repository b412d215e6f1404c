"""Whether this kernel can put memory into huge pages when it is asked to."""

import mmap

import pytest

_MADV_COLLAPSE = 25
_BYTES = 2 * 1024 * 1024


def _can_collapse() -> bool:
    with mmap.mmap(-1, 2 * _BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.write(b"x" * 2 * _BYTES)
        try:
            memory.madvise(_MADV_COLLAPSE)
        except OSError:
            return False
        return True


needs_huge_pages = pytest.mark.skipif(
    not _can_collapse(), reason="needs huge pages by MADV_COLLAPSE"
)
