"""Makes a queue's jobs: from a call and its options to the fields that go to Redis."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import MINYEAR, UTC, datetime, timedelta
from functools import cache
from typing import Any

from rqd.client.callbacks import following, with_callbacks
from rqd.client.connection import Backend
from rqd.client.job_id import new_job_id
from rqd.client.options import NO_OPTIONS, EnqueueData, JobOptions, template_of
from rqd.client.payloads import signed
from rqd.model.call import HIGHEST_PAYLOAD_LIMIT_BYTES, encode_call, encode_value
from rqd.model.describe import describe_call
from rqd.model.errors import ConfigurationError, InvalidCallError
from rqd.model.names import check_job_id
from rqd.model.records import JobRecord, JobStatus, NewJob, Template
from rqd.model.terms import dump_terms, read_terms

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Instants are microseconds in Redis' scores, which are exact up to 2^53: to June of 2255.
_FURTHEST_US = (datetime(2255, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
_LONGEST_DELAY = timedelta(days=36_500)


class JobBuilder:
    """Makes a queue's jobs: with its serializer and limits, and the keys of the jobs' backend.

    The queue's timeout holds for jobs whose options have none.
    """

    def __init__(
        self,
        queue: str,
        serializer: str,
        timeout_s: float,
        payload_limit_bytes: int,
    ) -> None:
        """Raises ConfigurationError for a limit on payloads that no job may have."""
        if not 0 < payload_limit_bytes <= HIGHEST_PAYLOAD_LIMIT_BYTES:
            raise ConfigurationError(
                f"payload_limit_bytes {payload_limit_bytes!r}: write 1 to"
                f" {HIGHEST_PAYLOAD_LIMIT_BYTES:,}"
            )
        self._queue = queue
        self._serializer = serializer
        self._timeout_s = timeout_s
        self._payload_limit_bytes = payload_limit_bytes
        # Most jobs have no options: they share this template.
        self._plain = template_of(NO_OPTIONS, queue, serializer, timeout_s)

    def drafts(
        self,
        backend: Backend,
        datas: Iterable[EnqueueData],
        due_us: int | None,
        delay_us: int | None,
    ) -> list[NewJob]:
        """Makes jobs of the calls, signed if there are keys, with the enqueuing code's trace."""
        trace = _carried_trace()
        return [
            self._new_job(backend, data, self._template(data.options, due_us, delay_us, trace))
            for data in datas
        ]

    def draft(self, backend: Backend, data: EnqueueData) -> NewJob:
        """Makes a job of the call, without a trace: other code may enqueue it later."""
        return self._new_job(backend, data, self._template(data.options, None, None))

    def unsent(self, backend: Backend, data: EnqueueData) -> JobRecord:
        """Makes the record of a job that is not in Redis yet, made at this host's time."""
        now_us = time.time_ns() // 1000
        return JobRecord.fresh(self.draft(backend, data), JobStatus.CREATED, now_us, None)

    def _new_job(self, backend: Backend, data: EnqueueData, template: Template) -> NewJob:
        options = data.options
        func_name, payload = encode_call(
            data.func, data.args, data.kwargs, self._serializer, self._payload_limit_bytes
        )
        new = NewJob(
            check_job_id(options.job_id) if options.job_id is not None else new_job_id(),
            template,
            func_name,
            payload,
            options.description or describe_call(func_name, data.args, data.kwargs),
            encode_value(options.meta, self._serializer, "meta") if options.meta else b"",
        )
        if options is not NO_OPTIONS and (wanted := following(options)):
            like = with_callbacks(template, new.id, wanted, backend)
            new = replace(new, template=like)
        return new if backend.keyring is None else signed(new, backend)

    def _template(
        self,
        options: JobOptions,
        due_us: int | None,
        delay_us: int | None,
        trace: dict[str, str] | None = None,
    ) -> Template:
        template = self._plain
        if options is not NO_OPTIONS:
            template = template_of(options, self._queue, self._serializer, self._timeout_s)
        if trace:
            terms = dump_terms({**read_terms(template.terms), "trace": trace})
            template = replace(template, terms=terms)
        if due_us is None and delay_us is None:
            return template
        return replace(template, due_us=due_us, delay_us=delay_us)


def record_of(draft: NewJob, now_us: int | None) -> JobRecord:
    """Returns the record that the enqueue of `draft` wrote at `now_us`, by Redis' clock."""
    due_us, delay_us = draft.template.due_us, draft.template.delay_us
    is_due = due_us is None and delay_us is None
    status = JobStatus.QUEUED if is_due else JobStatus.SCHEDULED
    if due_us is None and delay_us is not None and now_us is not None:
        due_us = now_us + delay_us
    return JobRecord.fresh(draft, status, now_us, due_us)


def due_us_of(when: datetime) -> int:
    """Returns the microseconds since 1970; 0 for earlier times.

    Raises InvalidCallError for other types than datetime, and for times from 2255 on.
    """
    if not isinstance(when, datetime):
        raise InvalidCallError(f"enqueue_at({when!r}, ..): write a datetime")
    try:
        due_us = (when.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)
    except (OverflowError, ValueError):  # a local time at either end of datetime's range
        due_us = 0 if when.year == MINYEAR else _FURTHEST_US
    if due_us >= _FURTHEST_US:
        raise InvalidCallError(f"enqueue_at({when}, ..): write a time before 2255")
    return max(0, due_us)


def delay_us_of(delay: timedelta) -> int:
    """Returns the delay in microseconds, 0 if it is negative.

    Raises InvalidCallError for other types than timedelta, and above 36,500 days.
    """
    if not isinstance(delay, timedelta):
        raise InvalidCallError(f"enqueue_in({delay!r}, ..): write a timedelta")
    if delay > _LONGEST_DELAY:
        most = f"{_LONGEST_DELAY.days:,} days"
        raise InvalidCallError(f"enqueue_in({delay}, ..): write {most} at most")
    return max(0, delay // timedelta(microseconds=1))


def _carried_trace() -> dict[str, str] | None:
    """Returns the context of the current span; None if the program has not loaded OpenTelemetry."""
    return _otel().carried() if "opentelemetry.trace" in sys.modules else None


@cache
def _otel() -> Any:
    from rqd.integrations import otel  # noqa: PLC0415 - only where its extra is

    return otel
