"""What goes packed into scripts: lists of texts, which Lua in Redis takes apart in one step."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

_length = Struct(">I").pack


def packed_text(raw: bytes) -> bytes:
    """One text, its length before it."""
    return _length(len(raw)) + raw


def packed_list(packed: Sequence[bytes]) -> bytes:
    """Several, packed already, as one list: how many they are before them."""
    return _length(len(packed)) + b"".join(packed)
