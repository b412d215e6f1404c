"""`rqd enqueue`: a call from the shell onto a queue."""

from __future__ import annotations

import ast
import json
import warnings
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click

from rqd.cli.completing import complete_jobs, complete_queues
from rqd.cli.grammar import Command
from rqd.cli.options import as_typed, backend, redis_options, serializer_option
from rqd.cli.output import plain, say
from rqd.cli.pause import why_not_started
from rqd.cli.suggest import did_you_mean, whole_id
from rqd.client.connection import Backend
from rqd.client.enqueue import delay_us_of, due_us_of
from rqd.client.queue import Queue
from rqd.client.results import Result
from rqd.model.errors import ConfigurationError, InvalidCallError, NoSuchJobError
from rqd.model.limits import RateLimit
from rqd.model.names import parse_duration_s
from rqd.model.retry import Retry

EX_JOB_FAILED = 1
_WAIT_S = 10**8
_DIGITS = 9


@click.command(name="enqueue", cls=Command, context_settings={"ignore_unknown_options": False})
@redis_options
@click.option(
    "--queue",
    "-q",
    default="default",
    show_default=True,
    shell_complete=complete_queues,
    help="Name of the queue.",
)
@click.option("--timeout", "job_timeout", metavar="TIME", help="Longest time to run: 180, 10m, -1.")
@click.option("--result-ttl", metavar="TIME", help="Time to keep the record after success.")
@click.option("--ttl", metavar="TIME", help="Longest time to wait in the queue.")
@click.option("--failure-ttl", metavar="TIME", help="Time to keep the record after failure.")
@click.option("--description", help="Text to show in place of the call.")
@click.option("--job-id", help="Id of the job, in place of a random id.")
@click.option("--at-front", is_flag=True, help="Put the job before all waiting jobs.")
@click.option("--priority", type=int, default=0, help="Priority, -4095 to 4095: higher runs first.")
@click.option("--retry-max", type=int, default=0, help="Number of retries after failures.")
@click.option("--retry-interval", type=float, multiple=True, help="Seconds before each retry.")
@click.option("--retry-backoff", type=float, help="Factor from each wait to the next.")
@click.option("--retry-longest", type=float, help="Longest wait before a retry, in seconds.")
@click.option("--retry-jitter", type=float, help="Shorten each wait by up to this part: 0.2.")
@click.option(
    "--retry-on",
    metavar="CAUSE=N",
    multiple=True,
    help="Number of retries after a cause: timeout=0.",
)
@click.option(
    "--retry-only", metavar="NAME", multiple=True, help="Retry after this exception only."
)
@click.option(
    "--retry-never", metavar="NAME", multiple=True, help="Never retry after this exception."
)
@click.option("--schedule-in", metavar="TIME", help="Time to wait before the start: 90, 5m, 2h.")
@click.option(
    "--schedule-at", metavar="INSTANT", help="Time of the start: 2030-12-24T18:00, or ..+01:00."
)
@click.option(
    "--depends-on",
    metavar="ID",
    multiple=True,
    shell_complete=complete_jobs,
    help="Wait for this job's success.",
)
@click.option("--unique", metavar="KEY", help="Refuse the job while another job has this key.")
@click.option(
    "--limit", metavar="KEY:N", help="Run N jobs of KEY at a time; or KEY:N/s, N/min, N/10m."
)
@click.option(
    "--max-memory", metavar="SIZE", help="Kill the job if it has more memory of its own: 512M."
)
@click.option("--max-cpu", metavar="TIME", help="End the job after this much cpu time: 60, 5m.")
@serializer_option
@click.option("--quiet", is_flag=True, help="Don't print the id.")
@click.option("--wait", is_flag=True, help="Wait for the job's end and print its result.")
@click.argument("function")
@click.argument("arguments", nargs=-1)
def command(
    url: str | None,
    namespace: str | None,
    queue: str,
    serializer: str,
    quiet: bool,
    wait: bool,
    function: str,
    arguments: tuple[str, ...],
    schedule_in: str | None,
    schedule_at: str | None,
    **options: Any,
) -> int:
    """Put a call on a queue; print its job's id.

    FUNCTION is module.name.

    ARGUMENTS are text, `:` and JSON, or `%` and a Python literal. Keyword arguments are
    `name=text`, `name:=json` and `name%=literal`. `@file` reads the value from a file.
    """
    args, kwargs = parse_arguments(arguments)
    options["rate_limit"] = _limit(options.pop("limit"))
    due = _due(schedule_in, schedule_at)
    with backend(url, namespace, signs=True) as there, as_typed():
        retry = {name: options.pop(name) for name in [*options] if name.startswith("retry_")}
        options["depends_on"] = [_parent(one, there) for one in options["depends_on"]]
        chosen = {"args": args, "kwargs": kwargs, "retry": _retry(retry), **options}
        to = Queue(queue, there, serializer=serializer)
        if due is None:
            job = to.enqueue(function, **chosen)
        elif isinstance(due, timedelta):
            job = to.enqueue_in(due, function, **chosen)
        else:
            job = to.enqueue_at(due, function, **chosen)
        if not quiet:
            click.echo(job.id, err=wait)
        if not wait:
            return 0
        _say_what_it_waits_for(there, queue)
        result = job.latest_result(timeout=_WAIT_S)
    return _show(result)


def _say_what_it_waits_for(there: Backend, queue: str) -> None:
    """Says on stderr, once, why the job is not started now."""
    if held := why_not_started(queue, there.views.paused()):
        say(f"rqd: {held}; waiting for its end", err=True)
    masters = [(row.get("queues", "").split(","), row) for row in there.views.masters()]
    serving = [row for queues, row in masters if queue in queues]
    if serving and all(row.get("state") == "paused" for row in serving):
        say(
            f"rqd: all daemons of queue {queue} are paused, `rqd resume --master NAME` ends that",
            err=True,
        )
    if not serving:
        served = {name for queues, _ in masters for name in queues}
        near = did_you_mean(queue, served) or "; waiting for a daemon"
        say(f"rqd: no daemon serves queue {queue} now{near}", err=True)


def parse_arguments(arguments: tuple[str, ...]) -> tuple[list[Any], dict[str, Any]]:
    """Reads positional and keyword arguments in RQ's notation. Raises ConfigurationError."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for argument in arguments:
        keyword, mode, text = _split(argument)
        value = _value(mode, _read(text), argument)
        if keyword is None:
            args.append(value)
        elif keyword in kwargs:
            raise ConfigurationError(f"argument {keyword}= is given twice")
        else:
            kwargs[keyword] = value
    return args, kwargs


def _retry(given: dict[str, Any]) -> Retry | None:
    """Makes the Retry of the options; None without one. Raises ConfigurationError."""
    most = given.pop("retry_max")
    chosen = {
        name.removeprefix("retry_"): value
        for name, value in given.items()
        if value not in (None, ())
    }
    if not most:
        if chosen:
            raise ConfigurationError(f"--retry-{min(chosen)} needs --retry-max, how often to retry")
        return None
    if "on" in chosen:
        chosen["on"] = dict(map(_cause_and_count, chosen["on"]))
    return Retry(most, list(chosen.pop("interval", (0,))), **chosen)


def _parent(typed: str, there: Backend) -> str:
    """Returns the whole id of a job to wait for; an unknown id stays, as the enqueue refuses it."""
    try:
        return typed if typed.startswith("group:") else whole_id(typed, there.views)
    except NoSuchJobError:
        return typed


def _due(after: str | None, at: str | None) -> timedelta | datetime | None:
    """Reads `--schedule-in` and `--schedule-at`; None without both. Raises ConfigurationError."""
    if after is not None and at is not None:
        raise ConfigurationError("write --schedule-in or --schedule-at, not both")
    try:
        return _read_due(after, at)
    except InvalidCallError as error:
        option = f"--schedule-in {after}" if at is None else f"--schedule-at {at}"
        raise ConfigurationError(f"{option}: {str(error).partition('): ')[2]}") from error


def _read_due(after: str | None, at: str | None) -> timedelta | datetime | None:
    """Raises ConfigurationError, and InvalidCallError for a time that is too far off."""
    if after is not None:
        seconds = parse_duration_s(after, "--schedule-in")
        if seconds is None or seconds < 0:
            raise ConfigurationError(f"--schedule-in {after}: write seconds, 0 or more")
        delay = timedelta(seconds=seconds)
        delay_us_of(delay)
        return delay
    if at is None:
        return None
    try:
        due = datetime.fromisoformat(at)
    except ValueError as error:
        raise ConfigurationError(
            f"--schedule-at {at}: write 2030-12-24T18:00, or 2030-12-24T18:00+01:00"
        ) from error
    due_us_of(due)
    return due


def _cause_and_count(text: str) -> tuple[str, int]:
    cause, equals, count = text.partition("=")
    if not equals or not count.isdecimal() or len(count) > _DIGITS:
        raise ConfigurationError(f"--retry-on {text}: write CAUSE=N, such as timeout=0")
    return cause, int(count)


def _limit(text: str | None) -> RateLimit | None:
    """Reads `KEY:N` as N at a time; `KEY:N/10m`, `KEY:N/h` as N starts in a time.

    Raises ConfigurationError.
    """
    if text is None:
        return None
    key, _, number = text.rpartition(":")
    count, slash, per = number.partition("/")
    if not key or not count.isdecimal() or len(count) > _DIGITS:
        raise ConfigurationError(f"--limit {text}: write KEY:N, or KEY:N/1m for N starts in 1m")
    per = f"1{per}" if per.isalpha() else per
    per_s = parse_duration_s(per, f"--limit {text}:") if slash else None
    try:
        if per_s is None:
            return RateLimit(key, int(count))
        return RateLimit(key, rate=int(count), per=per_s)
    except ConfigurationError as error:
        why = str(error)
        raise ConfigurationError(f"--limit {text}: {why.partition('): ')[2] or why}") from error


def _split(argument: str) -> tuple[str | None, str, str]:
    """Returns (keyword or None, `:` `%` or empty, the value's text)."""
    if argument[:1] in (":", "%"):
        return None, argument[0], argument[1:]
    name, equals, text = argument.partition("=")
    mode = name[-1:] if name[-1:] in (":", "%") else ""
    keyword = name.removesuffix(mode) if mode else name
    if equals and keyword.isidentifier():
        return keyword, mode, text
    return None, "", argument


def _read(text: str) -> str:
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text()
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"argument {text}: {error}") from error


def _value(mode: str, text: str, argument: str) -> Any:
    try:
        if mode == ":":
            return json.loads(text)
        return _literal(text) if mode == "%" else text
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        what = "JSON" if mode == ":" else "a Python literal"
        raise ConfigurationError(f"argument {argument!r} is not {what}: {error}") from error


def _literal(text: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about "\\d", say, which was meant to be just that
        return ast.literal_eval(text)


def _show(result: Result | None) -> int:
    if result is not None and result.type == "successful":
        click.echo(plain(result.details.get("preview", "")))
        return 0
    if result is None:
        click.echo("the job is gone: canceled, deleted, or its time to live was over", err=True)
    else:
        # A crash has no traceback; the process's last output is the next best.
        text = result.exc_string or f"{result.cause}\n{result.output}"
        click.echo(plain(text).rstrip(), err=True)
    return EX_JOB_FAILED
