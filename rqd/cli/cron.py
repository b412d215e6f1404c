"""`rqd cron`: calls that are enqueued again and again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click

from rqd.cli.completing import complete_crons, complete_queues
from rqd.cli.enqueue import parse_arguments
from rqd.cli.grammar import VerbGroup, verbs_too
from rqd.cli.options import as_json, as_typed, backend, redis_options, serializer_option
from rqd.cli.output import echo_field, echo_table, say
from rqd.cli.suggest import did_you_mean
from rqd.client.connection import Backend
from rqd.client.cron import CronJob, entries, fetch, load, register
from rqd.model.errors import ConfigurationError, NoSuchJobError

_NAMES = click.argument(
    "names", metavar="NAME..", nargs=-1, required=True, shell_complete=complete_crons
)


@click.group(name="cron", cls=VerbGroup, noun="[NAME]..", default="list")
def command() -> None:
    """Show or change calls that repeat on a schedule.

    Running daemons enqueue each call at its times.
    """


@command.command(name="list")
@redis_options
@as_json
@click.argument("name", required=False, shell_complete=verbs_too(complete_crons))
def list_entries(url: str | None, namespace: str | None, as_json: bool, name: str | None) -> None:
    """Show all entries, or all fields of the entry NAME."""
    with backend(url, namespace) as there:
        found = entries(there) if name is None else [_named(name, there)]
    if as_json:
        described = [_described(entry) for entry in found]
        click.echo(json.dumps(described if name is None else described[0], indent=2))
    elif name is None:
        _show_table(found)
    else:
        _show_fields(found[0])


def _named(name: str, there: Backend) -> CronJob:
    """Returns the entry. Raises NoSuchJobError, or UsageError for a word near a command."""
    try:
        return fetch(name, there)
    except NoSuchJobError as error:
        if name.endswith(".py"):  # RQ's file of entries
            raise click.UsageError(
                f"there is no entry {name!r}: its rqd.cron.register(..) write entries by"
                f" themselves: run python {name}, once after each change"
            ) from error
        if not (near := did_you_mean(name, command.commands)):
            raise
        raise click.UsageError(f"there is no command or entry {name!r}{near}") from error


def _show_table(found: Sequence[CronJob]) -> None:
    heads = ("name", "schedule", "function", "queue", "state", "next", "last", "last job", "runs")
    rows = [
        (
            entry.name, entry.schedule, entry.func_name, entry.queue_name,
            entry.error or entry.state, _shown(entry.next_run), _shown(entry.last_run),
            entry.last_job_id, entry.runs,
        )
        for entry in found
    ]  # fmt: skip
    echo_table("Cron entries", heads, rows, ("last job", "runs", "last", "queue", "function"))


def _show_fields(entry: CronJob) -> None:
    times = {"next": _shown(entry.next_run), "last": _shown(entry.last_run)}
    for name, value in (_described(entry) | times).items():
        if value not in (None, ""):
            echo_field(name.replace("_", " "), str(value))


@command.command(name="load")
@redis_options
@click.argument("file")
def load_file(url: str | None, namespace: str | None, file: str) -> None:
    """Load the entries of a TOML FILE.

    Unchanged entries go on as before. Entries that have left this file are removed. Entries of
    other files, and entries added by hand, stay.
    """
    with backend(url, namespace, signs=True) as there:
        changed, removed = load(file, there)
    for what, names in (("written", changed), ("removed", removed)):
        for name in names:
            say(f"{name}: {what}")
    if not changed and not removed:
        click.echo("nothing has changed")


@command.command(name="add")
@redis_options
@click.option("--cron", metavar="'M H D M W'", help="Schedule of five fields, or @hourly, @daily..")
@click.option("--interval", metavar="TIME", help="Run at each multiple of this time: 90, 15m.")
@click.option(
    "--timezone", metavar="ZONE", default="UTC", show_default=True, help="Time zone of --cron."
)
@click.option(
    "--missed",
    metavar="HOW",
    default="once",
    show_default=True,
    help="Make up for missed runs: skip, once or all.",
)
@click.option(
    "--window", metavar="TIME", default="1d", show_default=True, help="Longest time to make up for."
)
@click.option(
    "--queue",
    "-q",
    "queue_name",
    default="default",
    show_default=True,
    shell_complete=complete_queues,
    help="Name of the queue.",
)
@click.option(
    "--timeout", "job_timeout", metavar="TIME", help="Longest time of a run: 180, 10m, -1."
)
@click.option("--result-ttl", metavar="TIME", help="Time to keep a run's record after success.")
@click.option("--failure-ttl", metavar="TIME", help="Time to keep a run's record after failure.")
@click.option("--unique", metavar="KEY", help="Skip a run while a job with this key lives.")
@serializer_option
@click.argument("name")
@click.argument("function")
@click.argument("arguments", nargs=-1)
def add(
    url: str | None,
    namespace: str | None,
    name: str,
    function: str,
    arguments: tuple[str, ...],
    **options: Any,
) -> None:
    """Add or change the entry NAME: a call of FUNCTION (module.name).

    ARGUMENTS are written as for `rqd enqueue`.
    """
    args, kwargs = parse_arguments(arguments)
    if not options["cron"] and not options["interval"]:
        raise ConfigurationError("give a schedule: --cron '30 2 * * *', or --interval 15m")
    with backend(url, namespace, signs=True) as there, as_typed():
        entry = register(function, args=args, kwargs=kwargs, name=name, connection=there, **options)
    say(f"{entry.name}: {_due(entry)}")


@command.command(name="remove")
@redis_options
@_NAMES
def remove_entries(url: str | None, namespace: str | None, names: tuple[str, ...]) -> None:
    """Remove entries; their jobs stay."""
    with backend(url, namespace) as there:
        for entry in [fetch(name, there) for name in names]:
            entry.remove()
            say(f"{entry.name}: removed")


@command.command(name="run")
@redis_options
@click.argument("name", shell_complete=complete_crons)
def run(url: str | None, namespace: str | None, name: str) -> None:
    """Enqueue a run now, and print its job's id."""
    with backend(url, namespace) as there:
        click.echo(fetch(name, there).run().id)


@command.command(name="pause")
@redis_options
@_NAMES
def pause(url: str | None, namespace: str | None, names: tuple[str, ...]) -> None:
    """Pause entries until `rqd cron resume`."""
    with backend(url, namespace) as there:
        for entry in [fetch(name, there) for name in names]:
            entry.pause()
            say(f"{entry.name}: paused, until rqd cron resume")


@command.command(name="resume")
@redis_options
@_NAMES
def resume(url: str | None, namespace: str | None, names: tuple[str, ...]) -> None:
    """Resume paused entries, from their next time on."""
    with backend(url, namespace) as there:
        for entry in [fetch(name, there) for name in names]:
            entry.resume()
            say(f"{entry.name}: resumed, {_due(fetch(entry.name, there))}")


def _described(entry: CronJob) -> dict[str, Any]:
    return {
        "name": entry.name,
        "schedule": entry.schedule,
        "function": entry.func_name,
        "description": entry.description,
        "queue": entry.queue_name,
        "state": entry.state,
        "error": entry.error or None,
        "next": _iso(entry.next_run),
        "last": _iso(entry.last_run),
        "last_job": entry.last_job_id,
        "runs": entry.runs,
        "source": entry.source or None,
    }


def _due(entry: CronJob) -> str:
    return f"due {_shown(entry.next_run)}" if entry.next_run else "never due"


def _iso(at: datetime | None) -> str | None:
    return at.isoformat() if at is not None else None


def _shown(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M:%SZ}" if at is not None else ""
