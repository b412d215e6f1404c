"""A job as its users see it: what it is, how it stands, what came of it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any, Generic, TypeVar

from rqd import running
from rqd.command import DEFAULT_GRACE_S, send_stop_job_command
from rqd.connection import Backend, backend_for
from rqd.dependency import Dependency, parents_in
from rqd.model.call import decode_call, encode_value, read_call
from rqd.model.contracts import Serializer
from rqd.model.current import current
from rqd.model.errors import (
    DeserializationError,
    InvalidJobOperation,
    NoSuchJobError,
    WaitTimeoutError,
)
from rqd.model.names import check_job_id
from rqd.model.progress import Progress, read_progress
from rqd.model.records import AttemptRecord, JobRecord, JobStatus, NewJob, Template
from rqd.model.repeat import REPEATS, RepeatTerm
from rqd.model.serializers import resolve_serializer, serializer_name
from rqd.model.terms import dump_terms, read_tally, read_terms
from rqd.results import Result
from rqd.signatures import check_call, check_meta, reader_of, sign_meta
from rqd.store.connection import Client
from rqd.store.following import Follower, as_text

R = TypeVar("R")
_NOT_TO_CANCEL = (JobStatus.STARTED, JobStatus.FINISHED, JobStatus.FAILED, JobStatus.STOPPED)
# An attempt's type, where it was the last one.
_STATUS_AFTER = {
    "successful": JobStatus.FINISHED,
    "failed": JobStatus.FAILED,
    "stopped": JobStatus.STOPPED,
}
Connection = Backend | Client | str | None

__all__ = ["Dependency", "Job", "JobStatus", "cancel_job", "get_current_job", "requeue_job"]


class Job(Generic[R]):
    """A handle on one job. Its attributes are as of the last `refresh`; `get_status` asks anew.

    Instants are aware datetimes in UTC, to the microsecond, by Redis' clock.
    """

    def __init__(
        self,
        record: JobRecord | Callable[[], JobRecord],
        connection: Connection = None,
        serializer: str | None = None,
        job_id: str | None = None,
    ) -> None:
        """`record` may be a call that makes it once it is needed; `job_id` is known before that."""
        self._given = record
        self._id = job_id
        self._backend = backend_for(connection)
        self._insisted_serializer = serializer

    @cached_property
    def _record(self) -> JobRecord:
        # Whoever enqueues thousands looks at few of their handles: those make their record then.
        return self._given if isinstance(self._given, JobRecord) else self._given()

    # -- finding jobs

    @classmethod
    def create(
        cls,
        func: Any,
        args: Sequence[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        connection: Connection = None,
        id: str | None = None,  # noqa: A002 - RQ's name
        origin: str = "",
        serializer: str | Serializer | None = None,
        **options: Any,
    ) -> Job[Any]:
        """A job that is not in Redis yet: `Queue.enqueue_job` puts it there.

        `options` as for `Queue.enqueue`; `origin` names the queue it is meant for.
        """
        from rqd.queue import Queue  # noqa: PLC0415 - a queue has jobs: the other direction

        queue = Queue(origin or "default", connection, serializer=serializer)
        return queue.create_job(func, args, kwargs, job_id=id, **options)

    @classmethod
    def fetch(
        cls,
        id: str,  # noqa: A002 - RQ's name
        connection: Connection = None,
        serializer: str | Serializer | None = None,
    ) -> Job[Any]:
        """The job of this id. Raises NoSuchJobError if there is none.

        The job knows its serializer; with one given here, no other is used to read it.
        """
        backend = backend_for(connection)
        return Job(_fetch_record(backend, id), backend, _insisted(serializer))

    @classmethod
    def fetch_many(
        cls,
        job_ids: Iterable[str],
        connection: Connection = None,
        serializer: str | Serializer | None = None,
    ) -> list[Job[Any] | None]:
        """The jobs of these ids in one round trip, None for each that doesn't exist.

        `serializer` as for `fetch`.
        """
        insisted = _insisted(serializer)
        backend = backend_for(connection)
        found = backend.views.jobs([check_job_id(job_id) for job_id in job_ids])
        return [Job(record, backend, insisted) if record else None for record in found]

    @classmethod
    def exists(cls, job_id: str, connection: Connection = None) -> bool:
        """True if there is a job of this id."""
        return backend_for(connection).views.job(check_job_id(job_id)) is not None

    # -- what it is

    @property
    def id(self) -> str:
        """The job's id."""
        return self._id or self._record.id

    @property
    def connection(self) -> Backend:
        """The Redis and namespace it is in."""
        return self._backend

    @property
    def origin(self) -> str:
        """The name of its queue."""
        return self._record.origin

    @property
    def func_name(self) -> str:
        """The dotted name of its function."""
        return self._record.func_name

    @property
    def description(self) -> str:
        """The call as one would type it, or what `enqueue` was told."""
        return self._record.description

    @property
    def func(self) -> Callable[..., R]:
        """The function itself, imported here. Raises SignatureError, DeserializationError."""
        payload, serializer = self._payload, self._serializer
        try:
            return decode_call(payload, serializer, current.allowlist)[0]
        except Exception as error:
            raise self._unreadable(error) from error  # importing runs the user's code

    @property
    def instance(self) -> Any:
        """What its method is called on; None for a function. Raises as `args`."""
        return self._call[1]

    @property
    def args(self) -> tuple[Any, ...]:
        """The positional arguments. Raises SignatureError, DeserializationError."""
        return self._call[2]

    @property
    def kwargs(self) -> dict[str, Any]:
        """The keyword arguments. Raises as `args`."""
        return self._call[3]

    @property
    def timeout(self) -> float:
        """Seconds it may run, -1 for no limit."""
        return self._record.timeout_s

    @property
    def result_ttl(self) -> float:
        """Seconds its record stays after success, -1 for ever."""
        return self._record.result_ttl_s

    @property
    def failure_ttl(self) -> float:
        """Seconds its record stays after failure, -1 for ever."""
        return self._record.failure_ttl_s

    @property
    def ttl(self) -> float | None:
        """Seconds it may wait in its queue; None for ever."""
        return self._record.ttl_s

    @property
    def retries_left(self) -> int:
        """How many retries it still has."""
        return self._record.retries_left

    @property
    def retry_intervals(self) -> list[float]:
        """Seconds before each retry; the last one holds for all further ones."""
        return list(self._record.retry_intervals)

    @property
    def group_id(self) -> str | None:
        """The name of the group it belongs to."""
        group = read_terms(self._record.terms).get("group")
        name = group.get("name") if isinstance(group, dict) else None
        return name if isinstance(name, str) else None

    # -- whom it waits for

    @property
    def dependency_ids(self) -> list[str]:
        """Ids of the jobs it depends on, whether they have ended or not."""
        return parents_in(read_terms(self._record.terms))

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
            _ = self._payload  # checked with all that the signature binds
        found = Job.fetch_many(self.dependency_ids, self._backend)
        return [parent for parent in found if parent is not None]

    @property
    def dependent_ids(self) -> list[str]:
        """Ids of the jobs that wait for this one, asked of Redis now."""
        return self._backend.views.dependent_ids(self.id)

    @property
    def repeats_left(self) -> int | None:
        """How often it will be run again after a success; None if it is not to be repeated."""
        if not (term := self._repeat).times:
            return None
        return max(0, term.times - read_tally(self._record.tally).get(REPEATS, 0))

    @property
    def repeat_intervals(self) -> list[float] | None:
        """Seconds before each repeated run; None if it is not to be repeated."""
        return list(self._repeat.intervals) or None

    @property
    def _repeat(self) -> RepeatTerm:
        return RepeatTerm.parse(read_terms(self._record.terms).get("repeat"))

    # -- how it stands

    @property
    def created_at(self) -> datetime | None:
        """When it was enqueued or scheduled."""
        return _instant(self._record.created_us)

    @property
    def due_at(self) -> datetime | None:
        """When its time comes, while it is scheduled; else None."""
        is_scheduled = self._record.status is JobStatus.SCHEDULED
        return _instant(self._record.due_us) if is_scheduled else None

    @property
    def enqueued_at(self) -> datetime | None:
        """When it was last ready to run."""
        return _instant(self._record.enqueued_us)

    @property
    def started_at(self) -> datetime | None:
        """When its latest attempt was claimed."""
        return _instant(self._record.started_us)

    @property
    def ended_at(self) -> datetime | None:
        """When it ended."""
        return _instant(self._record.ended_us)

    @property
    def attempt(self) -> int:
        """How many attempts were charged to it."""
        return self._record.attempt

    @property
    def last_heartbeat(self) -> datetime | None:
        """When its worker was last heard of, asked of Redis now; None unless it runs."""
        if self._record.status is not JobStatus.STARTED:
            return None
        return _instant(self._backend.views.heartbeat_us(self._record.worker.rpartition(":")[0]))

    @property
    def worker_name(self) -> str | None:
        """The worker of its latest attempt, `master:number`."""
        return self._record.worker or None

    @property
    def progress(self) -> Progress | None:
        """How far its latest attempt is, or was: what `set_progress` has told; None for nothing."""
        return read_progress(self._record.progress, self._record.fence)

    @property
    def limited_by(self) -> str | None:
        """The key of the limit it waits for, if it is `queued` and could not start for that."""
        return self._record.limited or None

    @property
    def cause(self) -> str | None:
        """Why its latest failed attempt failed, in one line."""
        return self._record.cause or None

    @property
    def callback_ids(self) -> list[str]:
        """Ids of the jobs that its ends have made: callbacks and webhooks, oldest first."""
        return self._record.callbacks.split()

    def refresh(self) -> None:
        """Reads the job anew. Raises NoSuchJobError if it is gone."""
        self.show(_fetch_record(self._backend, self.id))

    def show(self, record: JobRecord) -> None:
        """From here on the handle shows this record, for who has just written or read it."""
        self._record = record
        self._forget_details()

    def show_end(self, record: JobRecord | None, latest: AttemptRecord | None) -> None:
        """As `show`, of a job that has ended. Where its time to live is 0 only its latest attempt
        is there, for a minute. Raises NoSuchJobError if neither is.
        """
        if record is None and latest is not None and (status := _STATUS_AFTER.get(latest.type)):
            why, ended_us = latest.text("cause"), latest.created_us
            record = replace(self._record, status=status, ended_us=ended_us, cause=why)
        if record is None:
            raise no_such_job(self.id)
        self.show(record)

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

    @property
    def output(self) -> str:
        """The last 64 KiB of what its latest attempt that is over printed, stdout and stderr."""
        result = self.latest_result()
        return result.output if result is not None else ""

    def follow_output(self) -> Iterator[str]:
        """What the job prints, as it comes, to its end and over all its attempts.

        Its master publishes that while somebody follows. Of a job that has ended: what is kept.
        """
        backend = self._backend
        return as_text(Follower(backend.store, backend.views, self.id).pieces())

    @property
    def exc_info(self) -> str | None:
        """The latest attempt's traceback, or its cause where there is none; None after success."""
        result = self.latest_result()
        return (result.exc_string or result.cause) if result is not None else None

    # -- what can be done with it

    def cancel(self, enqueue_dependents: bool = False, stop: bool = False) -> None:
        """Takes a waiting job out of its queue for good. A canceled one stays so.

        With `enqueue_dependents`, the jobs that wait for it go on as if it had finished. With
        `stop`, a job that runs is stopped instead, as by `stop()`.

        Raises InvalidJobOperation if it runs, without `stop`, or has ended; NoSuchJobError if it is
        gone.
        """
        found = self._backend.store.cancel(self.id, enqueue_dependents=enqueue_dependents)
        self._check_found(found)
        if found == JobStatus.STARTED and stop:
            self.stop()
        elif found in _NOT_TO_CANCEL:
            instead = "; stop ends this one" if found == JobStatus.STARTED else ""
            raise InvalidJobOperation(
                f"job {self.id} is {found}: only a waiting job can be canceled{instead}"
            )

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
        found = self._backend.store.requeue(self.id, at_front)
        self._check_found(found)
        if found not in (JobStatus.FAILED, JobStatus.STOPPED, JobStatus.CANCELED):
            raise InvalidJobOperation(
                f"job {self.id} is {found}: only a failed, stopped or canceled job can be requeued"
            )
        self.refresh()
        return self

    def delete(self, delete_dependents: bool = False) -> None:
        """Deletes the job with all its records; if it runs, its outcome will be refused.

        What waits for it is canceled, as it never will finish; with `delete_dependents`, deleted.
        """
        self._backend.store.delete(self.id, delete_dependents)

    @cached_property
    def meta(self) -> dict[str, Any]:
        """The user's own notes on the job; `save_meta` stores what was changed.

        Raises SignatureError where there are signing keys and none of them signed it.
        """
        return self._load_meta()

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
        data = encode_value(self.meta, self._serializer, f"the meta of job {self.id}")
        signature = sign_meta(data, self.id, self._serializer, self._backend)
        if self._runs_here and current.open_line is not None:
            running.save_meta(data, signature)
            return
        if not self._backend.store.save_meta(self.id, data, signature):
            raise no_such_job(self.id)

    def save(self) -> None:
        """As `save_meta`: nothing else of an enqueued job can be changed (RQ's name)."""
        self.save_meta()

    def renewed(self, queue: str, at_front: bool) -> NewJob:
        """The same call, with its id, options and meta, for another enqueue.

        Raises SignatureError, InvalidCallError.
        """
        was = self._record
        terms = read_terms(was.terms)
        if was.status.is_terminal:
            terms.pop("depends_on", None)  # it has waited, and some of them may be gone
        like = Template(
            queue,
            was.serializer,
            timeout_s=was.timeout_s,
            result_ttl_s=was.result_ttl_s,
            failure_ttl_s=was.failure_ttl_s,
            ttl_s=was.ttl_s,
            at_front=at_front,
            priority=was.priority,
            retries=was.retries_left,
            retry_intervals=was.retry_intervals,
            terms=dump_terms(terms),
        )
        meta = encode_value(self.meta, self._serializer, "meta") if self.meta else b""
        return NewJob(was.id, like, was.func_name, self._payload, was.description, meta)

    def extend(self, seconds: float | str) -> None:
        """Lets the running job go on for so much longer: seconds, or `"10m"`.

        From inside the job at once; from anywhere else by way of its master, in some milliseconds,
        and for this attempt only. For a job without a limit it does nothing. Raises
        InvalidJobOperation if the job does not run, ConfigurationError, NoSuchJobError.
        """
        if self._runs_here and current.open_line is not None:
            running.extend_timeout(seconds)
            return
        more_s = running.more_time_s(seconds)
        if self.get_status() is not JobStatus.STARTED:
            raise InvalidJobOperation(
                f"job {self.id} is {self._record.status}: only a running job can be extended"
            )
        self._command("extend", seconds=more_s)

    def set_progress(self, fraction: float, message: str = "") -> None:
        """Says how far the job is, from inside it: `rqd.progress`.

        Raises InvalidJobOperation if this is not the job that runs here.
        """
        self._insist_on_running_here("its progress")
        running.progress(fraction, message)

    def __repr__(self) -> str:
        return f"<Job {self.id}: {self.description or self.func_name}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    @cached_property
    def _payload(self) -> bytes:
        """Checked: whoever reads it may unpickle it."""
        payload = self._backend.views.payload(self._record)
        check_call(self._record, payload, self._backend)
        return payload

    @cached_property
    def _call(self) -> tuple[str, Any, tuple[Any, ...], dict[str, Any]]:
        payload, serializer = self._payload, self._serializer
        try:
            return read_call(payload, serializer, current.allowlist)
        except Exception as error:
            raise self._unreadable(error) from error  # unpickling runs the user's code

    @property
    def _serializer(self) -> str:
        """What reads the job; whoever insists on JSON must not be made to unpickle by Redis."""
        found, insisted = self._record.serializer, self._insisted_serializer
        if insisted is not None and found != insisted:
            raise DeserializationError(
                f"job {self.id} is serialized with {found}, and {insisted} was asked for"
            )
        return found

    def _unreadable(self, error: Exception) -> DeserializationError:
        return DeserializationError(f"the call of job {self.id} can't be read: {error}")

    @property
    def _runs_here(self) -> bool:
        return current.id is not None and current.id == self.id

    def _command(self, what: str, **more: Any) -> None:
        """Tells the master of the attempt that runs. Raises InvalidJobOperation if it is gone."""
        store, record = self._backend.store, self._record
        command = {"id": store.request_id(), "do": what, "job": self.id, "fence": record.fence}
        if not store.command(command | more, [record.worker.rpartition(":")[0]]):
            raise InvalidJobOperation(f"the master that runs job {self.id} is gone")

    def _insist_on_running_here(self, what: str) -> None:
        if not self._runs_here:
            raise InvalidJobOperation(f"{what} can be told by job {self.id} itself only")

    def _load_meta(self) -> dict[str, Any]:
        if self._runs_here and current.meta is not None:
            # What this attempt saved itself: it may still be on its way to Redis.
            saved: dict[str, Any] = resolve_serializer(self._serializer).loads(current.meta)
            return saved
        data = self._record.meta
        if data:
            check_meta(self._record, self._backend)
        return reader_of(self._serializer)(data) if data else {}

    def result_of(self, attempt: AttemptRecord) -> Result:
        """What this attempt of the job came to."""
        return Result(self._backend, self.id, self._serializer, attempt)

    def _forget_details(self) -> None:
        for name in ("meta", "_payload", "_call"):
            self.__dict__.pop(name, None)

    def _check_found(self, status: str) -> None:
        if not status:
            raise no_such_job(self.id)


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
    read = _own_record if connection is None else _fetch_record
    return Job(partial(read, backend, current.id), backend, job_id=current.id)


def cancel_job(
    job_id: str, connection: Connection = None, enqueue_dependents: bool = False
) -> None:
    """Cancels a waiting job: `Job.cancel` by id."""
    Job.fetch(job_id, connection).cancel(enqueue_dependents)


def requeue_job(job_id: str, connection: Connection = None) -> Job[Any]:
    """Runs an ended job again: `Job.requeue` by id."""
    return Job.fetch(job_id, connection).requeue()


_UUID_VARIANT = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}


def new_job_id() -> str:
    """A random id in the form of a UUID, version 4."""
    # By hand: uuid4() costs four times as much, on the path of every enqueue.
    text = os.urandom(16).hex()
    variant = _UUID_VARIANT[text[16]]
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"


def _own_record(backend: Backend, job_id: str) -> JobRecord:
    """Of the job that runs here, as its master reads it."""
    line = current.open_line
    fields = line.record() if line is not None else None
    if not fields or b"status" not in fields:
        return _fetch_record(backend, job_id)
    return JobRecord.parse(job_id, fields)


def _fetch_record(backend: Backend, job_id: str) -> JobRecord:
    record = backend.views.job(check_job_id(job_id))
    if record is None:
        raise no_such_job(job_id)
    return record


def no_such_job(job_id: str) -> NoSuchJobError:
    """The error to raise about this id."""
    told = f"no job {job_id!r}: it was deleted, or its time to live is over"
    return NoSuchJobError(told, job_id)


def _insisted(serializer: str | Serializer | None) -> str | None:
    return None if serializer is None else serializer_name(serializer)


def _instant(micros: int | None) -> datetime | None:
    return None if micros is None else datetime.fromtimestamp(micros / 1_000_000, UTC)
