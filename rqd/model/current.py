"""Which job this process is running: set by the child, read by `get_current_job`.

The one mutable value of a module in rqd: a child runs one job at a time, and the job's own code
has no other way to be told.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as typing has it, whose import would be paid at every fork
if TYPE_CHECKING:
    from rqd.model.around import Around
    from rqd.model.signing import Keyring


class CurrentJob:
    """The id, queue, attempt and fence of the job that runs here; `id` is None outside a job.

    `keyring`: the signing keys of the daemon this process belongs to, for what a job enqueues.
    `around`: its middleware and exception handlers, None for neither.
    """

    __slots__ = ("around", "attempt", "fence", "func_name", "id", "keyring", "queue", "terms")

    def __init__(self) -> None:
        self.keyring: Keyring | None = None
        self.around: Around | None = None
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
        self.queue = queue
        self.attempt = attempt
        self.fence = fence
        self.func_name = func_name
        self.terms = terms

    def leave(self) -> None:
        """Called by the child after a job's function."""
        self.id = None
        self.queue = ""
        self.attempt = 0
        self.fence = 0
        self.func_name = ""
        self.terms = ""


current = CurrentJob()
