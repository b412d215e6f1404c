"""What an allowlist of `tests.admitted.*` admits, and what must not be reached through it."""

from __future__ import annotations

import os  # noqa: F401 - what a careless reader would reach
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

from tests import forbidden
from tests.forbidden import Forbidden, touch

limits = {"orders": 5}
handlers = {"touch": touch}


@dataclass
class Order:
    number: int
    notes: list[str] = field(default_factory=list)

    def ship(self, where: str) -> str:
        return f"{self.number} to {where}"

    @classmethod
    def count(cls) -> str:
        return cls.__name__


class Name(str):
    """Shows a pattern another text than it has."""

    __slots__ = ()

    def __format__(self, _spec: str) -> str:
        return "ship"

    def __str__(self) -> str:
        return "ship"


class Slots:
    __slots__ = ("_other", "run")
    _other: Any
    run: Any

    @property
    def other(self) -> Any:
        return self._other


class Keeps:
    """Has a state of its own."""

    def __setstate__(self, state: Any) -> None:
        self.state = state


class Listed(list[Any]):
    pass


class Mapped(dict[Any, Any]):
    pass


class Wrong(Exception):
    pass


class Colour(Enum):
    RED = 1


class Makes(type):
    pass


class Made(metaclass=Makes):
    pass


class Adds:
    def append(self, _value: Any) -> None:
        raise AssertionError("no job asked for it")

    extend = add = update = append

    def __setitem__(self, _key: Any, _value: Any) -> None:
        raise AssertionError("no job asked for it")


the_order = Order(1)
the_id = UUID(int=7)


def echo(value: Any = None) -> Any:
    return value


def find_handler(name: str = "touch") -> Any:
    return handlers[name]


def find_class(*_args: Any) -> Any:
    return Forbidden


def find_own_class(*_args: Any) -> Any:
    return Order


def find_module(*_args: Any) -> Any:
    return forbidden


def find_order(*_args: Any) -> Order:
    return the_order


def find_id(*_args: Any) -> UUID:
    return the_id


def find_limits(*_args: Any) -> dict[str, int]:
    return limits


def find_path(name: str = ".") -> Path:
    return Path(str(name))


def total(values: Iterable[Any] = ()) -> int:
    return len(list(values))
