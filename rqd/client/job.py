"""A handle on a job: finds it, asks for its state and results, and acts on it.

The attributes that ask Redis nothing are in `job_facts.py`; the actions are in `control.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, Self

from rqd.client import control, running_job
from rqd.client.connection import Connection, backend_for
from rqd.client.control import DEFAULT_GRACE_S, send_stop_job_command
from rqd.client.enqueue import JobBuilder
from rqd.client.job_facts import R
from rqd.client.job_options import JobOptions, performed
from rqd.client.options import DEFAULT_TIMEOUT_S, EnqueueData, prepare_call
from rqd.client.payloads import signed
from rqd.client.records import ended_record, fetch_record, own_record
from rqd.client.results import Result
from rqd.client.rq_compat import refuse_overrides
from rqd.model.call import DEFAULT_PAYLOAD_LIMIT_BYTES
from rqd.model.current import current
from rqd.model.errors import InvalidJobOperation, NoSuchJobError, WaitTimeoutError
from rqd.model.names import check_queue_name
from rqd.model.numbers import instant
from rqd.model.records import AttemptRecord, JobRecord, JobStatus, NewJob
from rqd.model.serializers import Serializer, serializer_name

# RQ's worker calls these methods of a job, so subclasses written for RQ override them.
_HOOKS = frozenset(
    {
        *("perform", "_execute", "prepare_for_execution", "cleanup"),
        *("execute_success_callback", "execute_failure_callback", "execute_stopped_callback"),
    }
)


class Job(JobOptions[R]):
    """A handle on one job. Its attributes are as of the last `refresh`; `get_status` asks Redis.

    Instants are aware datetimes in UTC, to the microsecond, by Redis' clock.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        instead = "the daemon calls a job's function itself: write middleware= to wrap each call"
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
    ) -> Self:
        """Makes a job of status `created`, not in Redis yet: `Queue.enqueue_job` puts it there.

        `options` are the options of `Queue.enqueue`; `origin` names its intended queue. Without a
        timeout it gets the timeout of the queue that `enqueue_job` puts it on. Until then its
        options can be set, such as `job.timeout = 60`, and `save` stores it.
        """
        options.pop("status", None)  # RQ's: it is queued by enqueue_job alone
        timeout = options.pop("timeout", None)
        data = prepare_call(func, args, kwargs, timeout, dict(job_id=id, **options))
        backend, named = backend_for(connection), serializer_name(serializer)
        builder = JobBuilder(
            check_queue_name(origin) if origin else "",
            named,
            DEFAULT_TIMEOUT_S,
            DEFAULT_PAYLOAD_LIMIT_BYTES,
        )
        insisted = None if serializer is None else named
        job = cls(builder.unsent(backend, data), backend, insisted)
        job.keep_made(data)
        job._is_timeout_open = data.options.job_timeout is None
        return job

    @classmethod
    def fetch(
        cls,
        id: str,  # noqa: A002 - RQ's name
        connection: Connection = None,
        serializer: str | Serializer | None = None,
    ) -> Self:
        """Returns the job of this id, as an instance of this class.

        The job knows its serializer; with a `serializer` given here, no other may read it.
        Raises NoSuchJobError if there is none.
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
        """Returns the jobs of these ids, in one round trip; None for each that doesn't exist.

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

    # -- its parents and dependents

    @property
    def dependency(self) -> Job[Any] | None:
        """The first of the jobs it depends on; None without parents, or if its record is gone."""
        parents = self.dependency_ids[:1] and self.fetch_dependencies()
        return parents[0] if parents and parents[0].id == self.dependency_ids[0] else None

    def fetch_dependencies(self) -> list[Job[Any]]:
        """Returns the jobs it depends on, in the order of `depends_on`, if their records exist.

        Raises SignatureError if there are signing keys and none of them signed this job.
        """
        if self._backend.keyring is not None:
            _ = self._contents.payload  # checked with all that the signature binds
        found = Job.fetch_many(self.dependency_ids, self._backend)
        return [parent for parent in found if parent is not None]

    def dependencies_are_met(self) -> bool:
        """True if no job that it depends on keeps it waiting any more, asked of Redis now.

        A parent whose record is gone keeps no job waiting. Raises as `fetch_dependencies`.
        """
        any_end = self.allow_dependency_failures
        statuses = [parent.get_status(refresh=False) for parent in self.fetch_dependencies()]
        return all(one.is_terminal if any_end else one is JobStatus.FINISHED for one in statuses)

    @property
    def dependent_ids(self) -> list[str]:
        """The ids of the jobs that wait for this job, asked of Redis now."""
        return self._backend.views.dependent_ids(self.id)

    # -- how it stands

    def get_id(self) -> str:
        """Returns `id` (RQ's older name)."""
        return self.id

    @property
    def last_heartbeat(self) -> datetime | None:
        """The time of its master's last heartbeat, asked of Redis now; None unless the job runs."""
        if self._record.status is not JobStatus.STARTED:
            return None
        return instant(self._backend.views.heartbeat_us(self._record.worker.rpartition(":")[0]))

    def refresh(self) -> None:
        """Reads the job from Redis again. Raises NoSuchJobError if it is gone."""
        self.show(fetch_record(self._backend, self.id))

    def show_end(self, record: JobRecord | None, latest: AttemptRecord | None) -> None:
        """Shows an ended job: its record, or without one its latest attempt.

        Raises NoSuchJobError if both are None.
        """
        self.show(ended_record(self._record, latest) if record is None else record)

    def get_status(self, refresh: bool = True) -> JobStatus:
        """Returns the job's state, asked of Redis now or as of the last `refresh`.

        Raises NoSuchJobError if it is gone.
        """
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
        """Returns its place in its queue, 0 for the next job; None if it doesn't wait there."""
        try:
            return self._backend.views.position(self.origin, self.id)
        except NoSuchJobError:
            return None

    # -- results

    def return_value(
        self,
        refresh: bool = False,  # noqa: ARG002 - RQ's; every call asks
    ) -> R | None:
        """Returns the job's return value, asked of Redis now; None before its end, or if it failed.

        Raises as `Result.return_value`.
        """
        result = self.latest_result()
        return result.return_value if result is not None else None

    @property
    def result(self) -> R | None:
        """The value of `return_value()` (RQ's older name)."""
        return self.return_value()

    def latest_result(self, timeout: float = 0) -> Result | None:
        """Returns the latest attempt's result; None if there is none yet.

        With a timeout in seconds, waits that long for the job's end, in Redis and without polling.
        """
        if timeout > 0:
            self._backend.views.wait_for_end(self.id, timeout)
        latest = self._backend.views.attempts(self.id, latest=1)
        return self.result_of(latest[0]) if latest else None

    def wait(self, timeout: float | None = None) -> Job[R]:
        """Waits for the job's end in Redis, without polling, and returns the job as it ended.

        It waits on through retries, and while the server is away. `timeout` is in seconds, None for
        no limit. Raises WaitTimeoutError when it is over, NoSuchJobError if the job is deleted or
        its `ttl` is over.
        """
        limit_s = math.inf if timeout is None else timeout
        if not self._backend.views.wait_for_end(self.id, limit_s):
            raise WaitTimeoutError(f"job {self.id} has not ended within {timeout:g} s")
        latest = self._backend.views.attempts(self.id, latest=1)
        self.show_end(self._backend.views.job(self.id), latest[0] if latest else None)
        return self

    def results(self) -> list[Result]:
        """Returns the results of its attempts, latest first; Redis keeps the last ten."""
        return [self.result_of(attempt) for attempt in self._backend.views.attempts(self.id)]

    def result_of(self, attempt: AttemptRecord) -> Result:
        """Returns this attempt's result."""
        return Result(self._backend, self.id, self._contents.serializer, attempt)

    @property
    def output(self) -> str:
        """The last 64 KiB of stdout and stderr of its latest attempt that has ended."""
        result = self.latest_result()
        return result.output if result is not None else ""

    def follow_output(self) -> Iterator[str]:
        """Yields the job's output as it is printed, to the job's end and over all its attempts.

        Its master publishes the output while somebody follows. Of an ended job: the output kept.
        """
        from rqd.store.follow import Follower, as_text  # noqa: PLC0415 - loads redis-py

        backend = self._backend
        return as_text(Follower(backend.store, backend.views, self.id, backend.keyring).pieces())

    @property
    def exc_info(self) -> str | None:
        """The latest attempt's traceback, or else its cause; None after success."""
        result = self.latest_result()
        return (result.exc_string or result.cause) if result is not None else None

    # -- actions

    def cancel(self, *, enqueue_dependents: bool = False, stop: bool = False) -> None:
        """Takes a waiting job out of its queue for good. A canceled job stays canceled.

        With `enqueue_dependents`, the jobs that wait for it go on as if it had finished. With
        `stop`, a running job is stopped instead, as by `stop()`.

        Raises InvalidJobOperation if it runs, without `stop`, or has ended; NoSuchJobError if it is
        gone.
        """
        control.cancel(self._backend, self.id, enqueue_dependents, stop)

    def stop(self, grace: float | str = DEFAULT_GRACE_S, by: str | None = None) -> None:
        """Stops a running job, on any host: raises an exception in it, and kills it after `grace`.

        Returns once the request is in Redis. The job ends `stopped` and is not retried. `grace` is
        in seconds or as `"10s"`. `by` None is user and host. Raises InvalidJobOperation if it
        doesn't run, NoSuchJobError if it is gone, ConfigurationError.
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

        Jobs that wait for it are canceled, as it never will finish; with `delete_dependents` they
        are deleted.
        """
        self._backend.store.delete(self.id, delete_dependents)

    def get_meta(self, refresh: bool = True) -> dict[str, Any]:
        """Returns `meta`, read from Redis again unless `refresh` is False."""
        if refresh:
            self.refresh()
        return self.meta

    def save_meta(self) -> None:
        """Stores `meta`.

        From inside the job it goes by way of its master: no connection is needed, nothing waits.
        The master writes the latest `meta` of each 0.2 s, and the last before the outcome.

        Raises NoSuchJobError if the job is gone, InvalidCallError for values that can't be
        serialized. Raises PayloadTooLargeError above 1 MiB from inside the job.
        """
        meta, serializer = self.meta, self._contents.serializer
        control.save_meta(self._backend, self.id, meta, serializer)

    def save(self) -> None:
        """Stores a job that was not enqueued yet, for 30 days; of an enqueued job its `meta` alone.

        A saved job waits for `Queue.enqueue_job`, in no queue and no registry. Saved again, it is
        replaced. Raises DuplicateJobError if a job of its id was enqueued, and as `save_meta`.
        """
        if self._record.status is not JobStatus.CREATED:
            self.save_meta()
            return
        made = self.renewed(self.origin, False, self.timeout)
        control.save(self._backend, signed(made, self._backend))

    def keep_made(self, data: EnqueueData) -> None:
        """Keeps what a job that is made of this call can't tell from its record."""
        self._contents = self._contents.of_changed(self._record)
        self._contents.keep_call(data.func, data.args, data.kwargs)

    def renewed(self, queue: str, at_front: bool, default_timeout_s: float) -> NewJob:
        """Returns the same call, with its id, options and meta, for another enqueue.

        The timeout is `default_timeout_s` if `create` got none. Raises SignatureError,
        InvalidCallError.
        """
        new = self._contents.renewed(self.meta, queue, at_front)
        if not self._is_timeout_open:
            return new
        return replace(new, template=replace(new.template, timeout_s=default_timeout_s))

    def extend(self, seconds: float | str) -> None:
        """Extends the running attempt's time limit, by seconds or a duration such as `"10m"`.

        Takes effect at once from inside the job, and from elsewhere in some milliseconds, by way of
        its master. Does nothing for a job without a limit. Raises InvalidJobOperation if the job
        does not run, ConfigurationError, NoSuchJobError.
        """
        if running_job.runs_here(self.id) and current().open_line is not None:
            running_job.extend_timeout(seconds)
            return
        more_s = running_job.more_time_s(seconds)
        self.refresh()
        control.extend(self._backend, self._record, more_s)

    def set_progress(self, fraction: float, message: str = "") -> None:
        """Sets the job's progress from inside it, like `rqd.progress`.

        Raises InvalidJobOperation if this job does not run in this process.
        """
        if not running_job.runs_here(self.id):
            raise InvalidJobOperation(f"only job {self.id} itself can report its progress")
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
    """Returns the job this code runs in; None outside of a job and of `Job.perform`.

    It needs no connection of the process's own. Its id is known, and its master reads the rest
    once, at the first look. `save_meta`, `set_progress` and `extend` go by way of the master, too.
    With a `connection`, or outside the main thread, the job is read from Redis.
    """
    own_id = current().id
    if own_id is None:
        found: Job[Any] | None = performed.get()
        return found
    backend = backend_for(connection)
    read = own_record if connection is None else fetch_record
    return Job(partial(read, backend, own_id), backend, job_id=own_id)


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
