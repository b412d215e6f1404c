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
from rqd.model.serializers import resolve_serializer

# Types of which making one does nothing else; what arguments are commonly made of.
_PLAIN = {
    "builtins": "bytearray complex frozenset range set slice",
    "collections": "Counter OrderedDict deque",
    "datetime": "date datetime time timedelta timezone",
    "decimal": "Decimal",
    "fractions": "Fraction",
    "pathlib": "PosixPath PurePosixPath",
    "pathlib._local": "PosixPath PurePosixPath",  # their home in Python 3.13
    "uuid": "SafeUUID UUID",
    "zoneinfo": "ZoneInfo",
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

    def loader(self, serializer: str) -> Callable[[bytes], Any]:
        """What reads values of this serializer, and keeps to what is allowed.

        Raises NotAllowedError for a serializer of which no pattern speaks; ours are allowed.
        """
        if serializer == "pickle":
            return self.load
        if serializer != "json":
            self.check(serializer)
        return resolve_serializer(serializer).loads

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

    def check_home(self, module: str, path: Sequence[str], name: str) -> Any:
        """What a module has under this path, if it is the module's own.

        Raises NotAllowedError for what lies behind anything but classes, `shop.tasks.os.system` or
        `shop.tasks.f.__globals__.get`, and for what is only imported there, unless that is allowed.
        """
        found: Any = sys.modules[module]
        for part in path[:-1]:
            found = getattr(found, part)
            if not isinstance(found, type):
                raise NotAllowedError(f"{name} is not allowed by --allow: {part} is no class")
        found = getattr(found, path[-1])
        if hasattr(found, "__qualname__"):
            # Methods of C types have no module, their types do.
            home = (
                getattr(found, "__module__", None) or getattr(found, "__objclass__", int).__module__
            )
            origin = f"{home}.{found.__qualname__}"
            if not self._matches(origin):
                raise NotAllowedError(f"{name} is not allowed by --allow: it is {origin}")
        return found


class _Reader(_pickle.Unpickler):
    """Finds no name in a pickle but those that are allowed."""

    def __init__(self, file: Any, allowlist: Allowlist) -> None:
        super().__init__(file)
        self._allowlist = allowlist

    def find_class(self, module: str, name: str, /) -> Any:
        full = f"{module}.{name}"
        if full in _PLAIN_NAMES:
            return super().find_class(module, name)
        if full == "builtins.getattr":
            return self._attribute
        self._allowlist.check(full)
        super().find_class(module, name)  # imports it
        found = self._allowlist.check_home(module, name.split("."), full)
        if not hasattr(found, "__qualname__"):
            # A module's data is not for a pickle to fill.
            raise NotAllowedError(f"{full} is not allowed by --allow: it is no function or class")
        return found

    def _attribute(self, owner: Any, name: str) -> Any:
        """In place of getattr, by which the pickle of a time zone names its maker."""
        zone = getattr(sys.modules.get("zoneinfo"), "ZoneInfo", None)
        if owner is not zone or name != "_unpickle":
            self._allowlist.check("builtins.getattr")
        return getattr(owner, name)
