"""Pickles that do something when they are loaded: the proof that nobody did, or that one did."""

import pickle
from pathlib import Path
from typing import Any


class _Touch:
    """Made into a file by whoever loads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def pickle_that_touches(path: Path) -> bytes:
    """A pickle that makes this file when it is loaded."""
    return pickle.dumps(_Touch(path))


def call_that_touches(name: str, path: Path) -> bytes:
    """A call's payload, as a client would make it, whose arguments make this file when loaded."""
    return pickle.dumps((name, None, (_Touch(path),), {}))


# -- pickles as their writer likes them: the steps of a reader, one by one


def text(value: str) -> bytes:
    """Puts a text on the stack."""
    data = value.encode()
    return b"X" + len(data).to_bytes(4, "little") + data


def named(module: str, name: str) -> bytes:
    """Puts what a module has under this name."""
    return text(module) + text(name) + b"\x93"


def tuple_of(*values: bytes) -> bytes:
    """Puts a tuple of these."""
    return b"(" + b"".join(values) + b"t"


def dict_of(items: dict[str, bytes]) -> bytes:
    """Puts a dict of these."""
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def called(function: bytes, *args: bytes) -> bytes:
    """Puts what this function returns."""
    return function + tuple_of(*args) + b"R"


def built(target: bytes, state: bytes) -> bytes:
    """Puts the target, after its state was set."""
    return target + state + b"b"


def slot_state(attributes: dict[str, bytes]) -> bytes:
    """A state that is set with setattr."""
    return tuple_of(b"N", dict_of(attributes))


def ended(value: bytes) -> bytes:
    """A whole pickle that holds this value."""
    return b"\x80\x05" + value + b"."


def call_of(name: bytes, instance: bytes = b"N", *args: bytes) -> bytes:
    """A call's payload, of these."""
    return ended(tuple_of(name, instance, tuple_of(*args), b"}"))


def call_that_renames(path: Path, pattern_covers: str) -> bytes:
    """A call that writes a file, by a path's class that claims to be what a pattern covers."""
    module, _, name = pattern_covers.partition(".")
    kind = named(type(path).__module__, type(path).__name__)
    renamed = built(kind, slot_state({"__module__": text(module), "__qualname__": text(name)}))
    return call_of(
        text("write_text"), renamed + b"0" + called(kind, text(str(path))), text("planted")
    )
