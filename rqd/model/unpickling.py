"""Reads pickles that may be hostile: uses only objects that its rules admit.

The interpreter's own reader sets attributes and calls methods of any object on its stack, a named
class or function included. So it reads only pickles that name nothing, as the pickles of most
calls. All others go through the standard library's reader in Python, whose steps this module
replaces.
"""

from __future__ import annotations

import _io
import copyreg
import pickle
import sys
from _pickle import Unpickler
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Any, ClassVar, Protocol

from rqd.model.errors import NotAllowedError

# Opcodes that put a builtin value on the stack, or move values on it; the last two call
# `find_class`.
_KEPT_NAMES = """
    PROTO FRAME STOP MARK POP POP_MARK DUP GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE
    NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT
    STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8
    BINBYTES SHORT_BINBYTES BINBYTES8 TUPLE EMPTY_TUPLE TUPLE1 TUPLE2 TUPLE3
    LIST EMPTY_LIST DICT EMPTY_DICT EMPTY_SET FROZENSET GLOBAL STACK_GLOBAL
"""
_KEPT = tuple(getattr(pickle, name)[0] for name in _KEPT_NAMES.split())
_BUILT_IN = frozenset(
    (
        *(type(None), bool, int, float, complex, str, bytes, bytearray),
        *(tuple, list, dict, set, frozenset, range, slice),
    )
)
# Stands for getattr, with which the pickle of a time zone begins; it does nothing.
_GETATTR = object()


class Rules(Protocol):
    """Decides which objects a pickle may use: an Allowlist."""

    def find_named(self, module: str, name: str) -> Any:
        """Returns the function or class of this name. Raises NotAllowedError."""

    def check_type(self, kind: type) -> None:
        """Raises NotAllowedError unless values of this type are admitted."""

    def is_plain(self, kind: type) -> bool:
        """True for a type of plain values."""


def read_pickle(pickled: bytes, rules: Rules) -> Any:
    """Returns the value of a pickle. Raises NotAllowedError before any other import or call.

    An allowed function or class is called as often as the pickle says, with any arguments.
    """
    # An extension that an earlier pickle has used would come without a lookup of its name.
    copyreg.clear_extension_cache()
    try:
        return _NamelessReader(_io.BytesIO(pickled)).load()
    except _NameFoundError:
        pass
    return _Reader(pickled, rules).load()


def is_class(value: Any) -> bool:
    """True if the value is a class; isinstance also asks the value itself."""
    return issubclass(type(value), type)


def class_attribute(kind: type, name: str) -> Any:
    """Returns the attribute of a class or its bases, never of an instance; None without."""
    return next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), None)


class _NameFoundError(Exception):
    """The pickle names something: the other reader must read it."""


class _NamelessReader(Unpickler):
    """Reads builtin values, at full speed: without a name there is nothing to call or to change."""

    def find_class(self, _module: str, _name: str, /) -> Any:
        raise _NameFoundError


def _refuse(_reader: _Reader) -> None:
    """Refuses extensions, persistent ids, buffers from outside, and the calls of old protocols."""
    raise NotAllowedError("a pickle with extensions or old-style calls is not allowed by --allow")


class _Reader(pickle._Unpickler):
    """Reads names, and applies the rules to every use of the named objects.

    It calls only objects that were found by name in this pickle. It changes only objects that were
    made in it.
    """

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **dict.fromkeys(range(256), _refuse),
        **{opcode: pickle._Unpickler.dispatch[opcode] for opcode in _KEPT},
    }

    # Attributes of the standard library's reader, which its stubs lack.
    stack: list[Any]
    append: Callable[[Any], None]
    read: Callable[[int], bytes]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, pickled: bytes, rules: Rules) -> None:
        super().__init__(_io.BytesIO(pickled), fix_imports=False)
        self._rules = rules
        # Keyed by id; the reference keeps the id from being reused.
        self._named: dict[int, Any] = {}
        self._returned: dict[int, Any] = {}

    def find_class(self, module: str, name: str, /) -> Any:
        if (module, name) == ("builtins", "getattr"):
            return _GETATTR
        return self._note_named(self._rules.find_named(module, name))

    # -- calls

    def load_reduce(self) -> None:
        args, function = self.stack.pop(), self.stack.pop()
        if function is _GETATTR:
            self.append(self._note_named(self._zone_maker(args)))
            return
        self._check_named(function, args)
        self._push(function(*args), function)

    dispatch[pickle.REDUCE[0]] = load_reduce

    def load_newobj(self) -> None:
        args, kind = self.stack.pop(), self.stack.pop()
        self._push(self._new(kind, args, {}), kind)

    dispatch[pickle.NEWOBJ[0]] = load_newobj

    def load_newobj_ex(self) -> None:
        kwargs, args, kind = self.stack.pop(), self.stack.pop(), self.stack.pop()
        self._push(self._new(kind, args, kwargs), kind)

    dispatch[pickle.NEWOBJ_EX[0]] = load_newobj_ex

    # -- changes

    def load_build(self) -> None:
        state = self.stack.pop()
        made = self.stack[-1]
        kind = type(made)
        # A member of an Enum existed before the pickle.
        if id(made) in self._named or issubclass(kind, type | Enum):
            raise _no_change(made)
        self._rules.check_type(kind)
        setstate = class_attribute(kind, "__setstate__")
        is_plain, was_there = self._rules.is_plain(kind), id(made) in self._returned
        if is_plain and was_there:
            raise _no_change(made)
        if setstate is not None and setstate is not BaseException.__setstate__:
            setstate.__get__(made, kind)(state)
        elif is_plain or was_there:
            raise _no_change(made)
        else:
            _set_attributes(made, state)

    dispatch[pickle.BUILD[0]] = load_build

    def load_append(self) -> None:
        item = self.stack.pop()
        self._extend([item])

    dispatch[pickle.APPEND[0]] = load_append

    def load_appends(self) -> None:
        self._extend(self.pop_mark())

    dispatch[pickle.APPENDS[0]] = load_appends

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key, value])

    dispatch[pickle.SETITEM[0]] = load_setitem

    def load_setitems(self) -> None:
        self._set_items(self.pop_mark())

    dispatch[pickle.SETITEMS[0]] = load_setitems

    def load_additems(self) -> None:
        items = self.pop_mark()
        self._changeable(set).update(items)

    dispatch[pickle.ADDITEMS[0]] = load_additems

    def load_bytearray8(self) -> None:
        # The standard library's method allocates any size before it looks for the bytes.
        self.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8

    # -- the checks behind them

    def _push(self, made: Any, by: Any) -> None:
        """Puts the result of a call on the stack, if its type is admitted.

        A function, module or class comes onto the stack only by its name.
        """
        kind = type(made)
        if kind not in _BUILT_IN:
            self._rules.check_type(kind)
        if kind is not by:
            self._returned[id(made)] = made  # it may have been there before
        self.append(made)

    def _note_named(self, found: Any) -> Any:
        self._named[id(found)] = found
        return found

    def _check_named(self, function: Any, args: Any) -> None:
        if id(function) not in self._named:
            raise NotAllowedError(
                f"a pickle that calls an instance of {type(function).__name__} is not allowed by"
                " --allow: it calls by name only"
            )
        if type(args) is not tuple:
            raise pickle.UnpicklingError("the arguments of a call are no tuple")

    def _zone_maker(self, args: Any) -> Any:
        zone = getattr(sys.modules.get("zoneinfo"), "ZoneInfo", _GETATTR)
        if type(args) is tuple and len(args) == 2:
            owner, name = args
            if owner is zone and type(name) is str and name == "_unpickle":
                return zone._unpickle
        raise NotAllowedError("builtins.getattr is not allowed by --allow")

    def _new(self, kind: Any, args: Any, kwargs: Any) -> Any:
        self._check_named(kind, args)
        if not is_class(kind) or type(kwargs) is not dict:
            raise pickle.UnpicklingError("an instance of a value that is no class")
        return kind.__new__(kind, *args, **kwargs)

    def _changeable(self, *kinds: type) -> Any:
        """Returns the top of the stack, if it was made here, as an instance of these classes."""
        made = self.stack[-1]
        was_there = id(made) in self._named or id(made) in self._returned
        if was_there or not issubclass(type(made), kinds):
            raise _no_change(made)
        return made

    def _extend(self, items: list[Any]) -> None:
        made = self._changeable(list, deque)
        type(made).extend(made, items)

    def _set_items(self, items: list[Any]) -> None:
        made = self._changeable(dict)
        for at in range(0, len(items), 2):
            made[items[at]] = items[at + 1]


def _set_attributes(made: Any, state: Any) -> None:
    """Sets attributes as the interpreter does, but not `__class__`, `__dict__` and the like."""
    attributes, slots = state if type(state) is tuple and len(state) == 2 else (state, None)
    for values in (attributes, slots):
        if values is None:
            continue
        if type(values) is not dict:
            raise pickle.UnpicklingError("a state is no dict")
        for name in values:
            if type(name) is not str:
                raise pickle.UnpicklingError("an attribute's name is no text")
            if name.startswith("__") and name.endswith("__"):
                raise NotAllowedError(f"a state with {name!r} is not allowed by --allow")
    if attributes:
        own = made.__dict__
        for name, value in attributes.items():
            own[sys.intern(name)] = value
    for name, value in (slots or {}).items():
        setattr(made, name, value)


def _no_change(made: Any) -> NotAllowedError:
    kind = type(made).__name__
    return NotAllowedError(f"a pickle that changes an instance of {kind} is not allowed by --allow")
