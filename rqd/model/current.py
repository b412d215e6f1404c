"""The job that the calling code belongs to: set by the child, read by `get_current_job`.

A mutable value of a module, on purpose: a child runs one job at a time, and the job's code has no
other way to learn which job it is. A process that runs several jobs, in its threads or tasks, sets
`of_context` for each (inline.py).
"""

from __future__ import annotations

import os
from _contextvars import ContextVar

TYPE_CHECKING = False  # as typing has it, whose import would be paid at every fork
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from rqd.model.allowlist import Allowlist
    from rqd.model.signing import Keyring

    class Line(Protocol):
        """A job's line to its master. Only `record` waits; the latest message of a kind counts."""

        pid: int  # the process that may speak on it

        def progress(self, fraction: float, message: str) -> None:
            """Reports how far the job is."""

        def save_meta(self, meta: bytes, signature: str) -> None:
            """Saves the job's notes, serialized."""

        def record(self) -> dict[bytes, bytes] | None:
            """Fetches the job's hash by way of the master, and waits. None if that is no way."""

        def extend(self, seconds: float) -> None:
            """Asks for so much more time for the job."""

    class Middleware(Protocol):
        """Runs the user's code around every job: a Middleware."""

        def run(
            self,
            perform: Callable[..., Any],
            function: Callable[..., Any],
            args: tuple[Any, ...],
            kwargs: dict[str, Any],
        ) -> Any:
            """Returns the result of the outermost middleware."""

        def notify(self, error: BaseException) -> None:
            """Calls the exception handlers."""


class CurrentJob:
    """A job's id, queue, attempt and fence, while it runs; `id` is None outside a job.

    `keyring`: the signing keys of the daemon this process belongs to, for jobs that the job
    enqueues. `allowlist`: the names that values read from Redis may use here, None for any.
    `middleware`: the daemon's middleware and exception handlers, None for neither.

    `line`: to the master, None where there is none. `meta`: the notes that this attempt saved,
    serialized.
    """

    __slots__ = (
        "allowlist",
        "attempt",
        "fence",
        "func_name",
        "id",
        "keyring",
        "line",
        "meta",
        "middleware",
        "queue",
        "terms",
    )

    def __init__(self) -> None:
        self.keyring: Keyring | None = None
        self.allowlist: Allowlist | None = None
        self.middleware: Middleware | None = None
        self.line: Line | None = None
        self.leave()

    def enter(
        self,
        job_id: str,
        queue: str,
        attempt: int,
        fence: int,
        func_name: str = "",
        terms: str = "",
    ) -> None:
        """Sets the job of this process; the child calls it before a job's function."""
        self.id: str | None = job_id
        self.meta: bytes | None = None
        self.queue = queue
        self.attempt = attempt
        self.fence = fence
        self.func_name = func_name
        self.terms = terms

    @property
    def open_line(self) -> Line | None:
        """The line of the job that runs here. None outside a job, and in a process that the job
        forked: two processes would mix their messages.
        """
        line = self.line
        is_ours = self.id is not None and line is not None and line.pid == os.getpid()
        return line if is_ours else None

    def leave(self) -> None:
        """Clears the job of this process; the child calls it after a job's function."""
        self.id = self.meta = None
        self.queue = ""
        self.attempt = 0
        self.fence = 0
        self.func_name = ""
        self.terms = ""


of_process = CurrentJob()
of_context: ContextVar[CurrentJob] = ContextVar("current job", default=of_process)


def current() -> CurrentJob:
    """Returns the job of this thread or task, if it has one of its own; else the process's."""
    return of_context.get()
