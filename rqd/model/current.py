"""Which job this process is running: set by the child, read by `get_current_job`.

The one mutable value of a module in rqd: a child runs one job at a time, and the job's own code
has no other way to be told.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # as typing has it, whose import would be paid at every fork
if TYPE_CHECKING:
    from typing import Protocol

    from rqd.model.allowlist import Allowlist
    from rqd.model.middleware import Middleware
    from rqd.model.signing import Keyring

    class Line(Protocol):
        """From a running job to its master: nothing on it waits, of each kind the latest counts."""

        pid: int  # the process that may speak on it

        def progress(self, fraction: float, message: str) -> None:
            """How far the job is."""

        def save_meta(self, meta: bytes, signature: str) -> None:
            """The job's notes, serialized."""

        def record(self) -> dict[bytes, bytes] | None:
            """The job's hash by way of the master, None if that is no way. This one waits."""

        def extend(self, seconds: float) -> None:
            """So much more time for the job."""


class CurrentJob:
    """The id, queue, attempt and fence of the job that runs here; `id` is None outside a job.

    `keyring`: the signing keys of the daemon this process belongs to, for what a job enqueues.
    `allowlist`: what may be named by what is read from Redis here, None for anything. `around`: the
    daemon's middleware and exception handlers, None for neither.
    `line`: to the master, None where there is none. `meta`: what this attempt saved, serialized.
    """

    __slots__ = (
        "allowlist",
        "around",
        "attempt",
        "fence",
        "func_name",
        "id",
        "keyring",
        "line",
        "meta",
        "queue",
        "terms",
    )

    def __init__(self) -> None:
        self.keyring: Keyring | None = None
        self.allowlist: Allowlist | None = None
        self.around: Middleware | None = None
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
        """Called by the child before a job's function."""
        self.id: str | None = job_id
        self.meta: bytes | None = None
        self.queue = queue
        self.attempt = attempt
        self.fence = fence
        self.func_name = func_name
        self.terms = terms

    @property
    def open_line(self) -> Line | None:
        """The line of the job that runs here; None outside of one, and in a process it forked: two
        would mix what they say.
        """
        line = self.line
        is_ours = self.id is not None and line is not None and line.pid == os.getpid()
        return line if is_ours else None

    def leave(self) -> None:
        """Called by the child after a job's function."""
        self.id = self.meta = None
        self.queue = ""
        self.attempt = 0
        self.fence = 0
        self.func_name = ""
        self.terms = ""


current = CurrentJob()
