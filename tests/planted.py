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
