"""Which jobs of a queue are where, under RQ's names."""

from __future__ import annotations

from typing import Any, Protocol

from rqd.connection import Backend, backend_for
from rqd.job import Connection, Job


class _Queue(Protocol):
    """What a registry wants to know of a queue."""

    name: str

    @property
    def connection(self) -> Backend: ...


class BaseRegistry:
    """The ids of a queue's jobs in one state."""

    index = ""

    def __init__(
        self, name: str = "default", connection: Connection = None, queue: _Queue | None = None
    ) -> None:
        self.name = queue.name if queue is not None else name
        self._backend = queue.connection if queue is not None else backend_for(connection)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.get_job_ids())

    def __len__(self) -> int:
        return self.count

    def __contains__(self, job_or_id: Job[Any] | str) -> bool:
        wanted = job_or_id if isinstance(job_or_id, str) else job_or_id.id
        return wanted in self.get_job_ids()

    def get_job_ids(self, start: int = 0, end: int = -1, desc: bool = False) -> list[str]:
        """The ids from `start` to `end`, both included, -1 for the last; in order of their time."""
        ids = self._backend.views.index_ids(self.name, self.index)
        if desc:
            ids.reverse()
        return ids[start:] if end == -1 else ids[start : end + 1]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


class StartedJobRegistry(BaseRegistry):
    """Jobs that run now."""

    index = "started"


class ScheduledJobRegistry(BaseRegistry):
    """Jobs that wait for their time."""

    index = "scheduled"


class DeferredJobRegistry(BaseRegistry):
    """Jobs that wait for other jobs."""

    index = "deferred"


class FinishedJobRegistry(BaseRegistry):
    """Jobs that ended well, while their records stay."""

    index = "finished"


class CanceledJobRegistry(BaseRegistry):
    """Jobs that were canceled, while their records stay."""

    index = "canceled"


class FailedJobRegistry(BaseRegistry):
    """Jobs that failed, while their records stay."""

    index = "failed"

    def requeue(self, job_or_id: Job[Any] | str, at_front: bool = False) -> Job[Any]:
        """Runs a failed job again. Raises NoSuchJobError, InvalidJobOperation."""
        job_id = job_or_id if isinstance(job_or_id, str) else job_or_id.id
        return Job.fetch(job_id, self._backend).requeue(at_front)
