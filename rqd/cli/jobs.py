"""`rqd jobs`, `failures`, `logs` and `stack`: lists jobs and failures, shows output or a stack."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, replace

import click

from rqd.cli.completing import complete_jobs, complete_words
from rqd.cli.filtering import check_filter, filter_of, queues_option, ticking
from rqd.cli.grammar import Command
from rqd.cli.options import as_json, backend, redis_options
from rqd.cli.output import duration, echo_table, one_line, plain, say
from rqd.cli.suggest import whole_id
from rqd.client.control import live_stack
from rqd.client.job import Job
from rqd.model.filter import INDEX_OF_STATE, Filter
from rqd.model.numbers import iso
from rqd.model.records import JobStatus
from rqd.store.failure_groups import FailureGroup
from rqd.store.follow import Follower, as_text
from rqd.store.search import FailureGroups, Search
from rqd.store.walk import FoundJob, Page

# A long search says how far it is after so long.
_STEP_S = 0.5
# A master answers within some milliseconds, or it is busy with something else.
_MASTER_S = 2.0


@dataclass(frozen=True, slots=True)
class _Listed:
    """A job in the list. Instants are ISO 8601; None if not reached."""

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
    frame: str
    host: str


@click.command(name="jobs", cls=Command)
@redis_options
@as_json
@queues_option
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=20,
    show_default=True,
    help="Largest number of jobs to list.",
)
@click.option(
    "--after", "cursor", default="", metavar="CURSOR", help="List the jobs behind an earlier list."
)
@click.argument("words", nargs=-1, metavar="[STATE] [WORD:VALUE]...", shell_complete=complete_words)
def jobs(
    url: str | None,
    namespace: str | None,
    as_json: bool,
    queues: tuple[str, ...],
    limit: int,
    cursor: str,
    words: tuple[str, ...],
) -> None:
    """List failed jobs, or the jobs in another STATE.

    STATE is failed (with stopped jobs), stopped, queued, started, scheduled, deferred, finished or
    canceled. Only jobs that match all words are listed. The words are queue:, function:, cause:,
    type:, frame:, host:, since:, until: and id:. Ended jobs stand latest first, all other jobs in
    the order of their start. `rqd job ID` shows all of a job.
    """
    wanted = filter_of(_with_state(words), queues)
    with backend(url, namespace) as there:
        check_filter(wanted, there.views)
        found, page = _search(Search(there.store), wanted, cursor, limit)
        now_us = there.views.now_us()
    more = _more(wanted, page, len(found)) if page.cursor else ""
    if as_json:
        click.echo(json.dumps(list(map(asdict, map(_listed, found))), indent=2))
        if more:
            say(more, err=True)
        return
    heads = ("job", "function", "queue", "status", "when", "attempt", "cause")
    rows = [_cells(one, wanted.state, now_us) for one in found]
    title = f"{wanted.state.capitalize()} jobs"
    echo_table(title, heads, rows, ("attempt", "status", "queue"))
    if more:
        click.echo(f"  {more}")


def _with_state(words: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the words with a leading STATE as a word, too."""
    if not words or ":" in words[0]:
        return words
    if words[0] not in INDEX_OF_STATE:
        states = ", ".join(map(repr, INDEX_OF_STATE))
        raise click.UsageError(
            f"{words[0]!r} is not one of {states}, and no word such as queue:mail"
        )
    return (f"state:{words[0]}", *words[1:])


def _search(search: Search, wanted: Filter, cursor: str, limit: int) -> tuple[list[FoundJob], Page]:
    """Returns the next jobs, however long the search is, and the page that it ended with."""
    found: list[FoundJob] = []
    with ticking() as ticker:
        while True:
            page = search.page(wanted, cursor, limit - len(found), _STEP_S)
            found += page.jobs
            cursor = page.cursor
            if not cursor or len(found) >= limit:
                break
            ticker.show(f"{len(found):,} found, {page.looked_at:,} of {page.total:,} looked at")
    return found, page


def _more(wanted: Filter, page: Page, shown: int) -> str:
    """Says how a list goes on."""
    if replace(wanted, state="failed", queue=()) == Filter():
        return f"and {page.total - shown:,} more: --limit, or --after {page.cursor}"
    return (
        f"{page.looked_at:,} of {page.total:,} looked at: --limit, or --after {page.cursor}"
        " for more"
    )


def _instant_us(job: FoundJob, state: str) -> int | None:
    """Returns the instant that matters in this state (us): the end, the due time, the start."""
    if state == "scheduled":
        return job.due_us
    if state == "started":
        return job.started_us
    is_waiting = state in ("queued", "deferred")
    return job.enqueued_us or job.created_us if is_waiting else job.ended_us


def _cells(job: FoundJob, state: str, now_us: int) -> tuple[object, ...]:
    at_us = _instant_us(job, state)
    when = _when(at_us, now_us)
    return (job.id, job.function, job.queue, job.status, when, job.attempt, job.cause)


def _when(at_us: int | None, now_us: int) -> str:
    if at_us is None:
        return ""
    far = duration(abs(now_us - at_us) / 1e6)
    return f"in {far}" if at_us > now_us else f"{far} ago"


def _listed(job: FoundJob) -> _Listed:
    return _Listed(
        *(job.id, job.function, job.queue, job.status),
        enqueued=iso(job.enqueued_us),
        due=iso(job.due_us),
        started=iso(job.started_us),
        ended=iso(job.ended_us),
        attempt=job.attempt,
        cause=job.cause,
        frame=job.frame,
        host=job.host,
    )


@click.command(name="failures", cls=Command)
@redis_options
@as_json
@queues_option
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=20,
    show_default=True,
    help="Largest number of groups to list.",
)
@click.argument("words", nargs=-1, metavar="[WORD:VALUE]...", shell_complete=complete_words)
def failures(
    url: str | None,
    namespace: str | None,
    as_json: bool,
    queues: tuple[str, ...],
    limit: int,
    words: tuple[str, ...],
) -> None:
    """Group the failed jobs by cause, function and innermost frame.

    The words choose jobs as for `rqd jobs`. The group with the most jobs stands first. `rqd retry`
    and `rqd delete` act on a group by the words cause:, function: and frame:.
    """
    wanted = filter_of(words, queues)
    with backend(url, namespace) as there:
        check_filter(wanted, there.views)
        found = _group(Search(there.store), wanted)
        now_us = there.views.now_us()
    if as_json:
        click.echo(json.dumps(list(map(_group_facts, found.groups[:limit])), indent=2))
    else:
        heads = ("jobs", "cause", "function", "frame", "first", "last", "example", "its cause")
        rows = [_group_cells(one, now_us) for one in found.groups[:limit]]
        echo_table("Failures", heads, rows, ("its cause", "first", "example"))
    left = found.groups[limit:]
    if left or found.ungrouped:
        jobs_left = sum(one.jobs for one in left) + found.ungrouped
        groups = f"{len(left):,} more groups" if not found.ungrouped else "more groups"
        say(f"  and {groups}, of {jobs_left:,} jobs: --limit", err=as_json)


def _group(search: Search, wanted: Filter) -> FailureGroups:
    found = None
    with ticking() as ticker:
        while found is None or not found.is_whole:
            found = search.failure_groups(wanted, _STEP_S, found)
            ticker.show(f"{found.looked_at:,} of {found.total:,} looked at")
    return found


def _group_facts(group: FailureGroup) -> dict[str, object]:
    return {
        "cause": group.kind,
        "function": group.function,
        "frame": group.frame,
        "jobs": group.jobs,
        "first": iso(group.first_us),
        "last": iso(group.last_us),
        "example": group.example_id,
        "example_cause": group.example_cause,
    }


def _group_cells(group: FailureGroup, now_us: int) -> tuple[object, ...]:
    return (
        *(group.jobs, group.kind, group.function, group.frame),
        *(_when(group.first_us, now_us), _when(group.last_us, now_us)),
        *(group.example_id, group.example_cause),
    )


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
