"""A handle on a job: finding one, how it stands now, what came of it, what can be done with it.

What it shows without asking is in `job_facts.py`; what it asks and does is in the `job_` modules.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from rqd.client import control, running_job
from rqd.client.connection import Connection, backend_for
from rqd.client.control import DEFAULT_GRACE_S, send_stop_job_command
from rqd.client.job_facts import JobFacts, R
from rqd.client.records import ended_record, fetch_record, own_record
from rqd.client.results import Result
from rqd.client.rq_compat import refuse_overrides
from rqd.model.current import current
from rqd.model.errors import InvalidJobOperation, WaitTimeoutError
from rqd.model.numbers import instant
from rqd.model.records import AttemptRecord, JobRecord, JobStatus, NewJob
from rqd.model.serializers import Serializer, serializer_name

if TYPE_CHECKING:
    from rqd.client.callbacks import Callback as Callback
    from rqd.model.errors import NoSuchJobError as NoSuchJobError
    from rqd.model.retry import Retry as Retry


# What RQ's worker calls on a job, and so what subclasses of RQ's override.
_HOOKS = frozenset(
    {
        *("perform", "_execute", "prepare_for_execution", "cleanup"),
        *("execute_success_callback", "execute_failure_callback", "execute_stopped_callback"),
    }
)


class Job(JobFacts[R]):
    """A handle on one job. Its attributes are as of the last `refresh`; `get_status` asks anew.

    Instants are aware datetimes in UTC, to the microsecond, by Redis' clock.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        instead = (
            "a job is its func, called by the daemon; write middleware= for what goes round each"
            " call"
        )
        refuse_overrides(cls, _HOOKS, instead)

    # -- finding jobs

    @classmethod
    def create(
        cls,
        func: Any,
        args: Sequence[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        connection: Connection = None,
        *,
        id: str | None = None,  # noqa: A002 - RQ's name
        origin: str = "",
        serializer: str | Serializer | None = None,
        **options: Any,
    ) -> Job[Any]:
        """A job that is not in Redis yet: `Queue.enqueue_job` puts it there.

        `options` as for `Queue.enqueue`; `origin` names the queue it is meant for. Without a
        timeout it gets that of the queue that `enqueue_job` puts it on.
        """
        from rqd.client.queue import Queue  # noqa: PLC0415 - a queue has jobs: the other direction

        queue = Queue(origin or "default", connection, serializer=serializer)
        job = queue.create_job(func, args, kwargs, job_id=id, **options)
        job._is_timeout_open = options.get("timeout", options.get("job_timeout")) is None
        return job

    @classmethod
    def fetch(
        cls,
        id: str,  # noqa: A002 - RQ's name
        connection: Connection = None,
        serializer: str | Serializer | None = None,
    ) -> Self:
        """The job of this id, of the class that is asked. Raises NoSuchJobError if there is none.

        The job knows its serializer; with one given here, no other is used to read it.
        """
        backend = backend_for(connection)
        return cls(fetch_record(backend, id), backend, serializer)

    @classmethod
    def fetch_many(
        cls,
        job_ids: Iterable[str],
        connection: Connection = None,
        serializer: str | Serializer | None = None,
    ) -> list[Self | None]:
        """The jobs of these ids in one round trip, None for each that doesn't exist.

        `serializer` as for `fetch`.
        """
        insisted = None if serializer is None else serializer_name(serializer)
        backend = backend_for(connection)
        found = backend.views.jobs([*job_ids])
        return [cls(record, backend, insisted) if record else None for record in found]

    @classmethod
    def exists(cls, job_id: str, connection: Connection = None) -> bool:
        """True if there is a job of this id."""
        return backend_for(connection).views.job(job_id) is not None

    # -- whom it waits for

    @property
    def dependency(self) -> Job[Any] | None:
        """The first of the jobs it depends on; None without one, or if its record is gone."""
        parents = self.dependency_ids[:1] and self.fetch_dependencies()
        return parents[0] if parents and parents[0].id == self.dependency_ids[0] else None

    def fetch_dependencies(self) -> list[Job[Any]]:
        """The jobs it depends on, in the order of `depends_on`, whose records are still there.

        Raises SignatureError where there are signing keys and none of them signed this job.
        """
        if self._backend.keyring is not None:
            _ = self._contents.payload  # checked with all that the signature binds
        found = Job.fetch_many(self.dependency_ids, self._backend)
        return [parent for parent in found if parent is not None]

    @property
    def dependent_ids(self) -> list[str]:
        """Ids of the jobs that wait for this one, asked of Redis now."""
        return self._backend.views.dependent_ids(self.id)

    # -- how it stands

    def get_id(self) -> str:
        """As `id` (RQ's older name)."""
        return self.id

    @property
    def last_heartbeat(self) -> datetime | None:
        """When its worker was last heard of, asked of Redis now; None unless it runs."""
        if self._record.status is not JobStatus.STARTED:
            return None
        return instant(self._backend.views.heartbeat_us(self._record.worker.rpartition(":")[0]))

    def refresh(self) -> None:
        """Reads the job anew. Raises NoSuchJobError if it is gone."""
        self.show(fetch_record(self._backend, self.id))

    def show_end(self, record: JobRecord | None, latest: AttemptRecord | None) -> None:
        """As `show`, of a job that has ended: its record, or its latest attempt where that is all
        there is. Raises NoSuchJobError if neither is.
        """
        self.show(ended_record(self._record, latest) if record is None else record)

    def get_status(self, refresh: bool = True) -> JobStatus:
        """Where the job is now. Raises NoSuchJobError if it is gone."""
        if refresh:
            self.refresh()
        return self._record.status

    @property
    def is_queued(self) -> bool:
        """True while it waits in its queue."""
        return self.get_status() is JobStatus.QUEUED

    @property
    def is_started(self) -> bool:
        """True while it runs."""
        return self.get_status() is JobStatus.STARTED

    @property
    def is_finished(self) -> bool:
        """True after success."""
        return self.get_status() is JobStatus.FINISHED

    @property
    def is_failed(self) -> bool:
        """True after failure, retries included."""
        return self.get_status() is JobStatus.FAILED

    @property
    def is_scheduled(self) -> bool:
        """True while it waits for its time."""
        return self.get_status() is JobStatus.SCHEDULED

    @property
    def is_deferred(self) -> bool:
        """True while it waits for other jobs."""
        return self.get_status() is JobStatus.DEFERRED

    @property
    def is_stopped(self) -> bool:
        """True after it was stopped while it ran."""
        return self.get_status() is JobStatus.STOPPED

    @property
    def is_canceled(self) -> bool:
        """True after `cancel`."""
        return self.get_status() is JobStatus.CANCELED

    def get_position(self) -> int | None:
        """Its place in its queue, 0 is next; None if it doesn't wait there."""
        return self._backend.views.position(self.origin, self.id)

    # -- what came of it

    def return_value(
        self,
        refresh: bool = False,  # noqa: ARG002 - RQ's; every call asks
    ) -> R | None:
        """What the job returned, asked of Redis now; None while it has not, or if it failed."""
        result = self.latest_result()
        return result.return_value if result is not None else None

    @property
    def result(self) -> R | None:
        """As `return_value()` (RQ's older name)."""
        return self.return_value()

    def latest_result(self, timeout: float = 0) -> Result | None:
        """The latest attempt's result, None if there is none yet.

        With a timeout in seconds, waits that long for the job's end, in Redis and without polling.
        """
        if timeout > 0:
            self._backend.views.wait_for_end(self.id, timeout)
        latest = self._backend.views.attempts(self.id, latest=1)
        return self.result_of(latest[0]) if latest else None

    def wait(self, timeout: float | None = None) -> Job[R]:
        """Waits for the job's end in Redis, without polling, and returns the job as it ended.

        The end is not an attempt's: a job that is retried or put back is waited for on. A server
        that goes away meanwhile is, too. `timeout` in seconds, None for no limit. Raises
        WaitTimeoutError when it is over, NoSuchJobError if the job is deleted or its `ttl` is over.
        """
        limit_s = math.inf if timeout is None else timeout
        if not self._backend.views.wait_for_end(self.id, limit_s):
            raise WaitTimeoutError(f"job {self.id} has not ended within {timeout:g} s")
        latest = self._backend.views.attempts(self.id, latest=1)
        self.show_end(self._backend.views.job(self.id), latest[0] if latest else None)
        return self

    def results(self) -> list[Result]:
        """The results of its attempts, latest first; the last ten stay."""
        return [self.result_of(attempt) for attempt in self._backend.views.attempts(self.id)]

    def result_of(self, attempt: AttemptRecord) -> Result:
        """What this attempt of the job came to."""
        return Result(self._backend, self.id, self._contents.serializer, attempt)

    @property
    def output(self) -> str:
        """The last 64 KiB of what its latest attempt that is over printed, stdout and stderr."""
        result = self.latest_result()
        return result.output if result is not None else ""

    def follow_output(self) -> Iterator[str]:
        """What the job prints, as it comes, to its end and over all its attempts.

        Its master publishes that while somebody follows. Of a job that has ended: what is kept.
        """
        from rqd.store.follow import Follower, as_text  # noqa: PLC0415 - loads redis-py

        backend = self._backend
        return as_text(Follower(backend.store, backend.views, self.id, backend.keyring).pieces())

    @property
    def exc_info(self) -> str | None:
        """The latest attempt's traceback, or its cause where there is none; None after success."""
        result = self.latest_result()
        return (result.exc_string or result.cause) if result is not None else None

    # -- what can be done with it

    def cancel(self, *, enqueue_dependents: bool = False, stop: bool = False) -> None:
        """Takes a waiting job out of its queue for good. A canceled one stays so.

        With `enqueue_dependents`, the jobs that wait for it go on as if it had finished. With
        `stop`, a job that runs is stopped instead, as by `stop()`.

        Raises InvalidJobOperation if it runs, without `stop`, or has ended; NoSuchJobError if it is
        gone.
        """
        control.cancel(self._backend, self.id, enqueue_dependents, stop)

    def stop(self, grace: float | str = DEFAULT_GRACE_S, by: str | None = None) -> None:
        """Stops a running job, on whichever host: an exception in it, a kill after `grace`.

        Returns when its master was told. It ends `stopped` and is not retried. `by` None is user
        and host. Raises InvalidJobOperation if it doesn't run, NoSuchJobError if it is gone.
        """
        send_stop_job_command(self._backend, self.id, grace=grace, by=by)

    def requeue(self, at_front: bool = False) -> Job[R]:
        """Runs a failed, stopped or canceled job again.

        Raises InvalidJobOperation in any other state, NoSuchJobError if it is gone.
        """
        control.requeue(self._backend, self.id, at_front)
        self.refresh()
        return self

    def delete(self, *, delete_dependents: bool = False) -> None:
        """Deletes the job with all its records; if it runs, its outcome will be refused.

        What waits for it is canceled, as it never will finish; with `delete_dependents`, deleted.
        """
        self._backend.store.delete(self.id, delete_dependents)

    def get_meta(self, refresh: bool = True) -> dict[str, Any]:
        """`meta`, read anew."""
        if refresh:
            self.refresh()
        return self.meta

    def save_meta(self) -> None:
        """Stores `meta`.

        From inside the job it goes by way of its master, which writes the latest of several within
        0.2 s and the last one before the outcome: no connection is needed, and nothing waits.

        Raises NoSuchJobError if the job is gone, InvalidCallError for what can't be serialized.
        """
        meta, serializer = self.meta, self._contents.serializer
        control.save_meta(self._backend, self.id, meta, serializer)

    def save(self) -> None:
        """As `save_meta`: nothing else of an enqueued job can be changed (RQ's name)."""
        self.save_meta()

    def renewed(self, queue: str, at_front: bool, default_timeout_s: float) -> NewJob:
        """The same call, with its id, options and meta, for another enqueue.

        The timeout is the default where `create` was told none. Raises SignatureError,
        InvalidCallError.
        """
        new = self._contents.renewed(self.meta, queue, at_front)
        if not self._is_timeout_open:
            return new
        return replace(new, template=replace(new.template, timeout_s=default_timeout_s))

    def extend(self, seconds: float | str) -> None:
        """Lets the running job go on for so much longer: seconds, or `"10m"`.

        From inside the job at once; from anywhere else by way of its master, in some milliseconds,
        and for this attempt only. For a job without a limit it does nothing. Raises
        InvalidJobOperation if the job does not run, ConfigurationError, NoSuchJobError.
        """
        if running_job.runs_here(self.id) and current.open_line is not None:
            running_job.extend_timeout(seconds)
            return
        more_s = running_job.more_time_s(seconds)
        self.refresh()
        control.extend(self._backend, self._record, more_s)

    def set_progress(self, fraction: float, message: str = "") -> None:
        """Says how far the job is, from inside it: `rqd.progress`.

        Raises InvalidJobOperation if this is not the job that runs here.
        """
        if not running_job.runs_here(self.id):
            raise InvalidJobOperation(f"its progress can be told by job {self.id} itself only")
        running_job.progress(fraction, message)

    def __repr__(self) -> str:
        return f"<Job {self.id}: {self.description or self.func_name}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)


def get_current_job(
    connection: Connection = None,
    job_class: Any = None,  # noqa: ARG001 - RQ's
) -> Job[Any] | None:
    """The job this code runs in, None outside of one.

    It needs no connection of the process's own: its id is known, the rest its master reads once,
    when it is first looked at; `save_meta`, `set_progress` and `extend` go by way of the master,
    too. With a `connection`, or in another thread than the main one, it is read from there.
    """
    if current.id is None:
        return None
    backend = backend_for(connection)
    read = own_record if connection is None else fetch_record
    return Job(partial(read, backend, current.id), backend, job_id=current.id)


def cancel_job(
    job_id: str,
    connection: Connection = None,
    serializer: str | Serializer | None = None,
    enqueue_dependents: bool = False,
) -> None:
    """Cancels a waiting job: `Job.cancel` by id."""
    Job.fetch(job_id, connection, serializer).cancel(enqueue_dependents=enqueue_dependents)


def requeue_job(
    job_id: str, connection: Connection = None, serializer: str | Serializer | None = None
) -> Job[Any]:
    """Runs an ended job again: `Job.requeue` by id."""
    return Job.fetch(job_id, connection, serializer).requeue()
