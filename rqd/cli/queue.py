"""`rqd queue`: the queues, and what can be done with one: pause, resume, empty."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import click

from rqd.cli.completing import complete_queues
from rqd.cli.info import show_queues
from rqd.cli.instants import with_unit
from rqd.cli.near import NoSuchNameError, did_you_mean, known_queues
from rqd.cli.options import as_json, backend, redis_options
from rqd.cli.pauses import Paused, pause_of, read_for
from rqd.cli.table import say
from rqd.connection import Backend
from rqd.model.errors import ConfigurationError
from rqd.queue import Queue


@click.command(name="queue")
@redis_options
@as_json
@click.option("--for", "for_", metavar="TIME", help="pause: ends by itself then: 30, 10m, 2h.")
@click.argument("name", required=False, shell_complete=complete_queues)
@click.argument(
    "action",
    required=False,
    type=click.Choice(["pause", "resume", "empty"]),
    metavar="[ACTION]",
)
def command(
    url: str | None,
    namespace: str | None,
    as_json: bool,
    for_: str | None,
    name: str | None,
    action: str | None,
) -> None:
    """Show queues; pause, resume or empty one.

    All, or the one of this NAME, and whether they are paused.

    With an ACTION: `pause` it (daemons start none of its jobs; running ones go on, new ones are
    taken), `resume` it, or `empty` it of its waiting jobs. `rqd suspend` pauses them all.
    """
    if for_ is not None and action != "pause":
        raise ConfigurationError("--for is of `pause`: how long")
    with backend(url, namespace) as there:
        if name is not None and action is not None:
            told = _ACTIONS[action](Queue(name, there), for_)
            (row,) = _rows(there, [name], there.views.paused())
            told["queue"] = row
        else:
            paused = there.views.paused()
            known = known_queues(there.views, paused)
            if name is not None and name not in known:
                near = did_you_mean(name, known) or "; rqd queue lists those that had"
                raise NoSuchNameError(f"no queue {name!r} ever had a job{near}")
            told = {"queues": _rows(there, known if name is None else [name], paused)}
    if as_json:
        click.echo(json.dumps(told.get("queues", told), indent=2))
    elif "queues" in told:
        show_queues(told["queues"])
    else:
        say(f"{name}: {told['done']}")


def _pause(queue: Queue, for_: str | None) -> dict[str, Any]:
    queue.pause(read_for(for_))
    unknown = "" if queue.name in queue.connection.views.queue_names() else "; it never had a job"
    how_long = f" for {with_unit(for_)}" if for_ else ", until it is resumed"
    return {"done": f"paused{how_long}{unknown}"}


def _resume(queue: Queue, _for: str | None) -> dict[str, Any]:
    queue.resume()
    everything = ", but everything is suspended (rqd resume)" if queue.is_paused else ""
    return {"done": f"resumed{everything}"}


def _empty(queue: Queue, _for: str | None) -> dict[str, Any]:
    deleted = queue.empty()
    return {"done": f"{deleted:,} {'job' if deleted == 1 else 'jobs'} deleted", "deleted": deleted}


_ACTIONS: dict[str, Callable[[Queue, str | None], dict[str, Any]]] = {
    "pause": _pause,
    "resume": _resume,
    "empty": _empty,
}


def _rows(there: Backend, names: list[str], paused: Paused) -> list[dict[str, Any]]:
    return [
        asdict(counts) | pause_of(counts.name, paused) for counts in there.views.queue_counts(names)
    ]
