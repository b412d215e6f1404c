"""A queue with its registries: its jobs by state, under RQ's names.

`producer.py` puts jobs in, `queue_facts.py` looks. A job's registry follows from its state, so ids
can be taken out of a registry, and none put in.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NoReturn

from rqd.client.connection import Backend, Connection, backend_for
from rqd.client.control import time_of_pause_s
from rqd.client.job import Job
from rqd.client.producer import Producer, job_class_of
from rqd.client.queue_facts import QueueFacts, id_of
from rqd.model.errors import ConfigurationError, InvalidJobOperation, NoSuchJobError
from rqd.model.numbers import instant
from rqd.model.serializers import Serializer
from rqd.store.keys import ALL_QUEUES
from rqd.store.messages import Requeued


class Queue(Producer):
    """A named queue. It exists from its first job on; making a `Queue` asks Redis nothing.

    A queue without a `connection` uses at each call the Redis that `use_redis` has set by then. So
    a module may make its queues before the application, or a test, calls `use_redis`.
    """

    @classmethod
    def all(
        cls,
        connection: Connection = None,
        job_class: Any = None,
        serializer: str | Serializer | None = None,
    ) -> list[Queue]:
        """Returns every queue that ever had a job, each with this serializer."""
        backend = backend_for(connection)
        same = {"job_class": job_class, "serializer": serializer}
        return [cls(name, backend, **same) for name in backend.views.queue_names()]

    # -- its jobs by state

    @property
    def started_job_registry(self) -> StartedJobRegistry:
        """The jobs that run now."""
        return StartedJobRegistry(queue=self)

    @property
    def scheduled_job_registry(self) -> ScheduledJobRegistry:
        """The jobs that wait for their time."""
        return ScheduledJobRegistry(queue=self)

    @property
    def finished_job_registry(self) -> FinishedJobRegistry:
        """The jobs that ended well."""
        return FinishedJobRegistry(queue=self)

    @property
    def failed_job_registry(self) -> FailedJobRegistry:
        """The jobs that failed."""
        return FailedJobRegistry(queue=self)

    @property
    def deferred_job_registry(self) -> DeferredJobRegistry:
        """The jobs that wait for other jobs."""
        return DeferredJobRegistry(queue=self)

    @property
    def canceled_job_registry(self) -> CanceledJobRegistry:
        """The jobs that were canceled."""
        return CanceledJobRegistry(queue=self)

    # -- pausing

    def pause(self, seconds: float | str | None = None) -> None:
        """Pauses the queue: no job of it starts, running jobs go on, and enqueues still work.

        `seconds` may be a duration such as `"10m"`; None is until `resume()`. Raises
        ConfigurationError for 0.
        """
        self._backend.store.pause(self.name, time_of_pause_s(seconds, "seconds"))

    def resume(self) -> None:
        """Ends a pause; waiting jobs start at once. Does nothing if the queue is not paused."""
        self._backend.store.resume(self.name)

    @property
    def is_paused(self) -> bool:
        """True if its jobs don't start: it is paused, or everything is (`rqd.suspension`)."""
        paused = self._backend.views.paused()
        return self.name in paused or ALL_QUEUES in paused

    # -- taking jobs out

    def empty(self) -> int:
        """Deletes the waiting jobs; returns their number."""
        return self._backend.store.empty(self.name)

    def delete(self, delete_jobs: bool = True) -> None:
        """Deletes the waiting jobs, and the queue if nothing is left of it.

        With `delete_jobs=False` they are canceled: their records stay. The queue's name stays while
        jobs of it run or wait for something, or records of ended jobs stay.
        """
        if delete_jobs:
            self.empty()
        else:
            for job_id in self.job_ids:
                self.remove(job_id)
        self._backend.store.forget_queue(self.name)

    def remove(self, job_or_id: Job[Any] | str) -> None:
        """Cancels a job that waits in this queue; does nothing if it doesn't wait here."""
        self._backend.store.cancel(id_of(job_or_id), self.name)


class BaseRegistry:
    """The ids of a queue's jobs in a given state."""

    index = ""

    def __init__(
        self,
        name: str = "default",
        connection: Connection = None,
        job_class: Any = None,
        queue: QueueFacts | None = None,
        serializer: Any = None,  # noqa: ARG002 - RQ's; a job knows its own
    ) -> None:
        self.name = queue.name if queue is not None else name
        self._backend = queue.connection if queue is not None else backend_for(connection)
        self.job_class = queue.job_class if queue is not None else Job
        if job_class is not None:
            self.job_class = job_class_of(job_class)

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

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and other._place == self._place

    def __hash__(self) -> int:
        return hash(self._place)

    @property
    def _place(self) -> tuple[str, str, str]:
        return self.index, self.name, self._backend.namespace

    def __contains__(self, job_or_id: Job[Any] | str) -> bool:
        return self._score(_any_id(job_or_id)) is not None

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

    def get_queue(self) -> Queue:
        """Returns the queue whose jobs these are."""
        return Queue(self.name, self._backend)

    def add(self, job: Job[Any] | str, *_: Any, **__: Any) -> NoReturn:
        """Raises InvalidJobOperation: a job's state alone puts it here."""
        raise InvalidJobOperation(
            f"job {_any_id(job)} can't be added to the {self.index} jobs: a job gets there by its"
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
        job_id = _any_id(job)
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
        return self.job_class.fetch(_any_id(job_or_id), self._backend).requeue(at_front)

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
        score = _found(self._score(_any_id(job)), job, self)
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
        return instant(_found(self._score(_any_id(job_or_id)), job_or_id, self))

    def get_expiration_time(self, job: Job[Any] | str) -> datetime:
        """Returns the time when the job is due (RQ's name)."""
        return self.get_scheduled_time(job)


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
        from rqd.model.filter import Filter  # noqa: PLC0415 - few modules of jobs need it
        from rqd.store.bulk import RETRY, Bulk  # noqa: PLC0415 - loads redis-py

        wanted = Filter(
            queue=(self.name,),
            function=function or "",
            cause=cause or "",
            since=since.astimezone(UTC).isoformat() if since is not None else "",
        )
        looked_at = 0
        for progress in Bulk(self._backend.store).steps(RETRY, wanted, looks_only=dry_run):
            yield Requeued(progress.looked_at - looked_at, tuple(job.id for job in progress.jobs))
            looked_at = progress.looked_at


def clean_registries(
    queue: QueueFacts,
    exception_handlers: Any = None,  # noqa: ARG001 - RQ's
) -> None:
    """Forgets the ids of a queue's expired records, like `cleanup` of each registry."""
    for kind in (FinishedJobRegistry, FailedJobRegistry, CanceledJobRegistry):
        kind(queue=queue).cleanup()


def _any_id(job_or_id: Job[Any] | str) -> str:
    """Returns an id, valid or not: a registry has no job of an invalid one."""
    return job_or_id if isinstance(job_or_id, str) else job_or_id.id


def _found(score: float | None, job: Job[Any] | str, registry: BaseRegistry) -> float:
    if score is None:
        raise NoSuchJobError(
            f"job {_any_id(job)} is not among the {registry.index} jobs of queue {registry.name}"
        )
    return score
