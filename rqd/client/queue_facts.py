"""The part of a queue that only looks: its counts, its waiting jobs."""

from __future__ import annotations

from typing import Any

from rqd.client.connection import Backend, Connection, backend_for
from rqd.client.job import Job
from rqd.model.names import check_job_id, check_queue_name
from rqd.model.serializers import Serializer, serializer_name


class QueueFacts:
    """The part of `rqd.queue.Queue` that only looks; each attribute asks Redis again."""

    # The class of the jobs that the queue returns: a subclass of Job with members of its own.
    job_class: type[Job[Any]] = Job

    def __init__(
        self, name: str, connection: Connection, serializer: str | Serializer | None
    ) -> None:
        self.name = check_queue_name(name)
        self.serializer = serializer_name(serializer)
        self._insisted_serializer = None if serializer is None else self.serializer
        self._given = None if connection is None else backend_for(connection)

    @property
    def connection(self) -> Backend:
        """The Redis and namespace it is in."""
        return self._backend

    @property
    def _backend(self) -> Backend:
        return backend_for() if self._given is None else self._given

    @property
    def count(self) -> int:
        """The number of jobs that wait to be claimed, including jobs that wait for a limit."""
        return self._backend.views.queued_count(self.name)

    def __len__(self) -> int:
        return self.count

    def __bool__(self) -> bool:
        return True  # an empty queue is a queue

    def is_empty(self) -> bool:
        """True if no job waits."""
        return self.count == 0

    @property
    def job_ids(self) -> list[str]:
        """The ids of the waiting jobs, next first."""
        return self.get_job_ids()

    @property
    def jobs(self) -> list[Job[Any]]:
        """The waiting jobs, next first."""
        return self.get_jobs()

    def get_job_ids(self, offset: int = 0, length: int = -1) -> list[str]:
        """Returns ids of waiting jobs from `offset`; length -1 for all.

        Jobs that wait for a full limit come last.
        """
        return self._backend.views.queued_ids(self.name, offset, length)

    def get_jobs(self, offset: int = 0, length: int = -1) -> list[Job[Any]]:
        """Returns waiting jobs from `offset`; length -1 for all."""
        found = self._backend.views.jobs(self.get_job_ids(offset, length))
        insisted = self._insisted_serializer
        return [self.job_class(record, self._backend, insisted) for record in found if record]

    def get_job_position(self, job_or_id: Job[Any] | str) -> int | None:
        """Returns a job's place, 0 for the next job; None if it doesn't wait here."""
        return self._backend.views.position(self.name, id_of(job_or_id))

    @property
    def latency(self) -> float:
        """Seconds that the next job has been ready; 0.0 without ready jobs.

        Sidekiq's `Queue#latency`.
        """
        return self._backend.views.latency_s(self.name)

    def fetch_job(self, job_id: str) -> Job[Any] | None:
        """Returns the job of this id if it belongs to this queue, else None."""
        record = self._backend.views.job(job_id)
        if record is None or record.origin != self.name:
            return None
        return self.job_class(record, self._backend, self._insisted_serializer)

    def __repr__(self) -> str:
        return f"Queue({self.name!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, QueueFacts) and other.name == self.name

    def __lt__(self, other: QueueFacts) -> bool:
        return self.name < other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __str__(self) -> str:
        return f"<Queue {self.name}>"


def id_of(job_or_id: Job[Any] | str) -> str:
    """Returns the id of a job or a text that is an id. Raises ConfigurationError."""
    return check_job_id(job_or_id) if isinstance(job_or_id, str) else job_or_id.id
