"""The attributes of a job that can be set until it is enqueued."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Generic, Protocol, Self, TypeVar, overload

from rqd.client.options import DEFAULT_TIMEOUT_S, job_options, template_of
from rqd.model.errors import InvalidCallError
from rqd.model.names import check_queue_name
from rqd.model.numbers import is_count
from rqd.model.records import JobRecord
from rqd.model.repeat import Repeat, RepeatTerm
from rqd.model.retry import Retry, RetryRules
from rqd.model.terms import dump_terms, read_terms

T = TypeVar("T")

Read = Callable[[JobRecord, Any], JobRecord]
"""Returns a record with a value that was set, or raises InvalidCallError, ConfigurationError."""


class _CanChange(Protocol):
    def change(self, name: str, value: Any, read: Read) -> None: ...


class Changeable(Generic[T]):
    """A property that can be set while its job is only made, or saved: `Job.change` says when."""

    def __init__(self, show: Callable[[Any], T], read: Read) -> None:
        self.__doc__ = show.__doc__
        self._show, self._read, self._name = show, read, show.__name__

    @overload
    def __get__(self, job: None, kind: type | None = None) -> Self: ...
    @overload
    def __get__(self, job: object, kind: type | None = None) -> T: ...
    def __get__(self, job: object | None, kind: type | None = None) -> Self | T:
        return self if job is None else self._show(job)

    def __set__(self, job: _CanChange, value: Any) -> None:
        job.change(self._name, value, self._read)


def changeable(read: Read) -> Callable[[Callable[[Any], T]], Changeable[T]]:
    """Makes a method a property that can be set; `read` puts what was set in the job's record."""
    return lambda show: Changeable(show, read)


def option(name: str, field: str) -> Read:
    """Returns the reader of a record's field that an option of `enqueue` sets."""

    def read(record: JobRecord, value: Any) -> JobRecord:
        given = {name: value} if name != "job_timeout" else {}
        options = job_options(value if name == "job_timeout" else None, given)
        like = template_of(options, record.origin, record.serializer, DEFAULT_TIMEOUT_S)
        return replace(record, **{field: getattr(like, field)})

    return read


def read_description(record: JobRecord, value: Any) -> JobRecord:
    """Sets the text for people; None for an empty text."""
    return replace(record, description="" if value is None else str(value))


def read_origin(record: JobRecord, value: Any) -> JobRecord:
    """Sets the name of the queue it is meant for."""
    return replace(record, origin=check_queue_name(value))


def read_retries_left(record: JobRecord, value: Any) -> JobRecord:
    """Sets the number of retries; None for none."""
    if value is not None and not is_count(value):
        raise InvalidCallError(f"retries_left={value!r}: write a whole number, 0 or more")
    return replace(record, retries_left=value or 0)


def read_retry_intervals(record: JobRecord, value: Any) -> JobRecord:
    """Sets the waits before retries, in seconds; None for none."""
    intervals = [] if value is None else Retry(max=1, interval=value).intervals
    return replace(record, retry_intervals=tuple(intervals))


def read_front_on_retry(record: JobRecord, value: Any) -> JobRecord:
    """Sets whether a retry goes before all other jobs."""
    terms = read_terms(record.terms)
    rules = replace(RetryRules.parse(terms.pop("retry", None)), at_front=bool(value)).terms()
    return replace(record, terms=dump_terms(terms | ({"retry": rules} if rules else {})))


def read_repeats_left(record: JobRecord, value: Any) -> JobRecord:
    """Sets the number of further runs after a success; None for none."""
    intervals = RepeatTerm.parse(read_terms(record.terms).get("repeat")).intervals
    return _with_repeat(record, value, intervals or (0,))


def read_repeat_intervals(record: JobRecord, value: Any) -> JobRecord:
    """Sets the waits before further runs, in seconds; None for none."""
    times = RepeatTerm.parse(read_terms(record.terms).get("repeat")).times
    if not times and value is not None:
        raise InvalidCallError(f"repeat_intervals={value!r}: set repeats_left before")
    return _with_repeat(record, times or None, 0 if value is None else value)


def _with_repeat(record: JobRecord, times: Any, intervals: Any) -> JobRecord:
    terms = read_terms(record.terms)
    terms.pop("repeat", None)
    if times:
        terms["repeat"] = Repeat(times, intervals).term()
    return replace(record, terms=dump_terms(terms))
