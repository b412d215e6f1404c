"""`rqd queue`: shows queues, or empties one."""

from __future__ import annotations

import json
from collections.abc import Callable

import click

from rqd.cli.completing import complete_queues
from rqd.cli.grammar import VerbGroup, verbs_too
from rqd.cli.info import show_queues
from rqd.cli.options import as_json, backend, redis_options
from rqd.cli.output import say
from rqd.cli.pause import note_former, pause_queue, resume_queue
from rqd.cli.pauses import queue_rows
from rqd.cli.suggest import NoSuchNameError, did_you_mean, known_queues
from rqd.queue import Queue

_NAME = click.argument("name", shell_complete=complete_queues)


@click.group(name="queue", cls=VerbGroup, noun="[NAME]", default="show")
def command() -> None:
    """Show queues, or empty one.

    `rqd pause` and `rqd resume` hold queues back.
    """


@command.command(name="show")
@redis_options
@as_json
@click.argument("name", required=False, shell_complete=verbs_too(complete_queues))
def show(url: str | None, namespace: str | None, as_json: bool, name: str | None) -> None:
    """Show all queues, or one, and whether they are paused."""
    with backend(url, namespace) as there:
        paused = there.views.paused()
        known = known_queues(there.views, paused)
        if name is not None and name not in known:
            near = did_you_mean(name, known) or "; rqd queue lists those that had"
            raise NoSuchNameError(f"no queue {name!r} ever had a job{near}")
        rows = queue_rows(there, known if name is None else [name], paused)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        show_queues(rows)


@command.command(name="empty")
@redis_options
@as_json
@_NAME
def empty(url: str | None, namespace: str | None, as_json: bool, name: str) -> None:
    """Delete the waiting jobs of a queue."""
    with backend(url, namespace) as there:
        deleted = Queue(name, there).empty()
        (row,) = queue_rows(there, [name], there.views.paused())
    done = f"{deleted:,} {'job' if deleted == 1 else 'jobs'} deleted"
    if as_json:
        click.echo(json.dumps({"done": done, "deleted": deleted, "queue": row}, indent=2))
    else:
        say(f"{name}: {done}")


# Spelt so before `rqd pause NAME`: for one version.


@command.command(name="pause", hidden=True)
@redis_options
@as_json
@click.option("--for", "for_", metavar="TIME")
@_NAME
def pause(
    url: str | None, namespace: str | None, as_json: bool, for_: str | None, name: str
) -> None:
    """Pause a queue: `rqd pause NAME`."""
    note_former(f"rqd queue {name} pause", f"rqd pause {name}")
    _do(url, namespace, as_json, name, lambda queue: pause_queue(queue, for_))


@command.command(name="resume", hidden=True)
@redis_options
@as_json
@_NAME
def resume(url: str | None, namespace: str | None, as_json: bool, name: str) -> None:
    """Resume a queue: `rqd resume NAME`."""
    note_former(f"rqd queue {name} resume", f"rqd resume {name}")
    _do(url, namespace, as_json, name, resume_queue)


def _do(
    url: str | None,
    namespace: str | None,
    as_json: bool,
    name: str,
    do: Callable[[Queue], str],
) -> None:
    """Does something with a queue, and prints the words that `do` returns."""
    with backend(url, namespace) as there:
        done = do(Queue(name, there))
        (row,) = queue_rows(there, [name], there.views.paused())
    if as_json:
        click.echo(json.dumps({"done": done, "queue": row}, indent=2))
    else:
        say(f"{name}: {done}")
