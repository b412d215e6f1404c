"""What the measurements ask of a contender."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

WORKERS = 4
BULK = 1000  # jobs a call of enqueue_many
SCRIPTS = Path(sys.executable).parent


class Contender(Protocol):
    """A job queue as the measurements see it. A handle is what its own enqueue returns."""

    @property
    def label(self) -> str:
        """What the tables call it."""
        ...

    @property
    def command(self) -> list[str]:
        """Starts its workers."""
        ...

    def enqueue(self, function: Callable[..., Any], *args: float) -> Any:
        """Puts one call on the queue."""
        ...

    def enqueue_many(self, function: Callable[..., Any], count: int, *args: float) -> list[Any]:
        """Puts the same call on the queue many times, as fast as it can."""
        ...

    def finished(self) -> int:
        """How many jobs have their result stored, by one command to the server."""
        ...

    def result(self, handle: Any) -> Any:
        """What the job returned; None while it has not."""
        ...


class Missing(Exception):
    """A contender can't be had here; the message says why."""


def need(*modules: str) -> None:
    """Raises Missing if one of these packages isn't installed."""
    for module in modules:
        if find_spec(module) is None:
            raise Missing(f"the package {module} isn't installed: bin/setup bench")


def portions(count: int) -> Iterator[int]:
    """The sizes of the calls that enqueue so many."""
    while count > 0:
        yield min(BULK, count)
        count -= BULK
