"""Decides which functions and classes a daemon may call: patterns of dotted names.

A pickle can call and change the objects that it names while it is being read. A check of the
function alone would come too late, so unpickling.py reads the pickle by these rules. Both modules
are imported only where there is an allowlist.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from fnmatch import translate
from typing import Any

from rqd.model.call import get_part, import_home
from rqd.model.errors import InvalidCallError, NotAllowedError
from rqd.model.serializers import PickleSerializer, resolve_serializer
from rqd.model.unpickling import class_attribute, is_class, read_pickle

# Types whose construction does nothing else; arguments are commonly made of them.
_PLAIN = {
    "builtins": "bytearray complex frozenset range set slice",
    "collections": "Counter OrderedDict deque",
    "datetime": "date datetime time timedelta timezone",
    "decimal": "Decimal",
    "fractions": "Fraction",
    "uuid": "SafeUUID UUID",
    "zoneinfo": "ZoneInfo",
}
_PLAIN_NAMES = frozenset(f"{home}.{name}" for home in _PLAIN for name in _PLAIN[home].split())
# Their methods read and write files, which a pattern that covers a job's class might cover.
_PATH = re.compile(r"pathlib\.(?:_local\.)?(?:Pure)?(?:Posix|Windows)?Path").fullmatch
# Every class has such methods, `__reduce__` or `__init_subclass__`, and none of them is a job.
_SPECIAL = re.compile(r"(?:.*\.)?__(?!call__\Z)[^.]*__(?:\..*)?", re.DOTALL).fullmatch


class Allowlist:
    """Patterns of dotted names in the manner of fnmatch: `shop.tasks.*`, `shop.mail.send`."""

    __slots__ = ("_matches",)

    def __init__(self, patterns: Sequence[str]) -> None:
        self._matches = re.compile("|".join(map(translate, patterns))).match

    def check(self, name: str) -> None:
        """Raises NotAllowedError unless a pattern covers this dotted name."""
        if not self._matches(name):
            hint = ": pass str(path), or allow this name" if _PATH(name) else ""
            raise NotAllowedError(f"{name} is not allowed by --allow{hint}")
        if _SPECIAL(name):
            raise NotAllowedError(f"{name} is not allowed by --allow: no special name is a job")

    def loader(self, serializer: str) -> Callable[[bytes], Any]:
        """Returns the function that reads values of this serializer by the rules of this allowlist.

        Raises NotAllowedError for a serializer that no pattern covers; rqd's own are allowed.
        """
        self.check_serializer(serializer)
        found = resolve_serializer(serializer)
        # The object decides, not the name: a pattern may cover another name of a serializer of
        # ours.
        return self.load if found is PickleSerializer else found.loads

    def check_serializer(self, serializer: str) -> None:
        """Raises NotAllowedError for a serializer that no pattern covers, before its import."""
        if serializer not in ("pickle", "json"):
            self.check(serializer)

    def load(self, pickled: bytes) -> Any:
        """Reads a pickle; raises NotAllowedError before it would import or call anything else."""
        return read_pickle(pickled, self)

    def find(self, name: str, instance: Any) -> Callable[..., Any]:
        """Returns the function or method that a call names.

        Raises NotAllowedError, for a function before the import of its module, and InvalidCallError
        for an object that is not callable.
        """
        if type(name) is not str:  # another type can show a pattern another text
            raise NotAllowedError(f"a name of type {type(name).__name__} is not allowed by --allow")
        if instance is not None:
            return self._find_method(name, instance)
        self.check(name)
        found = self._find_own(*import_home(name), name)
        if not callable(found):
            raise InvalidCallError(f"{name!r} is a {type(found).__name__}, not callable")
        return found  # type: ignore[no-any-return]  # callable() checked just above

    def find_named(self, module: str, name: str) -> Any:
        """Returns the function or class that a pickle names; imports its module.

        Raises NotAllowedError unless it is allowed, or the type of a plain value.
        """
        full = f"{module}.{name}"
        if full in _PLAIN_NAMES and "." not in name:
            return getattr(__import__(module), name)
        self.check(full)
        __import__(module)
        found = self._find_own(module, name.split("."), full)
        if not hasattr(found, "__qualname__"):
            # A pickle must not fill a module's data.
            raise NotAllowedError(f"{full} is not allowed by --allow: it is no function or class")
        if is_class(found) and issubclass(found, type):
            raise NotAllowedError(f"{full} is not allowed by --allow: it makes classes")
        return found

    def check_type(self, kind: type) -> None:
        """Raises NotAllowedError unless values of this type are plain, or it is allowed."""
        if not self.is_plain(kind):
            self.check(_full_name(kind))

    def is_plain(self, kind: type) -> bool:
        """True if it is really the type of plain values whose name it has."""
        return _full_name(kind) in _PLAIN_NAMES

    def _find_method(self, name: str, instance: Any) -> Callable[..., Any]:
        """Returns a method of the class. The pickle may have set the instance's attributes."""
        owner = instance if is_class(instance) else type(instance)
        full = f"{_full_name(owner)}.{name}"
        self.check(full)
        method = class_attribute(owner, name)
        # A property or slot returns a value of the instance, which the pickle chose.
        if method is None or not hasattr(method, "__get__") or hasattr(method, "__set__"):
            raise NotAllowedError(f"{full} is not allowed by --allow: its class has no such method")
        # The type: ignore is as in decode_call.
        return method.__get__(None if owner is instance else instance, owner)  # type: ignore[no-any-return]

    def _find_own(self, module: str, path: Sequence[str], name: str) -> Any:
        """Returns the object that a module has under this path, if it is the module's own.

        Raises NotAllowedError for a path through anything but classes, as `shop.tasks.os.system` or
        `shop.tasks.f.__globals__.get`. Raises it, too, for an object that is only imported there,
        unless its own name is allowed.
        """
        found: Any = sys.modules[module]
        for part in path[:-1]:
            found = get_part(found, part, name)
            if not is_class(found):
                raise NotAllowedError(f"{name} is not allowed by --allow: {part} is no class")
        found = get_part(found, path[-1], name)
        if hasattr(found, "__qualname__"):
            # Methods of C types have no module, their types do.
            home = (
                getattr(found, "__module__", None) or getattr(found, "__objclass__", int).__module__
            )
            origin = f"{home}.{found.__qualname__}"
            if not self._matches(origin):
                raise NotAllowedError(f"{name} is not allowed by --allow: it is {origin}")
        return found


def _full_name(kind: type) -> str:
    """Returns a class's module and name. A class may claim any name: raises NotAllowedError unless
    the name leads to this class.
    """
    full = f"{kind.__module__}.{kind.__qualname__}"
    found: Any = sys.modules.get(str(kind.__module__))
    for part in kind.__qualname__.split("."):
        found = getattr(found, part, None)
    if found is not kind:
        raise NotAllowedError(f"{full} is not allowed by --allow: there is no such class")
    return full
