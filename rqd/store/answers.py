"""An answer that none of Redis' is: an HTTP server's, or one that a hostile server made up.

Whoever makes sense of it gets an IndexError here, a ValueError there. Users and daemons get
UnreadableAnswerError, a server that is not there. redis-py is loaded where an error is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import iscoroutinefunction, isfunction
from typing import Any, TypeVar

from rqd.model.errors import RqdError

T = TypeVar("T")

# What cannot be sent is a ValueError too, but a UnicodeEncodeError.
_UNREADABLE = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError)


class answers_are_read:  # noqa: N801 - as below
    """Asks Redis and reads the answer; raises UnreadableAnswerError where it can't be read."""

    __slots__ = ()

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: object, error: BaseException | None, _stack: object) -> None:
        if isinstance(error, _UNREADABLE):
            _explain(error)


def _explain(error: Exception) -> None:
    from redis import RedisError  # noqa: PLC0415 - modules of jobs import this one

    from rqd.store.errors import UnreadableAnswerError  # noqa: PLC0415 - as above

    # Some of ours, and of redis-py's, are ValueErrors, too.
    if isinstance(error, RqdError | RedisError | UnicodeEncodeError):
        return
    what = f"{type(error).__name__}: {str(error)[:100]}"
    raise UnreadableAnswerError(
        f"Redis gave an answer that can't be read ({what}): is that a Redis, is the URL right?"
    ) from error


def reads_answers(kind: type[T]) -> type[T]:
    """Makes each public method of a class raise UnreadableAnswerError for such an answer."""
    for name, method in vars(kind).copy().items():
        if not name.startswith("_") and isfunction(method):
            wrap = _awaiting if iscoroutinefunction(method) else _reading
            setattr(kind, name, wraps(method)(wrap(method)))
    return kind


# As a context manager costs more than a try, and these are on an enqueue's way.
def _reading(method: Callable[..., Any]) -> Callable[..., Any]:
    def read(*args: Any, **named: Any) -> Any:
        try:
            return method(*args, **named)
        except _UNREADABLE as error:
            _explain(error)
            raise

    return read


def _awaiting(method: Callable[..., Any]) -> Callable[..., Any]:
    async def read(*args: Any, **named: Any) -> Any:
        try:
            return await method(*args, **named)
        except _UNREADABLE as error:
            _explain(error)
            raise

    return read
