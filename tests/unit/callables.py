"""Things to enqueue, found by their names."""

from collections.abc import Callable
from functools import partial
from typing import Any

FAILED_IMPORTS = 0


def add(x: int, y: int = 1) -> int:
    return x + y


async def add_later(x: int, y: int = 1) -> int:
    return x + y


def make_nested() -> Callable[[], int]:
    def nested() -> int:
        return 1

    return nested


class Counter:
    """Callable, with methods of every kind; equal by what it counted."""

    def __init__(self, start: int = 0) -> None:
        self.start = start

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Counter) and other.start == self.start

    def __hash__(self) -> int:
        return hash(self.start)

    def __call__(self, by: int) -> int:
        return self.start + by

    def count(self, by: int) -> int:
        return self.start + by

    def __hidden(self) -> int:
        return self.start

    def hidden(self) -> Callable[[], int]:
        return self.__hidden

    @classmethod
    def make(cls, start: int) -> int:
        return cls(start).start

    @staticmethod
    def double(x: int) -> int:
        return 2 * x

    class Inner:
        @staticmethod
        def triple(x: int) -> int:
            return 3 * x


add_two = partial(add, y=2)


class Unpicklable:
    def __reduce__(self) -> Any:
        raise RuntimeError("it stays here")


class NoRepr:
    def __repr__(self) -> str:
        raise RuntimeError("it has no words")


class Reversing:
    """A serializer of a user's own."""

    @staticmethod
    def dumps(obj: Any) -> bytes:
        return repr(obj).encode()[::-1]

    @staticmethod
    def loads(data: bytes) -> Any:
        return eval(data[::-1])


class TextSerializer:
    """What RQ's users may have: dumps gives text."""

    @staticmethod
    def dumps(obj: Any) -> str:
        return repr(obj)

    @staticmethod
    def loads(data: bytes) -> Any:
        return eval(data)


class NoSerializer:
    pass


class InstanceSerializer:
    def dumps(self, obj: Any) -> bytes:
        return repr(obj).encode()

    def loads(self, data: bytes) -> Any:
        return eval(data)
