"""Registries: the jobs of a queue by state, under RQ's names.

A job's registry follows from its state, so ids can be taken out of a registry, and none put in.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, NoReturn, Protocol

from rqd.client.connection import Backend, Connection, backend_for
from rqd.client.job import Job
from rqd.model.errors import ConfigurationError, InvalidJobOperation, NoSuchJobError
from rqd.model.numbers import instant
from rqd.store.messages import Failures, Requeued


class _Queue(Protocol):
    """The attributes of a queue that a registry needs."""

    name: str

    @property
    def connection(self) -> Backend: ...


class BaseRegistry:
    """The ids of a queue's jobs in a given state."""

    index = ""

    def __init__(
        self,
        name: str = "default",
        connection: Connection = None,
        job_class: Any = None,  # noqa: ARG002 - RQ's
        queue: _Queue | None = None,
        serializer: Any = None,  # noqa: ARG002 - RQ's; a job knows its own
    ) -> None:
        self.name = queue.name if queue is not None else name
        self._backend = queue.connection if queue is not None else backend_for(connection)

    @property
    def connection(self) -> Backend:
        """The Redis and namespace it is in."""
        return self._backend

    @property
    def count(self) -> int:
        """The number of jobs in it."""
        return self._backend.views.index_count(self.name, self.index)

    def __len__(self) -> int:
        return self.count

    def __bool__(self) -> bool:
        return True  # an empty registry is a registry

    def __contains__(self, job_or_id: Job[Any] | str) -> bool:
        return self._score(_id_of(job_or_id)) is not None

    def get_job_count(self, cleanup: bool = True) -> int:  # noqa: ARG002 - RQ's
        """Returns `count`; expired records are never counted."""
        return self.count

    def get_job_ids(
        self,
        start: int = 0,
        end: int = -1,
        desc: bool = False,
        cleanup: bool = True,  # noqa: ARG002 - RQ's; expired records are never listed
    ) -> list[str]:
        """Returns the ids from `start` to `end`, both included, in the order of their time.

        -1 is the last.
        """
        return self._backend.views.index_ids(self.name, self.index, start, end, desc)

    def get_queue(self) -> Any:
        """Returns the queue whose jobs these are."""
        from rqd.client.queue import Queue  # noqa: PLC0415 - a queue has registries: the other direction

        return Queue(self.name, self._backend)

    def add(self, job: Job[Any] | str, *_: Any, **__: Any) -> NoReturn:
        """Raises InvalidJobOperation: a job's state alone puts it here."""
        raise InvalidJobOperation(
            f"job {_id_of(job)} can't be added to the {self.index} jobs: a job gets there by its"
            " state"
        )

    def remove(
        self,
        job: Job[Any] | str,
        pipeline: None = None,  # noqa: ARG002 - RQ's
        delete_job: bool = False,
    ) -> None:
        """Takes a job out, or deletes it with `delete_job`; does nothing if it isn't here.

        An ended job's record stays until its time is over. A job that waits for its time or for
        other jobs is canceled, as nothing would ever run it. Raises InvalidJobOperation for a
        running job, unless it is deleted.
        """
        job_id = _id_of(job)
        if self._score(job_id) is None:
            return
        if delete_job:
            self._backend.store.delete(job_id)
        else:
            self._take_out(job_id)

    def requeue(self, job_or_id: Job[Any] | str, at_front: bool = False) -> Job[Any]:
        """Runs a failed, stopped or canceled job again.

        Raises NoSuchJobError, InvalidJobOperation.
        """
        return Job.fetch(_id_of(job_or_id), self._backend).requeue(at_front)

    def cleanup(self, timestamp: float | None = None) -> None:
        """Does nothing: masters take back the jobs of lost workers at once (RQ's name)."""

    def _score(self, job_id: str) -> float | None:
        return self._backend.views.index_score(self.name, self.index, job_id)

    def _take_out(self, job_id: str) -> None:
        raise InvalidJobOperation(f"job {job_id} runs: stop it, or remove it with delete_job=True")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


class _OfEnded(BaseRegistry):
    """Jobs that have ended, while their records stay."""

    def cleanup(self, timestamp: float | None = None) -> None:  # noqa: ARG002 - RQ's
        """Forgets the ids of expired records. They are never listed; masters do so by and by."""
        self._backend.store.tidy(self.name, self.index)

    def get_expiration_time(self, job: Job[Any] | str) -> datetime | None:
        """Returns the time when the job's record expires; None for never.

        Raises NoSuchJobError if it isn't here.
        """
        score = _found(self._score(_id_of(job)), job, self)
        return None if score == float("inf") else instant(score)

    def _take_out(self, job_id: str) -> None:
        self._backend.store.unlist(self.name, self.index, job_id)


class _OfWaiting(BaseRegistry):
    """Jobs that wait for something else than a worker."""

    def _take_out(self, job_id: str) -> None:
        self._backend.store.cancel(job_id, self.name)


class StartedJobRegistry(BaseRegistry):
    """Jobs that run now."""

    index = "started"


class ScheduledJobRegistry(_OfWaiting):
    """Jobs that wait for their time."""

    index = "scheduled"

    def get_scheduled_time(self, job_or_id: Job[Any] | str) -> datetime:
        """Returns the time when the job is due. Raises NoSuchJobError if it isn't scheduled."""
        return instant(_found(self._score(_id_of(job_or_id)), job_or_id, self))


class DeferredJobRegistry(_OfWaiting):
    """Jobs that wait for other jobs."""

    index = "deferred"


class FinishedJobRegistry(_OfEnded):
    """Jobs that ended well, while their records stay."""

    index = "finished"


class CanceledJobRegistry(_OfEnded):
    """Jobs that were canceled, while their records stay."""

    index = "canceled"


class FailedJobRegistry(_OfEnded):
    """Jobs that failed or were stopped, while their records stay."""

    index = "failed"

    def requeue_many(
        self,
        function: str | None = None,
        cause: str | None = None,
        since: datetime | None = None,
        dry_run: bool = False,
    ) -> list[str]:
        """Runs many failed jobs again, a portion at a time; returns their ids.

        `function` is a dotted name, with `*` for any text; `cause` a text in the job's cause;
        `since` the earliest failure. Each is None for all. Stopped jobs run only if `cause` matches
        theirs. With `dry_run` nothing is done. Raises ConfigurationError if `since` is no datetime.
        """
        ids: list[str] = []
        for portion in self.requeue_portions(function, cause, since, dry_run):
            ids += portion.ids
        return ids

    def requeue_portions(
        self,
        function: str | None = None,
        cause: str | None = None,
        since: datetime | None = None,
        dry_run: bool = False,
    ) -> Iterator[Requeued]:
        """Yields each portion once it is done, like `requeue_many`, to show the progress."""
        if since is not None and not isinstance(since, datetime):
            raise ConfigurationError(f"since {since!r}: write a datetime")
        # Jobs that fail again meanwhile are left alone.
        latest_us = self._backend.views.now_us()
        earliest_us = max(0, int(since.timestamp() * 1e6)) if since is not None else 0
        failures = Failures(function or "", cause or "", earliest_us, latest_us)
        return self._backend.store.requeue_failed(self.name, failures, dry_run)


def clean_registries(
    queue: _Queue,
    exception_handlers: Any = None,  # noqa: ARG001 - RQ's
) -> None:
    """Forgets the ids of a queue's expired records, like `cleanup` of each registry."""
    for kind in (FinishedJobRegistry, FailedJobRegistry, CanceledJobRegistry):
        kind(queue=queue).cleanup()


def _id_of(job_or_id: Job[Any] | str) -> str:
    return job_or_id if isinstance(job_or_id, str) else job_or_id.id


def _found(score: float | None, job: Job[Any] | str, registry: BaseRegistry) -> float:
    if score is None:
        raise NoSuchJobError(
            f"job {_id_of(job)} is not among the {registry.index} jobs of queue {registry.name}"
        )
    return score
