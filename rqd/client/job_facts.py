"""The part of a handle on a job that asks Redis nothing: the job as it was found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Generic

from rqd.client import changes
from rqd.client.connection import Backend, Connection, backend_for
from rqd.client.dependency import parents_in
from rqd.client.payloads import Contents
from rqd.client.records import fetch_record
from rqd.model.errors import InvalidJobOperation
from rqd.model.names import check_job_id
from rqd.model.numbers import instant
from rqd.model.progress import Progress, read_progress
from rqd.model.records import JobRecord, JobStatus
from rqd.model.repeat import REPEATS, RepeatTerm
from rqd.model.serializers import Serializer, serializer_name
from rqd.model.terms import read_tally, read_terms

if TYPE_CHECKING:
    # A plain `Job`, as in code that was written for RQ, is a `Job[Any]` (PEP 696).
    from typing_extensions import TypeVar

    R = TypeVar("R", default=Any)
else:
    from typing import TypeVar

    R = TypeVar("R")


class JobFacts(Generic[R]):
    """The part of `rqd.job.Job` that only shows the job as of the last refresh.

    Only a call over 64 KiB may have to be fetched. Instants are aware datetimes in UTC, to the
    microsecond, by Redis' clock. Some attributes can be set until the job is enqueued.
    """

    def __init__(
        self,
        id: str | JobRecord | Callable[[], JobRecord],  # noqa: A002 - RQ's name
        connection: Connection = None,
        serializer: str | Serializer | None = None,
        job_id: str | None = None,
    ) -> None:
        """`id` is a job's id, its record, or a function that returns its record.

        With an id the job is read at the first look, which raises NoSuchJobError. `job_id` is the
        id if it is known before the record. Raises ConfigurationError for an invalid id.
        """
        self._backend = backend_for(connection)
        if isinstance(id, JobRecord) or callable(id):
            self._given, self._id = id, job_id
        else:
            self._id = check_job_id(id)
            self._given = partial(fetch_record, self._backend, self._id)
        self._insisted_serializer = None if serializer is None else serializer_name(serializer)
        self._is_timeout_open = False

    @cached_property
    def _record(self) -> JobRecord:
        # Code that enqueues thousands of jobs looks at few of their handles: made when needed.
        return self._given if isinstance(self._given, JobRecord) else self._given()

    @cached_property
    def _contents(self) -> Contents:
        return Contents(self._record, self._backend, self._insisted_serializer)

    def show(self, record: JobRecord) -> None:
        """Makes the handle show this record, which was just written or read."""
        self._record, self._is_timeout_open = record, False
        for name in ("meta", "_contents"):
            self.__dict__.pop(name, None)

    def change(self, name: str, value: Any, read: changes.Read) -> None:
        """Sets an attribute of a job that was not enqueued yet; `save` or an enqueue stores it.

        Raises InvalidJobOperation once it was enqueued, SignatureError as `func`.
        """
        record, meta, payload = self._record, self.meta, self._contents.payload
        if record.status is not JobStatus.CREATED:
            raise InvalidJobOperation(
                f"job {record.id} is {record.status}: {name} can be set until its enqueue only,"
                " there write it as an option"
            )
        is_open = value is None if name == "timeout" else self._is_timeout_open
        contents = self._contents
        self.show(replace(read(record, value), payload=payload, envelope=None))
        self._contents = contents.of_changed(self._record)
        self.meta, self._is_timeout_open = meta, is_open

    # -- its call and options

    @property
    def id(self) -> str:
        """The job's id."""
        return self._id or self._record.id

    @property
    def connection(self) -> Backend:
        """The Redis and namespace it is in."""
        return self._backend

    @changes.changeable(changes.read_origin)
    def origin(self) -> str:
        """The name of its queue."""
        return self._record.origin

    @property
    def func_name(self) -> str:
        """The dotted name of its function."""
        return self._record.func_name

    @changes.changeable(changes.read_description)
    def description(self) -> str:
        """The `description` of its enqueue, or else the call as Python code."""
        return self._record.description

    @property
    def func(self) -> Callable[..., R]:
        """The function itself, imported here. Raises SignatureError, DeserializationError."""
        return self._contents.function()

    @property
    def instance(self) -> Any:
        """The instance whose method it calls; None for a function. Raises as `args`."""
        return self._contents.call[1]

    @property
    def args(self) -> tuple[Any, ...]:
        """The positional arguments. Raises SignatureError, DeserializationError."""
        return self._contents.call[2]

    @property
    def kwargs(self) -> dict[str, Any]:
        """The keyword arguments. Raises as `args`."""
        return self._contents.call[3]

    @changes.changeable(changes.option("job_timeout", "timeout_s"))
    def timeout(self) -> float:
        """Seconds it may run, -1 for no limit."""
        return self._record.timeout_s

    @changes.changeable(changes.option("result_ttl", "result_ttl_s"))
    def result_ttl(self) -> float:
        """Seconds its record stays after success, -1 for ever."""
        return self._record.result_ttl_s

    @changes.changeable(changes.option("failure_ttl", "failure_ttl_s"))
    def failure_ttl(self) -> float:
        """Seconds its record stays after failure, -1 for ever."""
        return self._record.failure_ttl_s

    @changes.changeable(changes.option("ttl", "ttl_s"))
    def ttl(self) -> float | None:
        """Seconds it may wait in its queue; None for ever."""
        return self._record.ttl_s

    @changes.changeable(changes.read_retries_left)
    def retries_left(self) -> int:
        """The number of retries it still has."""
        return self._record.retries_left

    @changes.changeable(changes.read_retry_intervals)
    def retry_intervals(self) -> list[float]:
        """Seconds before each retry; the last holds for all further retries."""
        return list(self._record.retry_intervals)

    @changes.changeable(changes.read_repeats_left)
    def repeats_left(self) -> int | None:
        """The number of further runs after a success; None if it is not to be repeated."""
        if not (term := self._repeat).times:
            return None
        return max(0, term.times - read_tally(self._record.tally).get(REPEATS, 0))

    @changes.changeable(changes.read_repeat_intervals)
    def repeat_intervals(self) -> list[float] | None:
        """Seconds before each repeated run; None if it is not to be repeated."""
        return list(self._repeat.intervals) or None

    @cached_property
    def meta(self) -> dict[str, Any]:
        """The user's own notes on the job; `save_meta` stores changes.

        Raises SignatureError if there are signing keys and none of them signed it.
        """
        return self._contents.load_meta()

    @property
    def group_id(self) -> str | None:
        """The name of its group; None without one."""
        group = read_terms(self._record.terms).get("group")
        name = group.get("name") if isinstance(group, dict) else None
        return name if isinstance(name, str) else None

    @property
    def dependency_ids(self) -> list[str]:
        """The ids of the jobs it depends on, whether they have ended or not."""
        return parents_in(read_terms(self._record.terms))

    # -- how it stood

    @property
    def created_at(self) -> datetime | None:
        """The time of its enqueue, or of its scheduling.

        Of a job that was only made: the time when it was made, by this host's clock.
        """
        return instant(self._record.created_us)

    @property
    def due_at(self) -> datetime | None:
        """The time at which it is due; None unless it is scheduled."""
        is_scheduled = self._record.status is JobStatus.SCHEDULED
        return instant(self._record.due_us) if is_scheduled else None

    @property
    def enqueued_at(self) -> datetime | None:
        """The time at which it last became ready to run; None before that."""
        return instant(self._record.enqueued_us)

    @property
    def started_at(self) -> datetime | None:
        """The time at which its latest attempt was claimed; None before the first."""
        return instant(self._record.started_us)

    @property
    def ended_at(self) -> datetime | None:
        """The time of its end; None before."""
        return instant(self._record.ended_us)

    @property
    def attempt(self) -> int:
        """The number of attempts that were charged to it."""
        return self._record.attempt

    @property
    def was_put_back(self) -> bool:
        """True if it waits in its place again since a claim that was not charged to it."""
        enqueued_us, started_us = self._record.enqueued_us, self._record.started_us
        if self._record.status is not JobStatus.QUEUED or started_us is None:
            return False
        # All else that makes a job ready notes the time; a scheduled job may be claimed just then.
        return enqueued_us is None or started_us >= enqueued_us

    @property
    def losses(self) -> int:
        """The number of times in a row that it was lost with its zygote, master or host.

        At three it fails.
        """
        return self._record.losses

    @property
    def worker_name(self) -> str | None:
        """The worker of its latest attempt, `master:number`; None before the first."""
        return self._record.worker or None

    @property
    def progress(self) -> Progress | None:
        """The latest attempt's progress, by its last `set_progress`; None without any."""
        return read_progress(self._record.progress, self._record.fence)

    @property
    def limited_by(self) -> str | None:
        """The key of the rate limit that keeps a `queued` job waiting; None without one."""
        return self._record.limited or None

    @property
    def cause(self) -> str | None:
        """The cause of its latest failed attempt, in one line; None without one."""
        return self._record.cause or None

    @property
    def callback_ids(self) -> list[str]:
        """The ids of the jobs that its ends have made: callbacks and webhooks, oldest first."""
        return self._record.callbacks.split()

    @property
    def _repeat(self) -> RepeatTerm:
        return RepeatTerm.parse(read_terms(self._record.terms).get("repeat"))
