"""What classes of the user's own have to offer, for type checkers."""

from __future__ import annotations

from typing import Any, Protocol


class Serializer(Protocol):
    """Anything with `dumps` and `loads`; a module will do (RQ's contract)."""

    def dumps(self, obj: Any, /) -> bytes: ...

    def loads(self, data: bytes, /) -> Any: ...
