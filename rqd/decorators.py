"""The `job` decorator: a function that can be called, or put on its queue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeVar, cast

from rqd.job import Connection, Job
from rqd.queue import EnqueueData, JobOptions, Queue

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class JobFunction(Protocol[P, R_co]):
    """The decorated function: call it to run it here, `delay` it to run it in a worker."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> Job[R_co]:
        """Puts the call on the queue; takes exactly what the function takes."""

    def enqueue(self, *args: Any, **kwargs: Any) -> Job[R_co]:
        """As `Queue.enqueue`: takes job options among the keyword arguments too."""


def job(
    queue: Queue | str,
    connection: Connection = None,
    timeout: float | str | None = None,
    **options: Any,
) -> Callable[[Callable[P, R]], JobFunction[P, R]]:
    """Gives a function `.delay(..)` and `.enqueue(..)`, which put its call on `queue` (RQ's).

    `timeout` and the options of `Queue.enqueue` hold for every such call. Nothing is connected
    before the first one.
    """
    chosen = JobOptions(job_timeout=timeout, **options)

    def decorate(function: Callable[P, R]) -> JobFunction[P, R]:
        def target() -> Queue:
            return queue if isinstance(queue, Queue) else Queue(queue, connection)

        def delay(*args: P.args, **kwargs: P.kwargs) -> Job[Any]:
            return target().enqueue_many([EnqueueData(function, args, kwargs, chosen)])[0]

        def enqueue(*args: Any, **kwargs: Any) -> Job[Any]:
            defaults = {name: getattr(chosen, name) for name in JobOptions.__dataclass_fields__}
            given = {name: value for name, value in defaults.items() if value is not None}
            return target().enqueue(function, *args, **{**given, **kwargs})

        function.delay = delay  # type: ignore[attr-defined]  # what JobFunction promises
        function.enqueue = enqueue  # type: ignore[attr-defined]
        return cast("JobFunction[P, R]", function)

    return decorate
