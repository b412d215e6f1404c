"""What the client's tests put on queues."""

from typing import Any

import rqd
from rqd import get_current_job
from rqd.decorators import job


def multiply(x: int, y: int = 1) -> int:
    return x * y


async def multiply_later(x: int, y: int = 1) -> int:
    return x * y


def echo(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


def fail(message: str) -> None:
    raise ValueError(message)


def current_id() -> str | None:
    found = get_current_job()
    return found.id if found else None


class Greeter:
    def __init__(self, word: str) -> None:
        self.word = word

    def __call__(self, name: str) -> str:
        return f"{self.word}, {name}"

    def greet(self, name: str) -> str:
        return f"{self.word} {name}"

    @classmethod
    def hello(cls, name: str) -> str:
        return cls("hello").greet(name)

    @staticmethod
    def shout(name: str) -> str:
        return name.upper()


class Unreadable:
    """Goes onto a queue, and can't be read back."""

    def __reduce__(self) -> Any:
        return (_refuse, ())


def _refuse() -> None:
    raise RuntimeError("not here")


@job("emails", timeout="5m", result_ttl=60, meta={"by": "decorator"})
def decorated(x: int, *, word: str = "a") -> str:
    return word * x


@job("emails")
async def decorated_later(x: int) -> int:
    return x


def fence() -> int:
    return rqd.current_fence()
