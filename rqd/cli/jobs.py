"""`rqd jobs`, `retry`, `logs` and `stack`: lists jobs in a state, shows a job's output or stack."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime, timedelta

import click

from rqd.cli.completing import complete_jobs, complete_queues
from rqd.cli.grammar import Command
from rqd.cli.options import as_json, backend, redis_options
from rqd.cli.output import duration, echo_table, one_line, plain, say
from rqd.cli.suggest import check_queues, whole_id
from rqd.client.connection import Backend
from rqd.client.control import live_stack
from rqd.client.job import Job
from rqd.client.job_views import STATES, instant_us, list_jobs, listed
from rqd.client.queue import FailedJobRegistry
from rqd.model.errors import ConfigurationError, RqdError
from rqd.model.names import check_queue_name, parse_duration_s
from rqd.model.numbers import instant
from rqd.model.records import JobRecord, JobStatus
from rqd.store.follow import Follower, as_text
from rqd.store.messages import Requeued

_OF_QUEUE = "Choose jobs of this queue."
EX_REFUSED = 1
# A master answers within some milliseconds, or it is busy with something else.
_MASTER_S = 2.0


@click.command(name="jobs", cls=Command)
@redis_options
@as_json
@click.option(
    "--queue", "-q", "queues", multiple=True, shell_complete=complete_queues, help=_OF_QUEUE
)
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=20,
    show_default=True,
    help="Largest number of jobs to list.",
)
@click.argument("state", type=click.Choice(STATES), default="failed", metavar="[STATE]")
def jobs(
    url: str | None,
    namespace: str | None,
    as_json: bool,
    queues: tuple[str, ...],
    limit: int,
    state: str,
) -> None:
    """List failed jobs, or the jobs in another STATE.

    STATE is failed (with stopped jobs), queued, started, scheduled, deferred, finished or canceled.
    Ended jobs stand latest first, all other jobs in the order of their start. `rqd job ID` shows
    all of a job.
    """
    with backend(url, namespace) as there:
        check_queues([check_queue_name(name) for name in queues], there.views)
        names = queues or there.views.queue_names()
        total, found = list_jobs(there.views, state, names, limit)
        now_us = there.views.now_us()
    if as_json:
        click.echo(json.dumps(list(map(asdict, map(listed, found))), indent=2))
        return
    heads = ("job", "function", "queue", "status", "when", "attempt", "cause")
    rows = [_cells(one, state, now_us) for one in found]
    echo_table(f"{state.capitalize()} jobs", heads, rows, ("attempt", "status", "queue"))
    if total > len(found):
        click.echo(f"  and {total - len(found):,} more: --limit")


def _cells(record: JobRecord, state: str, now_us: int) -> tuple[object, ...]:
    at_us = instant_us(record, state)
    when = ""
    if at_us is not None:
        far = duration(abs(now_us - at_us) / 1e6)
        when = f"in {far}" if at_us > now_us else f"{far} ago"
    return (
        record.id, record.func_name, record.origin, str(record.status), when, record.attempt,
        record.cause,
    )  # fmt: skip


@click.command(name="retry", cls=Command)
@redis_options
@as_json
@click.option(
    "--queue", "-q", "queues", multiple=True, shell_complete=complete_queues, help=_OF_QUEUE
)
@click.option(
    "--function", metavar="NAME", help="Choose jobs of this function: shop.tasks.send, shop.*"
)
@click.option(
    "--cause", metavar="TEXT", help="Choose jobs by a text in their cause: SIGKILL, 'timed out'."
)
@click.option(
    "--since", metavar="TIME", help="Choose jobs that failed within this time: 90, 30m, 2d."
)
@click.option("--all", "all_", is_flag=True, help="Choose all failed jobs of all queues.")
@click.option("--dry-run", is_flag=True, help="Print the jobs without running them.")
@click.argument("job_ids", nargs=-1, metavar="[ID]...", shell_complete=complete_jobs)
def retry(
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

    Choose them by IDs, or by options; a job must match all options. Each job goes to the end of
    its queue, without new retries. Stopped jobs run again by their IDs, or with --cause stopped.
    """
    chosen = bool(queues or function or cause or since)
    if not chosen and not all_ and not job_ids:
        raise ConfigurationError(
            "choose jobs: IDs, --queue, --function, --cause, --since, or --all"
        )
    if job_ids and (chosen or all_ or dry_run):
        raise ConfigurationError("IDs choose the jobs: leave out the other options")
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
    _show_requeued({queue: ids for queue, ids in found.items() if ids}, dry_run, as_json)
    return 0


def _so_long_ago(there: Backend, since: str | None) -> datetime | None:
    """Returns the instant so long ago, by Redis' clock; None for no limit."""
    seconds = parse_duration_s(since, "--since")
    if seconds is None or seconds == -1:
        return None
    return instant(there.views.now_us()) - timedelta(seconds=seconds)


def _collect(queue: str, portions: Iterator[Requeued]) -> list[str]:
    """Returns the ids of all portions; shows the progress of a long search on a terminal."""
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


def _show_requeued(found: dict[str, list[str]], dry_run: bool, as_json: bool) -> None:
    if as_json:
        total = sum(map(len, found.values()))
        click.echo(json.dumps({"dry_run": dry_run, "jobs": total, "queues": found}, indent=2))
        return
    for queue, ids in found.items():
        if dry_run:
            for job_id in ids:
                say(job_id)
        jobs = "1 job" if len(ids) == 1 else f"{len(ids):,} jobs"
        outcome = f"{jobs} would run again" if dry_run else f"{jobs} put in the queue again"
        say(f"{queue}: {outcome}", err=dry_run)
    if not found:
        click.echo("no failed job matches", err=True)


def _by_id(there: Backend, job_ids: tuple[str, ...], as_json: bool) -> int:
    statuses: dict[str, str] = {}
    status = 0
    for typed in job_ids:
        job_id = typed
        try:
            job_id = whole_id(typed, there.views)
            statuses[job_id] = str(Job.fetch(job_id, there).requeue().get_status(refresh=False))
        except RqdError as error:
            if len(job_ids) == 1:
                raise
            status = EX_REFUSED
            statuses[job_id] = "refused"
            say(f"rqd: {error}", err=True)
        else:
            if not as_json:
                click.echo(f"{job_id}: requeued")  # it may run already, or have ended
    if as_json:
        click.echo(json.dumps({"jobs": statuses}, indent=2))
    return status


@click.command(name="logs", cls=Command)
@redis_options
@click.option("--follow", "-f", is_flag=True, help="Follow the output until the job's end.")
@click.argument("job_id", metavar="ID", shell_complete=complete_jobs)
def logs(url: str | None, namespace: str | None, follow: bool, job_id: str) -> None:
    """Print a job's output, from stdout and stderr.

    For an ended job: the last 64 KiB of its latest attempt. For a running job: its output so far.
    -f follows the output of all attempts until the job's end.
    """
    with backend(url, namespace, signs=True) as there:
        job_id = whole_id(job_id, there.views, only_to_look=True)
        job = Job.fetch(job_id, there)
        follower = Follower(there.store, there.views, job_id, there.keyring)
        if follow:
            pieces = follower.pieces()
        elif job.get_status(refresh=False) is JobStatus.STARTED:
            pieces = follower.so_far(_MASTER_S)
        else:
            pieces = follower.kept()
        printed = False
        for text in as_text(pieces):
            printed = printed or bool(text)
            click.echo(plain(text), nl=False)
        if not printed and sys.stdout.isatty():
            click.echo(f"no output of job {job_id} is kept", err=True)


@click.command(name="stack", cls=Command)
@redis_options
@as_json
@click.argument("job_id", metavar="ID", shell_complete=complete_jobs)
def stack(url: str | None, namespace: str | None, as_json: bool, job_id: str) -> None:
    """Show the stack of a running job, on any host.

    It has all threads of the job. The job goes on. C code that holds the GIL is no obstacle.
    """
    with backend(url, namespace, signs=True) as there:
        stack = live_stack(whole_id(job_id, there.views, only_to_look=True), there)
    if as_json:
        fields = asdict(stack) | {"threads": list(map(asdict, stack.threads))}
        click.echo(json.dumps(fields, indent=2))
        return
    head = f"attempt {stack.attempt} in {stack.worker}, pid {stack.pid} on {stack.host}"
    click.secho(one_line(head), bold=True)
    click.echo()
    click.echo(plain(stack.text))
