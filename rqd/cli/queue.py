"""`rqd queue` and `rqd limits`: shows queues, or empties a queue; shows limits."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

from rqd.cli.completing import complete_queues
from rqd.cli.grammar import Command, VerbGroup, verbs_too
from rqd.cli.info import show_queues
from rqd.cli.options import as_json, backend, redis_options
from rqd.cli.output import echo_table, note_former, say
from rqd.cli.pause import pause_queue, resume_queue
from rqd.cli.suggest import NoSuchNameError, did_you_mean
from rqd.client.queue import Queue
from rqd.client.snapshot import known_queues, queue_rows
from rqd.model.numbers import iso
from rqd.store.limit_queries import LimitView

_NAME = click.argument("name", shell_complete=complete_queues)
_SHOWN_HOLDERS = 3


@click.group(name="queue", cls=VerbGroup, noun="[NAME]", default="show")
def queue() -> None:
    """Show queues, or empty a queue.

    `rqd pause` and `rqd resume` pause and resume queues.
    """


@queue.command(name="show")
@redis_options
@as_json
@click.argument("name", required=False, shell_complete=verbs_too(complete_queues))
def show(url: str | None, namespace: str | None, as_json: bool, name: str | None) -> None:
    """Show all queues, or the queue NAME, with their pauses."""
    with backend(url, namespace) as there:
        paused = there.views.paused()
        known = known_queues(there.views, paused)
        if name is not None and name not in known:
            near = did_you_mean(name, known) or "; rqd queue lists the queues"
            raise NoSuchNameError(f"no queue {name!r} ever had a job{near}")
        rows = queue_rows(there, known if name is None else [name], paused)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        show_queues(rows)


@queue.command(name="empty")
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


# The spellings before `rqd pause NAME`: for a single version.


@queue.command(name="pause", hidden=True)
@redis_options
@as_json
@click.option("--for", "for_", metavar="TIME", help="Time until the queue resumes.")
@_NAME
def pause(
    url: str | None, namespace: str | None, as_json: bool, for_: str | None, name: str
) -> None:
    """Pause a queue: `rqd pause NAME`."""
    note_former(f"rqd queue {name} pause", f"rqd pause {name}")
    _do(url, namespace, as_json, name, lambda one: pause_queue(one, for_))


@queue.command(name="resume", hidden=True)
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
    """Calls `do` with a queue, and prints the words that it returns."""
    with backend(url, namespace) as there:
        done = do(Queue(name, there))
        (row,) = queue_rows(there, [name], there.views.paused())
    if as_json:
        click.echo(json.dumps({"done": done, "queue": row}, indent=2))
    else:
        say(f"{name}: {done}")


@click.command(name="limits", cls=Command)
@redis_options
@as_json
def limits(url: str | None, namespace: str | None, as_json: bool) -> None:
    """Show the limits in use.

    Each limit has its running jobs, and the number of its waiting jobs.
    """
    with backend(url, namespace) as there:
        limits = there.views.limits()
        now_us = there.views.now_us()
    if as_json:
        click.echo(json.dumps([_described(limit) for limit in limits], indent=2))
        return
    heads = ("limit", "running", "rate", "next", "waiting", "queues", "held by")
    rows = [
        (
            limit.key, _running(limit), _rate(limit), _until(limit.next_us, now_us),
            sum(limit.waiting.values()), ",".join(limit.waiting), _holders(limit),
        )
        for limit in limits
    ]  # fmt: skip
    echo_table("Limits", heads, rows)


def _described(limit: LimitView) -> dict[str, Any]:
    return {
        "key": limit.key,
        "concurrency": limit.concurrency,
        "rate_per_s": round(1_000_000 / limit.every_us, 6) if limit.every_us else None,
        "burst": limit.burst,
        "next_token": iso(limit.next_us or None),
        "holders": list(limit.holders),
        "waiting": limit.waiting,
    }


def _running(limit: LimitView) -> str:
    return f"{len(limit.holders)}/{limit.concurrency}" if limit.concurrency else ""


def _rate(limit: LimitView) -> str:
    if not limit.every_us:
        return ""
    per_s = 1_000_000 / limit.every_us
    for unit_s, unit in ((1, "s"), (60, "min"), (3600, "h")):
        if per_s * unit_s >= 1 or unit == "h":
            return f"{per_s * unit_s:.3g}/{unit}, burst {limit.burst}"
    return ""


def _until(next_us: int | None, now_us: int) -> str:
    return f"in {max(0, next_us - now_us) / 1e6:.1f} s" if next_us else ""


def _holders(limit: LimitView) -> str:
    shown = [job_id[:8] for job_id in limit.holders[:_SHOWN_HOLDERS]]
    return " ".join(shown) + (" .." if len(limit.holders) > _SHOWN_HOLDERS else "")
