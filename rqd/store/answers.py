"""Detects answers that are not Redis': an HTTP server's, or forged by a hostile server.

Reading such an answer raises an IndexError here, a ValueError there. Users and daemons get
UnreadableAnswerError instead, which counts as a missing server. redis-py is loaded only where an
error is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import iscoroutinefunction, isfunction
from typing import Any, TypeVar

from rqd.model.errors import RqdError

T = TypeVar("T")

# A value that cannot be sent raises a ValueError, too, but a UnicodeEncodeError.
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

    # Some errors of ours, and of redis-py's, are ValueErrors, too.
    if isinstance(error, RqdError | RedisError | UnicodeEncodeError):
        return
    what = f"{type(error).__name__}: {str(error)[:100]}"
    raise UnreadableAnswerError(
        f"Redis gave an answer that can't be read ({what}): is that a Redis, is the URL right?"
    ) from error


def reads_answers(kind: type[T]) -> type[T]:
    """Makes each public method of a class raise UnreadableAnswerError for an unreadable answer."""
    for name, method in vars(kind).copy().items():
        if not name.startswith("_") and isfunction(method):
            wrap = _awaiting if iscoroutinefunction(method) else _reading
            setattr(kind, name, wraps(method)(wrap(method)))
    return kind


# Not a context manager, which costs more than a try: these functions are on an enqueue's way.
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
