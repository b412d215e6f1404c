"""The part of a queue that puts jobs in.

`options.py` reads the options of a call, and `enqueue.py` makes a job of it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from datetime import datetime as Datetime  # noqa: N812 - enqueue_at's argument has RQ's name
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar, overload

from rqd.client.connection import Connection
from rqd.client.control import RUN_NOW
from rqd.client.enqueue import JobBuilder, delay_us_of, due_us_of, record_of
from rqd.client.job import Job
from rqd.client.options import (
    DEFAULT_TIMEOUT_S,
    PLAINLY,
    WAITS,
    EnqueueData,
    Sending,
    in_group,
    prepare_call,
    read_waits,
    split_call,
    split_sending,
    time_limit_s,
)
from rqd.client.payloads import signed
from rqd.client.queue_facts import QueueFacts
from rqd.client.run_inline import run_now
from rqd.model.call import DEFAULT_PAYLOAD_LIMIT_BYTES, import_function
from rqd.model.durability import Durability
from rqd.model.errors import ConfigurationError, DuplicateJobError, InvalidCallError
from rqd.model.limits import may_be_left_out
from rqd.model.names import check_job_id
from rqd.model.records import NewJob
from rqd.model.serializers import Serializer

R = TypeVar("R")


class Producer(QueueFacts):
    """The part of `rqd.queue.Queue` that puts jobs in."""

    DEFAULT_TIMEOUT = DEFAULT_TIMEOUT_S  # RQ's name

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.job_class = job_class_of(cls.job_class)

    def __init__(
        self,
        name: str = "default",
        connection: Connection = None,
        default_timeout: float | str | None = None,
        is_async: bool = True,
        job_class: Any = None,
        serializer: str | Serializer | None = None,
        payload_limit_bytes: int = DEFAULT_PAYLOAD_LIMIT_BYTES,
        **waits: Any,
    ) -> None:
        """With `is_async=False` each job runs at once, in this process, before `enqueue` returns.

        `default_timeout` is in seconds or as `"1h"`, -1 for no limit, None for 180 s. `waits` are
        the defaults of the `wait_` options of `enqueue`. Raises ConfigurationError,
        InvalidCallError for an option that doesn't exist.
        """
        if job_class is not None:
            self.job_class = job_class_of(job_class)
        super().__init__(name, connection, serializer)
        self.is_async = is_async
        timeout_s = time_limit_s(default_timeout, "default_timeout")
        self.default_timeout = DEFAULT_TIMEOUT_S if timeout_s is None else timeout_s
        if unknown := waits.keys() - WAITS:
            raise InvalidCallError(
                f"Queue has no option {min(unknown)}=: write the options of a job at its enqueue"
            )
        self.durability = Durability(**read_waits(**waits))
        self._drafting = JobBuilder(
            self.name, self.serializer, self.default_timeout, payload_limit_bytes
        )

    @overload
    def enqueue(
        self, f: Callable[..., Coroutine[Any, Any, R]], *args: Any, **kwargs: Any
    ) -> Job[R]: ...
    @overload
    def enqueue(self, f: Callable[..., R], *args: Any, **kwargs: Any) -> Job[R]: ...
    @overload
    def enqueue(self, f: str, *args: Any, **kwargs: Any) -> Job[Any]: ...
    def enqueue(self, f: Any, *args: Any, **kwargs: Any) -> Job[Any]:
        """Puts a call on the queue and returns its job.

        `f` is a function or its dotted name. All arguments go to it, except the options below. A
        duration is in seconds or a text such as `"1h"`; -1 means no limit. None leaves the default.

            job_timeout        ends the job after this duration
            result_ttl         keeps the record of a success so long
            failure_ttl        keeps the record of a failure so long
            ttl                drops the job if it waits longer
            job_id             an id of your own
            description        the text for people, in place of the call
            meta               a dict of your own data
            at_front           True: before all waiting jobs
            priority           -4095 to 4095, higher first
            depends_on         jobs, ids, a group or a Dependency to wait for
            retry              a Retry: runs a failed job again
            repeat             a Repeat: runs a finished job again
            unique             a key, or a Unique, that a single job at a time may have
            rate_limit         a RateLimit shared with other jobs
            max_memory         `"512M"`, or bytes, for all its processes together
            max_cpu            a duration of cpu time
            on_success         a function, its dotted name, or a Callback
            on_failure         the same, after a failure
            on_stopped         the same, after a stop
            webhooks           a list of Webhook
            args, kwargs       the function's arguments, in place of all others
            pipeline           a pipeline of redis-py: its execute() sends the job
            wait_replicas      returns once so many replicas have the job
            wait_aof           True: returns once it is on their disks and the primary's
            wait_timeout       limits both waits, in seconds; None means 1

        Raises InvalidCallError if another process could not run it, PayloadTooLargeError. Raises
        DuplicateJobError for a live `job_id` or a `unique` key that a job has. Raises
        NotDurableError if the wait lasted longer than `wait_timeout`: the job is enqueued then.
        """
        data, sending = split_call(f, args, kwargs)
        return self._enqueue([data], sending=sending)[0]

    def enqueue_call(
        self,
        func: Any,
        args: Sequence[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        timeout: float | str | None = None,
        *,
        pipeline: Any = None,
        **options: Any,
    ) -> Job[Any]:
        """Puts a call on the queue, like `enqueue`, with its arguments apart from the options.

        RQ's form.
        """
        options["pipeline"] = pipeline
        sending = split_sending(options)
        data = self.prepare_data(func, args, kwargs, timeout, **options)
        return self._enqueue([data], sending=sending)[0]

    def enqueue_many(
        self,
        job_datas: Iterable[EnqueueData],
        pipeline: Any = None,
        group_id: str | None = None,
        **waits: Any,
    ) -> list[Job[Any]]:
        """Puts many calls, made by `prepare_data`, on the queue: all, or none.

        More than a thousand plain jobs go in portions, after a look at all of them: sent at once,
        they would hold Redis for long. `group_id` names a Group to put them in; None for no group.
        `waits` are the `wait_` options of `enqueue`.

        Raises as `enqueue`, and PartlyEnqueuedError for a failure between two portions, such as a
        taken id or a lost Redis: its `job_ids` are enqueued.
        """
        waits["pipeline"] = pipeline
        sending = split_sending(waits)
        if waits:
            raise InvalidCallError(f"enqueue_many has no option {min(waits)}=")
        datas = list(job_datas)
        for data in datas:
            if not isinstance(data, EnqueueData):
                raise InvalidCallError(
                    f"enqueue_many accepts calls of Queue.prepare_data, not {data!r}"
                )
        if group_id is not None:
            datas = in_group(datas, check_job_id(group_id, "group name"))
        return self._enqueue(datas, sending=sending) if datas else []

    @overload
    def enqueue_at(
        self,
        datetime: Datetime,
        f: Callable[..., Coroutine[Any, Any, R]],
        *args: Any,
        **kwargs: Any,
    ) -> Job[R]: ...
    @overload
    def enqueue_at(
        self, datetime: Datetime, f: Callable[..., R], *args: Any, **kwargs: Any
    ) -> Job[R]: ...
    @overload
    def enqueue_at(self, datetime: Datetime, f: str, *args: Any, **kwargs: Any) -> Job[Any]: ...
    def enqueue_at(self, datetime: Datetime, f: Any, *args: Any, **kwargs: Any) -> Job[Any]:
        """Puts a call on the queue at a time; at once if the time has passed.

        A datetime without a zone is local time, as everywhere in Python. Raises InvalidCallError
        for other types and for times from 2255 on, and as `enqueue`.
        """
        due_us = due_us_of(datetime)
        data, sending = split_call(f, args, kwargs)
        return self._enqueue([data], due_us=due_us, sending=sending)[0]

    @overload
    def enqueue_in(
        self,
        time_delta: timedelta,
        func: Callable[..., Coroutine[Any, Any, R]],
        *args: Any,
        **kwargs: Any,
    ) -> Job[R]: ...
    @overload
    def enqueue_in(
        self, time_delta: timedelta, func: Callable[..., R], *args: Any, **kwargs: Any
    ) -> Job[R]: ...
    @overload
    def enqueue_in(
        self, time_delta: timedelta, func: str, *args: Any, **kwargs: Any
    ) -> Job[Any]: ...
    def enqueue_in(self, time_delta: timedelta, func: Any, *args: Any, **kwargs: Any) -> Job[Any]:
        """Puts a call on the queue after a delay, by Redis' clock; at once if it is negative.

        Raises InvalidCallError for other types and above 36,500 days, and as `enqueue`.
        """
        delay_us = delay_us_of(time_delta)
        data, sending = split_call(func, args, kwargs)
        return self._enqueue([data], delay_us=delay_us, sending=sending)[0]

    @staticmethod
    def prepare_data(
        func: Any,
        args: Sequence[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        timeout: float | str | None = None,
        **options: Any,
    ) -> EnqueueData:
        """Prepares a call for `enqueue_many`.

        Raises InvalidCallError for an option that doesn't exist.
        """
        return prepare_call(func, args, kwargs, timeout, options)

    def create_job(
        self,
        func: Any,
        args: Sequence[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        timeout: float | str | None = None,
        **options: Any,
    ) -> Job[Any]:
        """Makes a job of status `created` for `enqueue_job`, with the options of `enqueue`.

        It is not in Redis yet: see `Job.create`.
        """
        options.pop("status", None)  # RQ's: it is queued by enqueue_job alone
        data = self.prepare_data(func, args, kwargs, timeout, **options)
        record = self._drafting.unsent(self._backend, data)
        job = self.job_class(record, self._backend, self._insisted_serializer)
        job.keep_made(data)
        return job

    def enqueue_job(
        self, job: Job[Any], pipeline: Any = None, at_front: bool = False, **waits: Any
    ) -> Job[Any]:
        """Puts a job of `create_job` on this queue, or puts an ended job there again.

        Its id, options and meta stay, and it has all its retries again. Raises DuplicateJobError if
        it waits or runs, or another job has its unique key. Raises InvalidCallError for
        `on_conflict="existing"` with a pipeline, which could leave the job out unnoticed.
        """
        return self._enqueue_made(job, at_front, {**waits, "pipeline": pipeline}, None)

    def schedule_job(
        self, job: Job[Any], datetime: Datetime, pipeline: Any = None, **waits: Any
    ) -> Job[Any]:
        """Puts a job on this queue at a time, like `enqueue_job`.

        Raises as `enqueue_at` and `enqueue_job`.
        """
        return self._enqueue_made(job, False, {**waits, "pipeline": pipeline}, due_us_of(datetime))

    def drafts(
        self, datas: Iterable[EnqueueData], due_us: int | None = None, delay_us: int | None = None
    ) -> list[NewJob]:
        """Makes jobs of the calls without sending them, signed if there are keys.

        `due_us` is in microseconds since 1970, `delay_us` in microseconds; both None for now.
        """
        return self._drafting.drafts(self._backend, datas, due_us, delay_us)

    def handle(self, draft: NewJob, now_us: int | None) -> Job[Any]:
        """Returns a handle on the job that was enqueued at `now_us`, by Redis' clock."""
        return self.job_class(
            partial(record_of, draft, now_us), self._backend, self._insisted_serializer
        )

    def _enqueue_made(
        self, job: Job[Any], at_front: bool, waits: dict[str, Any], due_us: int | None
    ) -> Job[Any]:
        if isinstance(waits.get("unique"), bool):
            del waits["unique"]  # RQ's: here no live job's id is used twice
        sending = split_sending(waits)
        if waits:
            raise InvalidCallError(f"enqueue_job has no option {min(waits)}=")
        new = job.renewed(self.name, at_front, self.default_timeout)
        if due_us is not None:
            new = replace(new, template=replace(new.template, due_us=due_us))
        new = signed(new, self._backend)
        try:
            now_us = self._send([new], sending)
        except DuplicateJobError as error:
            if error.job_id != job.id:  # another job has its unique key
                raise
            raise DuplicateJobError(f"job {job.id} waits or runs: {RUN_NOW}", job.id) from error
        if new.holder_id:
            return self.job_class.fetch(new.holder_id, self._backend, self._insisted_serializer)
        job.show(record_of(new, now_us))
        if due_us is not None:
            return job
        if not self.is_async and now_us is not None:
            self._run_now([job])
        return job

    def _enqueue(
        self,
        datas: list[EnqueueData],
        due_us: int | None = None,
        delay_us: int | None = None,
        sending: Sending = PLAINLY,
    ) -> list[Job[Any]]:
        jobs = self.drafts(datas, due_us, delay_us)
        now_us = self._send(jobs, sending)
        handles: list[Job[Any]] = [
            self.job_class.fetch(job.holder_id, self._backend, self._insisted_serializer)
            if job.holder_id
            else self.handle(job, now_us)
            for job in jobs
        ]
        if not self.is_async and now_us is not None:
            self._run_now(handles)
        return handles

    def _run_now(self, jobs: list[Job[Any]]) -> None:
        ids = [job.id for job in jobs]
        run_now(self._backend, self.name, ids)
        for job, record in zip(jobs, self._backend.views.jobs(ids), strict=True):
            if record is not None:
                job.show(record)

    def _send(self, jobs: list[NewJob], sending: Sending) -> int | None:
        """Returns Redis' time of the enqueue (us); None if the jobs only wait on a pipeline."""
        if sending.pipeline is not None and any(
            may_be_left_out(job.template.terms) for job in jobs
        ):
            raise InvalidCallError(
                "on_conflict='existing' needs Redis' answer at once: enqueue without pipeline="
            )
        store, durability = self._backend.store, self.durability
        if sending.waits:
            durability = replace(durability, **sending.waits)
        return store.enqueue(jobs, store.request_id(), sending.pipeline, durability)


def job_class_of(given: Any) -> type[Job[Any]]:
    """Returns a subclass of Job that was given as itself or by name. Raises ConfigurationError."""
    try:
        found = import_function(given) if isinstance(given, str) else given
    except (InvalidCallError, ImportError):
        found = None
    if not (isinstance(found, type) and issubclass(found, Job)):
        raise ConfigurationError(f"job_class={given!r}: write a subclass of rqd.job.Job")
    return found
