"""`rqd queue`: the queues, and what can be done with one: pause, resume, empty."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import click

from rqd.cli.completing import complete_queues
from rqd.cli.near import did_you_mean
from rqd.cli.options import as_json, backend, redis_options
from rqd.cli.table import echo_table
from rqd.connection import Backend
from rqd.model.errors import ConfigurationError, RqdError
from rqd.queue import Queue
from rqd.store.keys import ALL_QUEUES

_COUNTS = ("ready", "started", "scheduled", "deferred", "finished", "failed", "canceled")


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
    """Show the queues, or the one of this NAME, and whether they are paused.

    With an ACTION: `pause` it (daemons start none of its jobs; running ones go on, new ones are
    taken), `resume` it, or `empty` it of its waiting jobs. `rqd suspend` pauses them all.
    """
    if for_ is not None and action != "pause":
        raise ConfigurationError("--for is of `pause`: how long")
    with backend(url, namespace) as there:
        if name is not None and action is not None:
            told = _ACTIONS[action](Queue(name, there), for_)
            (row,) = _rows(there, [name])
            told["queue"] = row
        else:
            known = there.views.queue_names()
            if name is not None and name not in known:
                near = did_you_mean(name, known) or "; rqd queue lists those that had"
                raise RqdError(f"no queue {name!r} ever had a job{near}")
            told = {"queues": _rows(there, known if name is None else [name])}
    if as_json:
        click.echo(json.dumps(told.get("queues", told), indent=2))
    elif "queues" in told:
        _show(told["queues"])
    else:
        click.echo(f"{name}: {told['done']}")


def _pause(queue: Queue, for_: str | None) -> dict[str, Any]:
    if for_ is not None and for_.strip().startswith("-"):
        raise ConfigurationError(
            f"--for {for_}: write a time, 10m; without --for it lasts until it is resumed"
        )
    queue.pause(for_)
    return {"done": f"paused{f' for {for_}' if for_ else ', until it is resumed'}"}


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


def _rows(there: Backend, names: list[str]) -> list[dict[str, Any]]:
    paused = there.views.paused()
    return [
        asdict(counts) | _pause_of(counts.name, paused)
        for counts in there.views.queue_counts(names)
    ]


def _pause_of(name: str, paused: dict[str, int | None]) -> dict[str, Any]:
    """Whether it is paused, by itself or with all others, and until when, None for no end."""
    held = [paused[one] for one in (name, ALL_QUEUES) if one in paused]
    ends = [ends_at for ends_at in held if ends_at is not None]
    until = max(ends) if held and len(ends) == len(held) else None
    return {"paused": bool(held), "paused_until": _instant(until)}


def _instant(at_us: int | None) -> str | None:
    return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat() if at_us is not None else None


def _show(rows: list[dict[str, Any]]) -> None:
    heads = ("queue", *_COUNTS, "state")
    cells = [(row["name"], *(row[count] for count in _COUNTS), _state(row)) for row in rows]
    echo_table("Queues", heads, cells)


def _state(row: dict[str, Any]) -> str:
    if not row["paused"]:
        return "open"
    until = row["paused_until"]
    return f"paused until {until[:19]}Z" if until else "paused"
