"""Groups: jobs under one name, to look at and to wait for together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from rqd.client.connection import Connection, backend_for
from rqd.client.dependency import Dependency, read_depends_on
from rqd.client.job import Job
from rqd.client.job_id import new_job_id
from rqd.client.options import EnqueueData, in_group
from rqd.client.queue import Queue
from rqd.model.errors import InvalidCallError, NoSuchGroupError, NoSuchJobError
from rqd.model.names import check_job_id
from rqd.store.queue_queries import GroupCounts


class Group:
    """Jobs under one name, on any queues. Making a `Group` asks Redis nothing.

    It exists from its first job on, until a day after all have ended, and while their records stay.
    """

    def __init__(self, connection: Connection = None, name: str | None = None) -> None:
        """`name` has letters, digits, `_` and `-`; None makes a random name."""
        self._backend = backend_for(connection)
        self.name = new_job_id() if name is None else check_job_id(name, "group name")

    # -- finding groups

    @classmethod
    def create(cls, connection: Connection = None, name: str | None = None) -> Group:
        """Makes a group to put jobs in (RQ's). An existing group of that name goes on."""
        return cls(connection, name)

    @classmethod
    def fetch(cls, name: str, connection: Connection = None) -> Group:
        """Returns the group of this name. Raises NoSuchGroupError if there is none."""
        group = cls(connection, name)
        group.counts()
        return group

    @classmethod
    def all(cls, connection: Connection = None) -> list[Group]:
        """Returns every group, by name."""
        backend = backend_for(connection)
        return [cls(backend, name) for name in backend.views.group_names()]

    @classmethod
    def exists(cls, name: str, connection: Connection = None) -> bool:
        """True if there is a group of this name."""
        return (
            backend_for(connection).views.group_counts(check_job_id(name, "group name")) is not None
        )

    # -- putting jobs in

    def enqueue_many(
        self,
        queue: Queue,
        job_datas: Iterable[EnqueueData],
        pipeline: Any = None,
        then: EnqueueData | None = None,
        **waits: Any,
    ) -> list[Job[Any]]:
        """Puts calls, made by `Queue.prepare_data`, on a queue and into the group; returns jobs.

        `then` is a further call, on the same queue but outside the group. It runs once all jobs of
        the group have ended, in any way, earlier jobs included. Its job is the last in the list.
        For another queue: `Queue(..).enqueue(f, depends_on=group)`.

        Raises InvalidCallError for a queue of another namespace and for a job that waits for its
        own group, and as `Queue.enqueue_many`.
        """
        datas = list(job_datas)
        self._check(queue, datas)
        members = in_group(datas, self.name)
        if then is not None:
            members.append(self._after(then) if datas or self._is_there() else then)
        return queue.enqueue_many(members, pipeline, **waits)

    @property
    def as_parent(self) -> str:
        """The group's name among the parents of a job that depends on it."""
        return f"group:{self.name}"

    # -- looking

    def counts(self) -> GroupCounts:
        """Counts its jobs by state, as of one moment. Raises NoSuchGroupError."""
        counts = self._backend.views.group_counts(self.name)
        if counts is None:
            raise NoSuchGroupError(
                f"no group {self.name!r}: no job was put in, or their times to live are over"
            )
        return counts

    @property
    def job_ids(self) -> list[str]:
        """The ids of its jobs, in the order of their enqueue, also if their records are gone."""
        return self._backend.views.group_job_ids(self.name)

    def get_jobs(self) -> list[Job[Any]]:
        """Returns its jobs whose records are still there, in the order of their enqueue."""
        found = Job.fetch_many(self.job_ids, self._backend)
        return [job for job in found if job is not None]

    # -- taking jobs out

    def cleanup(self) -> None:
        """Does nothing: a group drops jobs whose records expire by itself (RQ's name)."""

    def delete_job(self, job_id: str) -> None:
        """Deletes a job of the group with all its records. Raises NoSuchJobError if it has none."""
        if job_id not in self.job_ids:
            raise NoSuchJobError(f"group {self.name!r} has no job {job_id!r}")
        self._backend.store.delete(check_job_id(job_id))

    def __repr__(self) -> str:
        return f"Group(id={self.name})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Group) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def _check(self, queue: Queue, datas: Iterable[object]) -> None:
        if queue.connection.namespace != self._backend.namespace:
            raise InvalidCallError(
                f"group {self.name!r} is in namespace {self._backend.namespace!r}, and {queue!r} in"
                f" {queue.connection.namespace!r}"
            )
        for data in datas:
            if not isinstance(data, EnqueueData):
                raise InvalidCallError(
                    f"enqueue_many accepts calls of Queue.prepare_data, not {data!r}"
                )
            depends_on = data.options.depends_on
            if depends_on is not None and self.as_parent in depends_on.ids:
                raise InvalidCallError(f"a job of group {self.name!r} can't wait for its own group")

    def _after(self, then: EnqueueData) -> EnqueueData:
        others = then.options.depends_on
        whole = Dependency(self)
        both = read_depends_on([whole] if others is None else [others, whole])
        return replace(then, options=replace(then.options, depends_on=both))

    def _is_there(self) -> bool:
        return self._backend.views.group_counts(self.name) is not None
