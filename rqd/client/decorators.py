"""The `job` decorator: a function that can be called, or put on its queue."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Coroutine
from dataclasses import replace
from typing import Any, ParamSpec, Protocol, TypeVar, cast, overload

from rqd.client.connection import Connection
from rqd.client.job import Job
from rqd.client.options import EnqueueData, JobOptions, job_options
from rqd.client.queue import Queue

P = ParamSpec("P")
R = TypeVar("R")
J = TypeVar("J")
R_co = TypeVar("R_co", covariant=True)
J_co = TypeVar("J_co")


# RQ's `delay` uses these itself.
_OF_DELAY = ("depends_on", "job_id", "at_front")


class JobFunction(Protocol[P, R_co, J_co]):
    """The decorated function: call it to run it here, `delay` it to run it in a worker.

    A coroutine function returns a coroutine here; its job returns the coroutine's value.
    """

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> Job[J_co]:
        """Puts the call on the queue, with the function's own arguments; returns the job.

        Like RQ's it also accepts `depends_on`, `job_id` and `at_front` of `enqueue`, unless the
        function has an argument of that name. Type checkers do not know these.
        """

    def enqueue(self, *args: Any, **kwargs: Any) -> Job[J_co]:
        """Puts the call on the queue, like `Queue.enqueue`: job options are keyword arguments."""


class JobDecorator(Protocol):
    """The decorator that `job(..)` returns."""

    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> JobFunction[P, Coroutine[Any, Any, R], R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> JobFunction[P, R, R]: ...


def job(
    queue: Queue | str,
    connection: Connection = None,
    timeout: float | str | None = None,
    **options: Any,
) -> JobDecorator:
    """Gives a function `.delay(..)` and `.enqueue(..)`, which put its call on `queue` (RQ's).

    `timeout` and the options of `Queue.enqueue` hold for every such call. Nothing is connected
    before the first call. Raises InvalidCallError for an option that doesn't exist.
    """
    chosen = job_options(timeout, options)

    def decorate(function: Callable[..., Any]) -> JobFunction[..., Any, Any]:
        taken = _argument_names(function)
        of_delay = [name for name in _OF_DELAY if name not in taken]

        def target() -> Queue:
            return queue if isinstance(queue, Queue) else Queue(queue, connection)

        def delay(*args: Any, **kwargs: Any) -> Job[Any]:
            asked = {name: kwargs.pop(name) for name in of_delay if name in kwargs}
            options = _with(chosen, asked) if asked else chosen
            return target().enqueue_many([EnqueueData(function, args, kwargs, options)])[0]

        def enqueue(*args: Any, **kwargs: Any) -> Job[Any]:
            defaults = {name: getattr(chosen, name) for name in JobOptions.__dataclass_fields__}
            given = {name: value for name, value in defaults.items() if value is not None}
            return target().enqueue(function, *args, **{**given, **kwargs})

        function.delay = delay  # type: ignore[attr-defined]  # what JobFunction promises
        function.enqueue = enqueue  # type: ignore[attr-defined]  # as delay
        return cast("JobFunction[..., Any, Any]", function)

    return cast("JobDecorator", decorate)


def _argument_names(function: Callable[..., Any]) -> Collection[str]:
    try:
        return inspect.signature(function).parameters
    except (ValueError, TypeError):
        return ()  # a function in C may have no signature


def _with(options: JobOptions, asked: dict[str, Any]) -> JobOptions:
    """Returns the decorator's options, replaced by the call's options that are not None."""
    checked = job_options(None, asked)
    return replace(
        options,
        **{name: getattr(checked, name) for name, value in asked.items() if value is not None},
    )
