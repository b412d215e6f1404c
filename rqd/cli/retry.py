"""`rqd retry`: failed jobs run again, one by its id or many."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta

import click

from rqd.cli.completing import complete_jobs, complete_queues
from rqd.cli.grammar import Command
from rqd.cli.options import as_json, backend, redis_options
from rqd.cli.output import one_line, say
from rqd.cli.suggest import check_queues, whole_id
from rqd.connection import Backend
from rqd.job import Job
from rqd.model.errors import ConfigurationError, RqdError
from rqd.model.names import check_queue_name, parse_duration_s
from rqd.model.stored import instant
from rqd.registry import FailedJobRegistry
from rqd.store.exchange import Requeued

EX_REFUSED = 1


@click.command(name="retry", cls=Command)
@redis_options
@as_json
@click.option(
    "--queue", "-q", "queues", multiple=True, shell_complete=complete_queues, help="Of this queue."
)
@click.option("--function", metavar="NAME", help="Of this function: shop.tasks.send, shop.*")
@click.option("--cause", metavar="TEXT", help="Whose cause has this in it: SIGKILL, 'timed out'.")
@click.option("--since", metavar="TIME", help="That failed in this time: 90, 30m, 2d.")
@click.option("--all", "all_", is_flag=True, help="All of all queues.")
@click.option("--dry-run", is_flag=True, help="Only print which they would be.")
@click.argument("job_ids", nargs=-1, metavar="[ID]...", shell_complete=complete_jobs)
def command(
    url: str | None,
    namespace: str | None,
    as_json: bool,
    queues: tuple[str, ...],
    function: str | None,
    cause: str | None,
    since: str | None,
    all_: bool,
    dry_run: bool,
    job_ids: tuple[str, ...],
) -> int:
    """Run failed jobs again.

    Those with these IDs, or all that the options name together.
    Each gets a new place at the end of its queue, and no further retries by that. A stopped job is
    run again by its id, or if --cause names it: --cause stopped.
    """
    chosen = bool(queues or function or cause or since)
    if not chosen and not all_ and not job_ids:
        raise ConfigurationError("say which: IDs, --queue, --function, --cause, --since, or --all")
    if job_ids and (chosen or all_ or dry_run):
        raise ConfigurationError("IDs say which jobs: leave out the other options")
    with backend(url, namespace) as there:
        if job_ids:
            return _by_id(there, job_ids, as_json)
        check_queues([check_queue_name(name) for name in queues], there.views)
        after = _so_long_ago(there, since)
        found: dict[str, list[str]] = {}
        for queue in queues or there.views.queue_names():
            portions = FailedJobRegistry(queue, there).requeue_portions(
                function, cause, after, dry_run
            )
            found[queue] = _collect(queue, portions)
    _show({queue: ids for queue, ids in found.items() if ids}, dry_run, as_json)
    return 0


def _so_long_ago(there: Backend, since: str | None) -> datetime | None:
    """So long ago, by Redis' clock."""
    seconds = parse_duration_s(since, "--since")
    if seconds is None or seconds == -1:
        return None
    return instant(there.views.now_us()) - timedelta(seconds=seconds)


def _collect(queue: str, portions: Iterator[Requeued]) -> list[str]:
    """The ids of all portions; on a terminal it says how far it is, where that takes long."""
    ids: list[str] = []
    looked_at, shown = 0, ""
    for portion in portions:
        ids += portion.ids
        looked_at += portion.looked_at
        if looked_at > len(portion.ids) and looked_at > 1000 and sys.stderr.isatty():
            shown = f"\r{one_line(queue)}: {len(ids):,} of {looked_at:,} looked at"
            click.echo(shown, err=True, nl=False)
    if shown:
        click.echo(f"\r{'':<{len(shown)}}\r", err=True, nl=False)
    return ids


def _show(found: dict[str, list[str]], dry_run: bool, as_json: bool) -> None:
    if as_json:
        total = sum(map(len, found.values()))
        click.echo(json.dumps({"dry_run": dry_run, "jobs": total, "queues": found}, indent=2))
        return
    for queue, ids in found.items():
        if dry_run:
            for job_id in ids:
                say(job_id)
        jobs = "1 job" if len(ids) == 1 else f"{len(ids):,} jobs"
        told = f"{jobs} would run again" if dry_run else f"{jobs} put in the queue again"
        say(f"{queue}: {told}", err=dry_run)
    if not found:
        click.echo("no failed job is meant by that", err=True)


def _by_id(there: Backend, job_ids: tuple[str, ...], as_json: bool) -> int:
    told: dict[str, str] = {}
    status = 0
    for typed in job_ids:
        job_id = typed
        try:
            job_id = whole_id(typed, there.views)
            told[job_id] = str(Job.fetch(job_id, there).requeue().get_status(refresh=False))
        except RqdError as error:
            if len(job_ids) == 1:
                raise
            status = EX_REFUSED
            told[job_id] = "refused"
            say(f"rqd: {error}", err=True)
        else:
            if not as_json:
                click.echo(f"{job_id}: requeued")  # it may run already, or have ended
    if as_json:
        click.echo(json.dumps({"jobs": told}, indent=2))
    return status
