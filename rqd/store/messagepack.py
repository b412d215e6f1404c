"""What goes packed into scripts: MessagePack, which Lua has in Redis, in its longest forms only."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

_length = Struct(">I").pack


def packed_text(raw: bytes) -> bytes:
    """One text (str32)."""
    return b"\xdb%b%b" % (_length(len(raw)), raw)


def packed_list(packed: Sequence[bytes]) -> bytes:
    """Several, packed already, as one list (array32)."""
    return b"\xdd%b%b" % (_length(len(packed)), b"".join(packed))
