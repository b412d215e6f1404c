"""`rqd jobs`: the jobs in one state, such as those that failed, with their causes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import click

from rqd.cli.completing import complete_queues
from rqd.cli.grammar import Command
from rqd.cli.options import as_json, backend, redis_options
from rqd.cli.output import duration, echo_table, iso
from rqd.cli.suggest import check_queues
from rqd.model.names import check_queue_name
from rqd.model.records import JobRecord
from rqd.store.views import Views

_ENDED = ("failed", "finished", "canceled")
_STATES = (*_ENDED, "queued", "started", "scheduled", "deferred")


@dataclass(frozen=True, slots=True)
class _Listed:
    """A job in the list; instants as ISO 8601, None if not reached."""

    id: str
    function: str
    queue: str
    status: str
    enqueued: str | None
    due: str | None
    started: str | None
    ended: str | None
    attempt: int
    cause: str


@click.command(name="jobs", cls=Command)
@redis_options
@as_json
@click.option(
    "--queue", "-q", "queues", multiple=True, shell_complete=complete_queues, help="Of this queue."
)
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=20,
    show_default=True,
    help="So many at most.",
)
@click.argument("state", type=click.Choice(_STATES), default="failed", metavar="[STATE]")
def command(
    url: str | None,
    namespace: str | None,
    as_json: bool,
    queues: tuple[str, ...],
    limit: int,
    state: str,
) -> None:
    """List the jobs that failed, or those in another STATE.

    STATE is failed (stopped ones, too), queued, started, scheduled, deferred, finished or canceled.
    Of those that have ended the latest come first, of the others the next to come. `rqd job ID`
    shows all of one.
    """
    with backend(url, namespace) as there:
        check_queues([check_queue_name(name) for name in queues], there.views)
        names = queues or there.views.queue_names()
        total, found = _look(there.views, state, names, limit)
        now_us = there.views.now_us()
    if as_json:
        click.echo(json.dumps(list(map(asdict, map(_listed, found))), indent=2))
        return
    heads = ("job", "function", "queue", "status", "when", "attempt", "cause")
    rows = [_cells(one, state, now_us) for one in found]
    echo_table(f"{state.capitalize()} jobs", heads, rows, ("attempt", "status", "queue"))
    if total > len(found):
        click.echo(f"  and {total - len(found):,} more: --limit")


def _look(
    views: Views, state: str, queues: Sequence[str], limit: int
) -> tuple[int, list[JobRecord]]:
    """How many there are, and the first of them."""
    total, ids = 0, list[str]()
    for name in queues:
        if state == "queued":
            total += views.queued_count(name)
            ids += views.queued_ids(name, 0, limit)
        else:
            total += views.index_count(name, state)
            ids += views.index_ids(name, state, 0, limit - 1, desc=state in _ENDED)
    found = [record for record in views.jobs(ids) if record is not None]
    gone = len(ids) - len(found)
    if state != "queued":  # whose places are the order, a queue after the other
        found.sort(key=lambda one: _instant_us(one, state) or 0, reverse=state in _ENDED)
    # Those that were gone count in their queue until a daemon comes upon them.
    return total - gone, found[:limit]


def _instant_us(record: JobRecord, state: str) -> int | None:
    """What one wants to know of a job in this state."""
    if state in _ENDED:
        return record.ended_us
    if state == "scheduled":
        return record.due_us
    return record.started_us if state == "started" else record.enqueued_us or record.created_us


def _cells(record: JobRecord, state: str, now_us: int) -> tuple[object, ...]:
    at_us = _instant_us(record, state)
    when = ""
    if at_us is not None:
        far = duration(abs(now_us - at_us) / 1e6)
        when = f"in {far}" if at_us > now_us else f"{far} ago"
    return (
        record.id, record.func_name, record.origin, str(record.status), when, record.attempt,
        record.cause,
    )  # fmt: skip


def _listed(record: JobRecord) -> _Listed:
    return _Listed(
        id=record.id,
        function=record.func_name,
        queue=record.origin,
        status=str(record.status),
        enqueued=iso(record.enqueued_us),
        due=iso(record.due_us),
        started=iso(record.started_us),
        ended=iso(record.ended_us),
        attempt=record.attempt,
        cause=record.cause,
    )
