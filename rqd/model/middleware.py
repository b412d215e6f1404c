"""Runs a daemon's middleware and exception handlers around every job.

Only a zygote of a daemon with middleware or handlers loads this module.
"""

from __future__ import annotations

import sys
from functools import partial

from rqd.model.call import import_function
from rqd.model.current import current
from rqd.model.errors import InvalidCallError, JobTimeoutException
from rqd.model.terms import read_terms

TYPE_CHECKING = False  # as typing has it, whose import would be paid at every fork
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any


class RunningJob:
    """The running job, as middleware and exception handlers receive it.

    Its process knows these few values; any other attribute of a `Job` is read from Redis at its
    use.
    """

    __slots__ = (
        "_whole", "args", "attempt", "fence", "func_name", "id", "kwargs", "origin", "terms",
    )  # fmt: skip

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def __init__(self) -> None:
        here = current()
        self.id = here.id
        self.origin = here.queue
        self.func_name = here.func_name
        self.attempt = here.attempt
        self.fence = here.fence
        self.terms = read_terms(here.terms)
        self._whole: Any = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._job(), name)

    @property
    def meta(self) -> dict[str, Any]:
        """The `meta` of the job; `save_meta` stores it."""
        meta: dict[str, Any] = self._job().meta
        return meta

    @meta.setter
    def meta(self, meta: dict[str, Any]) -> None:
        self._job().meta = meta

    def _job(self) -> Any:
        if self._whole is None:
            # Imported by name, as a job's function: the module is in a layer above.
            self._whole = import_function("rqd.job.get_current_job")()
        return self._whole

    def __repr__(self) -> str:
        return f"<RunningJob {self.id}: {self.func_name}>"


class Middleware:
    """Middleware, outermost first, and exception handlers, by their dotted names.

    Raises InvalidCallError for a name behind which there is no callable.
    """

    __slots__ = ("_handlers", "_job", "_middleware")

    def __init__(self, middleware: Sequence[str], exception_handlers: Sequence[str]) -> None:
        self._middleware = [_find(name, "--middleware") for name in middleware]
        self._handlers = [_find(name, "--exception-handler") for name in exception_handlers]
        self._job: RunningJob | None = None

    def run(
        self,
        perform: Callable[..., Any],
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Returns the result of the outermost middleware, or that of `perform` without any."""
        job = self._job = RunningJob()
        job.args, job.kwargs = args, kwargs
        call = partial(perform, function, args, kwargs)
        for layer in reversed(self._middleware):
            call = partial(layer, job, call)
        return call()

    def notify(self, error: BaseException) -> None:
        """Calls the exception handlers, until a handler returns False; prints their errors.

        Raises JobTimeoutException when their time is over.
        """
        job = self._job
        if job is None or job.fence != current().fence:
            job = RunningJob()  # the job got no further than to its import
        for handler in self._handlers:
            try:
                goes_on = handler(job, type(error), error, error.__traceback__)
            except JobTimeoutException:
                raise
            except BaseException:  # noqa: BLE001 - a handler's failure is not the job's
                sys.excepthook(*sys.exc_info())
                continue
            if goes_on is not None and not goes_on:
                return


def _find(name: str, option: str) -> Callable[..., Any]:
    found = import_function(name)
    if isinstance(found, type):
        raise InvalidCallError(f"{option} {name} is a class: name a function or an instance")
    return found
