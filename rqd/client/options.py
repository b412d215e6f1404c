"""The options of `enqueue`: how long, how often, under which id, after which other jobs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rqd.client.callbacks import Callback, check_callbacks
from rqd.client.dependency import Dependency, read_depends_on
from rqd.client.job_id import new_job_id
from rqd.client.webhook import Webhook
from rqd.model.errors import ConfigurationError, InvalidCallError
from rqd.model.limits import RateLimit, Unique
from rqd.model.names import parse_duration_s
from rqd.model.records import Template
from rqd.model.repeat import Repeat
from rqd.model.resources import TERM as RESOURCES
from rqd.model.resources import resource_term
from rqd.model.retry import Retry
from rqd.model.terms import dump_terms

DEFAULT_TIMEOUT_S = 180
DEFAULT_RESULT_TTL_S = 500
DEFAULT_FAILURE_TTL_S = 365 * 24 * 3600
HIGHEST_PRIORITY = 4095


@dataclass(frozen=True, slots=True)
class JobOptions:
    """The options of `enqueue`. Durations are in seconds or as `"1h"`; -1 for no limit.

    None leaves the queue's, the daemon's or rqd's default. `ttl` limits the wait in the queue;
    `result_ttl` and `failure_ttl` limit the time that the record stays. `priority`, -4095 to 4095,
    goes before the order of arrival, higher first. `unique` is a key that a single job at a time
    may have, or a Unique with more options. `rate_limit` is a RateLimit shared with other jobs.
    `depends_on` lists jobs to wait for, or their ids, or is a Dependency. The callbacks are
    functions, their dotted names, or Callbacks. `max_memory` (`"512M"`, or bytes) and `max_cpu` (a
    duration) hold for all processes of the job together.
    """

    job_timeout: float | str | None = None
    description: str | None = None
    result_ttl: float | str | None = None
    ttl: float | str | None = None
    failure_ttl: float | str | None = None
    job_id: str | None = None
    at_front: bool = False
    priority: int = 0
    meta: dict[str, Any] | None = None
    retry: Retry | None = None
    repeat: Repeat | None = None
    unique: Unique | str | bool | None = None
    depends_on: Dependency | None = None
    # The group's own: no option of `enqueue`, whose functions may have an argument of that name.
    group_id: str | None = None
    on_success: Callback | Any = None
    on_failure: Callback | Any = None
    on_stopped: Callback | Any = None
    webhooks: Iterable[Webhook] | None = None
    rate_limit: RateLimit | None = None
    max_memory: int | str | None = None
    max_cpu: float | str | None = None


@dataclass(slots=True)  # not frozen: see NewJob
class EnqueueData:
    """A call with its options, prepared for `enqueue_many`."""

    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    options: JobOptions

    @property
    def id(self) -> str:
        """The job's id, made here if it has none: jobs of the same batch may depend on it."""
        if self.options.job_id is None:
            self.options = replace(self.options, job_id=new_job_id())
        assert self.options.job_id is not None
        return self.options.job_id

    def __getattr__(self, name: str) -> Any:
        """Returns an option by its name; of a callback, the function (RQ's)."""
        if name not in _OPTION_NAMES:
            raise AttributeError(f"a prepared call has no {name}")
        value = getattr(self.options, name)
        return value.func if isinstance(value, Callback) else value


def chain(*datas: EnqueueData) -> list[EnqueueData]:
    """Makes each call wait until the call before it has finished; returns them for `enqueue_many`.

    Other dependencies of the calls stay.
    """
    for before, data in itertools.pairwise(datas):
        waited_for = (
            [before] if data.options.depends_on is None else [data.options.depends_on, before]
        )
        data.options = replace(data.options, depends_on=read_depends_on(waited_for))
    return list(datas)


def in_group(datas: Iterable[EnqueueData], name: str) -> list[EnqueueData]:
    """Returns the same calls, as members of a group."""
    # Most often all calls share the same options.
    known: dict[int, JobOptions] = {}
    for data in datas:
        if id(data.options) not in known:
            known[id(data.options)] = replace(data.options, group_id=name)
    return [replace(data, options=known[id(data.options)]) for data in datas]


@dataclass(frozen=True, slots=True)
class Sending:
    """How a call goes to Redis: on the user's pipeline, or waiting for copies.

    `waits` has some of Durability's fields by name; the queue has the others.
    """

    pipeline: Any = None
    waits: dict[str, Any] = field(default_factory=dict)


_OPTION_NAMES = frozenset(JobOptions.__dataclass_fields__) - {"group_id"}
_KINDS = {
    "retry": (Retry, "Retry(max=3)"),
    "repeat": (Repeat, "Repeat(times=3)"),
    "rate_limit": (RateLimit, "RateLimit('key', concurrency=2)"),
}
WAITS = frozenset(("wait_replicas", "wait_aof", "wait_timeout"))
NO_OPTIONS = JobOptions()
PLAINLY = Sending()


def split_call(
    f: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[EnqueueData, Sending]:
    """Separates the arguments of an `enqueue` into the call with its options, and its sending.

    Raises InvalidCallError, ConfigurationError.
    """
    if not kwargs:
        return EnqueueData(f, args, kwargs, NO_OPTIONS), PLAINLY
    sending = split_sending(kwargs)
    named = {name: kwargs.pop(name) for name in _OPTION_NAMES & kwargs.keys()}
    options = job_options(named.pop("job_timeout", None), named) if named else NO_OPTIONS
    if "args" in kwargs or "kwargs" in kwargs:
        positional, by_name = kwargs.pop("args", None), kwargs.pop("kwargs", None)
        if args or kwargs:
            raise InvalidCallError(
                "pass arguments either in place or as args= and kwargs=, not both"
            )
        args, kwargs = tuple(positional or ()), dict(by_name or {})
    return EnqueueData(f, args, kwargs, options), sending


def prepare_call(
    func: Any,
    args: Sequence[Any] | None,
    kwargs: dict[str, Any] | None,
    timeout: float | str | None,
    options: dict[str, Any],
) -> EnqueueData:
    """Returns a call with its options.

    Raises InvalidCallError for an unknown option, and for arguments that are no list or dict.
    """
    if args and (isinstance(args, str | bytes) or not isinstance(args, Iterable)):
        raise InvalidCallError(f"args={args!r}: write a list or a tuple")
    if kwargs and not isinstance(kwargs, Mapping):
        raise InvalidCallError(f"kwargs={kwargs!r}: write a dict")
    chosen = job_options(timeout, options)
    return EnqueueData(func, tuple(args) if args else (), dict(kwargs) if kwargs else {}, chosen)


def split_sending(kwargs: dict[str, Any]) -> Sending:
    """Takes `pipeline` and the `wait_` options out of the arguments. Raises ConfigurationError."""
    waits = {name: kwargs.pop(name) for name in WAITS & kwargs.keys()}
    pipeline = kwargs.pop("pipeline", None)
    return Sending(pipeline, read_waits(**waits)) if waits or pipeline is not None else PLAINLY


def read_waits(
    wait_replicas: int | None = None,
    wait_aof: bool | None = None,
    wait_timeout: float | str | None = None,
) -> dict[str, Any]:
    """Returns the given fields of a Durability, by name. Raises ConfigurationError."""
    fields: dict[str, Any] = {}
    if wait_replicas is not None:
        if not isinstance(wait_replicas, int):
            raise ConfigurationError(
                f"wait_replicas {wait_replicas!r}: write a whole number, 0 or more"
            )
        fields["replicas"] = int(wait_replicas)
    if wait_aof is not None:
        fields["aof"] = bool(wait_aof)
    if wait_timeout is not None:
        fields["timeout_s"] = parse_duration_s(wait_timeout, "wait_timeout")
    return fields


def job_options(timeout: float | str | None, options: dict[str, Any]) -> JobOptions:
    """Returns the options as one value. Raises InvalidCallError for an unknown option."""
    if timeout is None and not options:
        return NO_OPTIONS
    given: dict[str, Any] = {"job_timeout": timeout}
    for name, value in options.items():
        if name in _OPTION_NAMES:
            if value is not None:
                given[name] = value
        elif name in WAITS:
            raise InvalidCallError(f"{name}= is the whole batch's: pass it to enqueue_many")
        else:
            raise InvalidCallError(f"there is no option {name}=")
    return JobOptions(**_checked(given))


def _checked(given: dict[str, Any]) -> dict[str, Any]:
    """Checks the options, and converts `unique`, `depends_on`, callbacks and webhooks."""
    for name, (kind, example) in _KINDS.items():
        if not isinstance(given.get(name), kind | None):
            raise InvalidCallError(f"{name}={given[name]!r}: write {name}={example}")
    if "unique" in given:
        given["unique"] = _unique(given["unique"], given.get("job_id"))
    if "depends_on" in given:
        given["depends_on"] = read_depends_on(given["depends_on"])
    check_callbacks(given)
    return given


def template_of(options: JobOptions, queue: str, serializer: str, timeout_s: float) -> Template:
    """Returns the options as a template for jobs; `timeout_s` holds if they have no timeout."""
    retry, depends_on = options.retry, options.depends_on
    return Template(
        queue,
        serializer,
        timeout_s=_timeout_s(options.job_timeout, timeout_s),
        result_ttl_s=_duration(options.result_ttl, "result_ttl", DEFAULT_RESULT_TTL_S),
        failure_ttl_s=_duration(options.failure_ttl, "failure_ttl", DEFAULT_FAILURE_TTL_S),
        ttl_s=_time_to_wait_s(options.ttl),
        priority=_priority(options.priority),
        at_front=options.at_front or bool(depends_on and depends_on.enqueue_at_front),
        retries=retry.max if retry else 0,
        retry_intervals=tuple(retry.intervals) if retry else (),
        terms=dump_terms(_terms(options)),
    )


def _terms(options: JobOptions) -> dict[str, Any]:
    """Returns the options that only few jobs have, as terms for the scripts."""
    terms: dict[str, Any] = {}
    if options.retry and (rules := options.retry.rules.terms()):
        terms["retry"] = rules
    if options.repeat:
        terms["repeat"] = options.repeat.term()
    if isinstance(options.unique, Unique):
        terms["unique"] = options.unique.term()
    if options.depends_on is not None:
        terms["depends_on"] = options.depends_on.term()
    if options.group_id is not None:
        terms["group"] = {"name": options.group_id}
    if options.rate_limit is not None:
        terms["limit"] = options.rate_limit.term()
    if resources := resource_term(options.max_memory, options.max_cpu):
        terms[RESOURCES] = resources
    return terms


def _priority(value: int) -> int:
    if type(value) is not int or abs(value) > HIGHEST_PRIORITY:
        raise InvalidCallError(
            f"priority {value!r}: write a whole number, -{HIGHEST_PRIORITY} to {HIGHEST_PRIORITY}"
        )
    return value


def _unique(given: Unique | str | bool, job_id: str | None) -> Unique | None:
    """Returns the key as a Unique; None for True (RQ's), as the job's id is unique anyway."""
    if isinstance(given, str):
        return Unique(given)
    if given is True and job_id is None:
        raise InvalidCallError("unique=True needs job_id=..; or write a key: unique='report-42'")
    if not isinstance(given, Unique | bool):
        raise InvalidCallError(f"unique={given!r}: write a key, or unique=Unique('key', until=..)")
    return given if isinstance(given, Unique) else None


def _duration(value: float | str | None, what: str, default: float) -> float:
    seconds = parse_duration_s(value, what)
    return default if seconds is None else seconds


def _timeout_s(value: float | str | None, default: float) -> float:
    seconds = time_limit_s(value, "job_timeout")
    return default if seconds is None else seconds


def time_limit_s(value: float | str | None, what: str) -> float | None:
    seconds = parse_duration_s(value, what)
    if seconds == 0:
        raise ConfigurationError(
            f"{what} 0 would end the job at once: write seconds, or -1 for none"
        )
    return seconds


def _time_to_wait_s(value: float | str | None) -> float | None:
    seconds = parse_duration_s(value, "ttl")
    if seconds == 0:
        raise ConfigurationError("ttl 0 would let the job expire at once: write seconds, or -1")
    return None if seconds == -1 else seconds
