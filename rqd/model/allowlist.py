"""What may be called: patterns of dotted names, and a reader of pickles that keeps to them.

A pickle can call whatever it names while it is being read, so a check of the function alone would
come too late: with an allowlist every name in a pickle has to be on it, or be a plain value's type.
It is imported only where there is an allowlist.
"""

from __future__ import annotations

import _io
import _pickle
import re
import sys
from collections.abc import Callable, Sequence
from fnmatch import translate
from typing import Any

from rqd.model.call import import_function
from rqd.model.errors import NotAllowedError

# Types of which making one does nothing else; what arguments are commonly made of.
_PLAIN = {
    "builtins": "bytearray complex frozenset range set slice",
    "collections": "Counter OrderedDict deque",
    "datetime": "date datetime time timedelta timezone",
    "decimal": "Decimal",
    "fractions": "Fraction",
    "pathlib": "PosixPath PurePosixPath",
    "uuid": "SafeUUID UUID",
    "zoneinfo": "ZoneInfo._unpickle",
}
_PLAIN_NAMES = frozenset(f"{home}.{name}" for home in _PLAIN for name in _PLAIN[home].split())


class Allowlist:
    """Patterns of dotted names in the manner of fnmatch: `shop.tasks.*`, `shop.mail.send`."""

    __slots__ = ("_matches",)

    def __init__(self, patterns: Sequence[str]) -> None:
        self._matches = re.compile("|".join(map(translate, patterns))).match

    def check(self, name: str) -> None:
        """Raises NotAllowedError unless a pattern covers this dotted name."""
        if not self._matches(name):
            raise NotAllowedError(f"{name} is not allowed by --allow")

    def check_serializer(self, name: str) -> None:
        """Raises NotAllowedError for a serializer of which no pattern speaks; ours are allowed."""
        if name not in ("pickle", "json"):
            self.check(name)

    def load(self, pickled: bytes) -> Any:
        """Reads a pickle; raises NotAllowedError before it would import or call anything else."""
        return _Reader(_io.BytesIO(pickled), self).load()

    def find(self, name: str, instance: Any) -> Callable[..., Any]:
        """What a call names. Raises NotAllowedError, before the import for a function's module."""
        if instance is not None:
            owner = instance if isinstance(instance, type) else type(instance)
            self.check(f"{owner.__module__}.{owner.__qualname__}.{name}")
            return getattr(instance, name)  # type: ignore[no-any-return]  # as in decode_call
        self.check(name)
        function = import_function(name)
        parts = name.split(".")
        cut = len(parts) - 1
        while ".".join(parts[:cut]) not in sys.modules:
            cut -= 1
        self.check_home(".".join(parts[:cut]), parts[cut:], name)
        return function

    def check_home(self, module: str, path: Sequence[str], name: str) -> None:
        """Raises NotAllowedError for what a module has only imported: `shop.tasks.os.system`."""
        found: Any = sys.modules[module]
        for part in path[:-1]:
            found = getattr(found, part)
            if isinstance(found, type(sys)):
                raise NotAllowedError(f"{name} is not allowed by --allow: {part} is a module")
        found = getattr(found, path[-1])
        if isinstance(found, type(sys)):
            raise NotAllowedError(f"{name} is not allowed by --allow: it is a module")
        home, qualname = getattr(found, "__module__", None), getattr(found, "__qualname__", None)
        if isinstance(home, str) and isinstance(qualname, str):
            self._check_origin(f"{home}.{qualname}", name)

    def _check_origin(self, origin: str, name: str) -> None:
        if not self._matches(origin):
            raise NotAllowedError(f"{name} is not allowed by --allow: it is {origin}")


class _Reader(_pickle.Unpickler):
    """Finds no name in a pickle but those that are allowed."""

    def __init__(self, file: Any, allowlist: Allowlist) -> None:
        super().__init__(file)
        self._allowlist = allowlist

    def find_class(self, module: str, name: str, /) -> Any:
        full = f"{module}.{name}"
        if full in _PLAIN_NAMES:
            return super().find_class(module, name)
        self._allowlist.check(full)
        found = super().find_class(module, name)
        self._allowlist.check_home(module, name.split("."), full)
        return found
