"""Cron entries: calls that are enqueued again and again, once each time, by any running daemon.

RQ's names, but nothing has to be started: `register` writes the entry to Redis, where it stays.
"""

from __future__ import annotations

import secrets
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

from rqd.client.connection import Backend, Connection, backend_for
from rqd.client.job import Job
from rqd.client.options import DEFAULT_TIMEOUT_S, job_options, template_of
from rqd.client.payloads import signed
from rqd.model.call import encode_call, encode_value
from rqd.model.cron import (
    ENTRY_PREFIX,
    CronEntry,
    CronRecord,
    check_cron_name,
    run_id_by_hand,
)
from rqd.model.describe import describe_call
from rqd.model.errors import (
    ConfigurationError,
    InvalidCallError,
    InvalidJobOperation,
    NoSuchJobError,
    RqdError,
)
from rqd.model.names import check_queue_name, parse_duration_s
from rqd.model.numbers import instant
from rqd.model.records import NewJob
from rqd.model.retry import Retry
from rqd.model.schedule import Schedule
from rqd.model.serializers import serializer_name
from rqd.model.terms import dump_terms, read_terms
from rqd.store.crons import Crons
from rqd.store.wire import INLINE_LIMIT_BYTES

_OPTIONS = (
    *("result_ttl", "failure_ttl", "ttl", "meta", "description", "retry", "unique"),
    *("max_memory", "max_cpu"),
)
# The keys of a file's table: the arguments of `register`, with shorter names for two.
_IN_FILES = {
    **{name: name for name in ("func", "args", "kwargs", "cron", "timezone", "interval")},
    **{name: name for name in ("missed", "window", "serializer", *_OPTIONS)},
    "queue": "queue_name",
    "timeout": "job_timeout",
}


class CronJob:
    """An entry as it stood in Redis when it was read. Instants are aware datetimes in UTC."""

    def __init__(
        self, record: CronRecord | None = None, connection: Connection = None, **rqs: Any
    ) -> None:
        """`rqs` are the arguments of RQ's CronJob, for an error that says what to write."""
        if record is None or rqs:
            raise InvalidCallError(
                "CronJob(func=..) would run nothing: write rqd.cron.register(func, ..)"
            )
        self._record = record
        self._backend = backend_for(connection)
        self.name = record.name
        self.queue_name = record.queue
        self.func_name = record.func_name
        self.description = record.description
        self.source = record.source
        self.runs = record.runs
        self.is_paused = record.is_paused
        self.error = record.error
        self.next_run = instant(record.next_us)
        self.last_run = instant(record.last_us)
        self.last_job_id = record.last_job or None

    @property
    def schedule(self) -> str:
        """The schedule in words for an operator; `?` if it can't be read."""
        schedule = self._schedule
        return schedule.shown() if schedule is not None else "?"

    @property
    def missed(self) -> str:
        """How missed runs are made up for: `skip`, `once`, `all`; empty if it can't be read."""
        return str(self._schedule.missed) if self._schedule is not None else ""

    @property
    def cron(self) -> str | None:
        """The schedule's five fields; None for an interval."""
        return (self._schedule.cron if self._schedule is not None else "") or None

    @property
    def interval(self) -> int | None:
        """The interval in seconds; None for a cron string."""
        return (self._schedule.interval_s if self._schedule is not None else 0) or None

    @property
    def state(self) -> str:
        """`active`, `paused`, `broken` (its schedule can't be read) or `over` (due no more)."""
        if self.error:
            return "broken"
        if self.is_paused:
            return "paused"
        return "over" if self.next_run is None else "active"

    def run(self) -> Job[Any]:
        """Enqueues a run now; the next due time stays as it is.

        Raises InvalidJobOperation if a job has the entry's unique key, NoSuchJobError if the entry
        is gone.
        """
        job_id = run_id_by_hand(self.name, datetime.now(UTC), secrets.token_hex(4))
        record = self._crons.run(self.name, job_id)
        if record is None:
            _find(self._crons, self.name)
            raise InvalidJobOperation(
                f"cron {self.name}: a live job has its unique key: wait for its end"
            )
        return Job(record, self._backend)

    def pause(self) -> None:
        """Stops its runs until `resume`. Raises InvalidJobOperation if it was changed meanwhile."""
        self._insist(self._crons.pause(self._record))

    def resume(self) -> None:
        """Ends the pause: it is due at its next time from now on. Missed runs are left out.

        Raises as `pause`, and ConfigurationError if its schedule can't be read.
        """
        self._insist(self._crons.resume(self._record))

    def remove(self) -> None:
        """Removes the entry; the jobs it made stay."""
        self._crons.remove(self.name)

    @cached_property
    def _schedule(self) -> Schedule | None:
        """The schedule; None if it was damaged in Redis."""
        try:
            return Schedule.parse(self._record.schedule)
        except ConfigurationError:
            return None

    @property
    def _crons(self) -> Crons:
        return Crons(self._backend.store)

    def _insist(self, is_done: bool) -> None:
        if not is_done:
            raise InvalidJobOperation(f"cron {self.name} was changed meanwhile: fetch it again")

    def __repr__(self) -> str:
        return f"<CronJob {self.name}: {self.schedule} {self.func_name}>"


class CronScheduler:
    """RQ's name for the entries of one Redis. Nothing has to be started: every daemon runs them."""

    def __init__(self, connection: Connection = None) -> None:
        self._backend = backend_for(connection)

    def register(self, func: Any, queue_name: str, *in_place: Any, **options: Any) -> CronJob:
        """Registers an entry, like `rqd.cron.register`."""
        return register(func, queue_name, *in_place, connection=self._backend, **options)

    def get_jobs(self) -> list[CronJob]:
        """Returns every entry, by name."""
        return entries(self._backend)


def register(
    func: Any,
    queue_name: str = "default",
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    interval: float | str | None = None,
    cron: str | None = None,
    job_timeout: float | str | None = None,
    *,
    name: str | None = None,
    timezone: str = "UTC",
    missed: str = "once",
    window: float | str = "1d",
    serializer: str | None = None,
    connection: Connection = None,
    **options: Any,
) -> CronJob:
    """Enqueues `func` at every time of `cron` in `timezone`, or every multiple of `interval`.

    `interval` and `window` are whole seconds, or durations such as `"1d"`. `name` None is the
    function's name; a second entry of a function needs a `name`. Registering a name again changes
    its entry, which goes on from where it was. If no daemon was running, `missed` says which runs
    of the last `window` are made up for: `skip`, `once` or `all`. `options` are options of
    `enqueue`: result_ttl, failure_ttl, ttl, meta, description, retry, unique, rate_limit,
    max_memory, max_cpu.

    Raises ConfigurationError, and InvalidCallError as `enqueue` does.
    """
    backend = backend_for(connection)
    schedule = Schedule.of(
        cron,
        _whole_seconds(interval, "interval"),
        timezone,
        missed,
        _whole_seconds(window, "window") or 0,
    )
    data = (func, tuple(args or ()), dict(kwargs or {}))
    options |= {"queue_name": queue_name, "job_timeout": job_timeout, "serializer": serializer}
    entry = _entry(name, schedule, data, options, backend)
    crons = Crons(backend.store)
    if name is None:
        _refuse_to_replace(entry, backend, crons)
    crons.save(entry)
    return CronJob(_find(crons, entry.name), backend)


def entries(connection: Connection = None) -> list[CronJob]:
    """Returns every entry, by name."""
    backend = backend_for(connection)
    return [CronJob(record, backend) for record in Crons(backend.store).all()]


def fetch(name: str, connection: Connection = None) -> CronJob:
    """Returns the entry of this name. Raises NoSuchJobError if there is none."""
    backend = backend_for(connection)
    return CronJob(_find(Crons(backend.store), name), backend)


def remove(name: str, connection: Connection = None) -> bool:
    """Removes an entry; False if there is none. The jobs it made stay."""
    return Crons(backend_for(connection).store).remove(name)


def load(path: str | Path, connection: Connection = None) -> tuple[list[str], list[str]]:
    """Writes the entries of a TOML file to Redis, and removes entries that have left that file.

    Returns two lists of names: the new or changed entries, and the removed entries. Raises
    ConfigurationError before anything is written, if the file has a mistake.
    """
    backend = backend_for(connection)
    return Crons(backend.store).load(read_file(path, backend), source_of(path))


def source_of(path: str | Path) -> str:
    """Returns the source that marks a file's entries in Redis: its full path."""
    return str(Path(path).resolve())


def read_file(path: str | Path, backend: Backend) -> list[CronEntry]:
    """Reads the entries of a TOML file, a table each; writes nothing. Raises ConfigurationError."""
    try:
        tables = tomllib.loads(Path(path).read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(
            f"{path}: {getattr(error, 'strerror', None) or error}:"
            " write a TOML file, with a table for each entry"
        ) from error
    found = []
    for name, table in tables.items():
        try:
            found.append(_entry_of_table(check_cron_name(name), table, backend))
            if found[-1].schedule.next_after(time.time_ns() // 1000) is None:
                raise ConfigurationError("its schedule has no time in the next fifty years")
        except RqdError as error:
            raise ConfigurationError(f"{path}, [{name}]: {error}") from error
    return [replace(entry, source=source_of(path)) for entry in found]


def _entry_of_table(name: str, table: Any, backend: Backend) -> CronEntry:
    if not isinstance(table, dict):
        raise ConfigurationError("write a table for each entry: [nightly]")
    for key in table:
        if key not in _IN_FILES:
            near = get_close_matches(key, _IN_FILES, 1)
            raise ConfigurationError(
                f"there is no {key} = ..{f' (did you mean {near[0]}?)' if near else ''}"
            )
    options = {_IN_FILES[key]: value for key, value in table.items()}
    if "func" not in options:
        raise ConfigurationError("write func = 'module.function'")
    if "retry" in options:
        options["retry"] = _retry(options["retry"])
    schedule = Schedule.of(
        options.pop("cron", None),
        _whole_seconds(options.pop("interval", None), "interval"),
        options.pop("timezone", "UTC"),
        options.pop("missed", "once"),
        _whole_seconds(options.pop("window", "1d"), "window") or 0,
    )
    args, kwargs = options.pop("args", []), options.pop("kwargs", {})
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise ConfigurationError(f"args = {args!r}, kwargs = {kwargs!r}: write a list and a table")
    return _entry(name, schedule, (options.pop("func"), tuple(args), kwargs), options, backend)


def _entry(
    name: str | None,
    schedule: Schedule,
    data: tuple[Any, tuple[Any, ...], dict[str, Any]],
    options: dict[str, Any],
    backend: Backend,
) -> CronEntry:
    """Makes an entry with its job, signed if there are keys; None names it by its function.

    `data` has the function and its arguments. `options` has the queue's name and the serializer,
    too.
    """
    queue = check_queue_name(options.pop("queue_name", "default"))
    chosen = serializer_name(options.pop("serializer", None))
    for option in options:
        if option not in (*_OPTIONS, "job_timeout", "rate_limit"):
            raise ConfigurationError(f"a cron entry has no {option}=")
    wanted = job_options(options.pop("job_timeout", None), options)
    func_name, payload = encode_call(*data, chosen, INLINE_LIMIT_BYTES)
    called = check_cron_name(name if name is not None else func_name.replace(".", "-")[-128:])
    like = template_of(wanted, queue, chosen, DEFAULT_TIMEOUT_S)
    like = replace(like, terms=dump_terms({**read_terms(like.terms), "cron": called}))
    new = NewJob(
        ENTRY_PREFIX + called,
        like,
        func_name,
        payload,
        wanted.description or describe_call(func_name, *data[1:]),
        encode_value(wanted.meta, chosen, "meta") if wanted.meta else b"",
    )
    return CronEntry(called, schedule, signed(new, backend))


def _refuse_to_replace(entry: CronEntry, backend: Backend, crons: Crons) -> None:
    """Raises ConfigurationError if this process's earlier entry of the function still stands.

    An edited script may change its entry, but two of its entries may not replace each other.
    """
    before = backend.unnamed_crons.get(entry.name, entry.version)
    if before != entry.version:
        standing = crons.find(entry.name)
        if standing is not None and standing.version == before:
            raise ConfigurationError(
                f"cron {entry.name}: this function has an entry already, and a second entry"
                " would replace it: write name= for each"
            )
    backend.unnamed_crons[entry.name] = entry.version


def _retry(value: Any) -> Retry:
    if not isinstance(value, dict):
        raise ConfigurationError(f"retry = {value!r}: write retry = {{max = 3}}")
    try:
        return Retry(**value)
    except TypeError as error:
        raise ConfigurationError(f"retry: {error}") from error


def _whole_seconds(value: float | str | None, what: str) -> int | None:
    seconds = parse_duration_s(value, what)
    if seconds is None:
        return None
    if seconds < 1 or seconds != int(seconds):
        raise ConfigurationError(f"{what} {value!r}: write whole seconds, 1 or more")
    return int(seconds)


def _find(crons: Crons, name: str) -> CronRecord:
    record = crons.find(name)
    if record is None:
        near = get_close_matches(name, [one.name for one in crons.all()], 1)
        meant = f": did you mean {near[0]}?" if near else " (`rqd cron list` shows them)"
        raise NoSuchJobError(f"no cron entry {name!r}{meant}")
    return record
