"""`rqd retry`, `delete` and `cancel`: changes jobs by their ids, or all that match a filter."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import click

from rqd.cli.completing import complete_jobs_or_words
from rqd.cli.filtering import check_filter, filter_of, queues_option, ticking
from rqd.cli.grammar import Command
from rqd.cli.options import as_json, backend, redis_options
from rqd.cli.output import say
from rqd.cli.suggest import whole_id
from rqd.client.connection import Backend
from rqd.client.job import Job
from rqd.model.errors import ConfigurationError, RqdError
from rqd.model.filter import Filter
from rqd.store.bulk import CANCEL, DELETE, RETRY, Bulk, Progress

EX_REFUSED = 1


@dataclass(frozen=True, slots=True)
class _Act:
    """An act in words, and on a single job."""

    name: str
    state: str  # whose jobs it changes if no state is typed
    done: str
    would_be: str
    by_id: Callable[[Job], object]


_RETRY = _Act(RETRY, "failed", "put in the queue again", "would run again", Job.requeue)
_DELETE = _Act(DELETE, "failed", "deleted", "would be deleted", Job.delete)
_CANCEL = _Act(CANCEL, "queued", "canceled", "would be canceled", Job.cancel)

_dry_run = click.option("--dry-run", is_flag=True, help="Print the jobs without changing them.")
_yes = click.option("--yes", is_flag=True, help="Do not ask before the first job is changed.")
_words = click.argument(
    "words",
    nargs=-1,
    metavar="[ID]... [WORD:VALUE]...",
    shell_complete=complete_jobs_or_words,
)


@click.command(name="retry", cls=Command)
@redis_options
@as_json
@queues_option
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
@_dry_run
@_words
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
    words: tuple[str, ...],
) -> int:
    """Run failed jobs again.

    Choose them by IDs, or by words as for `rqd jobs`; a job must match all words and options. Each
    job goes to the end of its queue, without new retries. Stopped jobs run again by their IDs, or
    with cause:stopped.
    """
    options = {"function": function, "cause": cause, "since": since}
    wanted = _chosen(words, queues, all_, dry_run, options)
    with backend(url, namespace) as there:
        if wanted is None:
            return _by_id(_RETRY, there, words, as_json)
        return _by_filter(_RETRY, there, wanted, dry_run, as_json)


@click.command(name="delete", cls=Command)
@redis_options
@as_json
@queues_option
@click.option("--all", "all_", is_flag=True, help="Choose all failed jobs of all queues.")
@_dry_run
@_yes
@_words
def delete(
    url: str | None,
    namespace: str | None,
    as_json: bool,
    queues: tuple[str, ...],
    all_: bool,
    dry_run: bool,
    yes: bool,
    words: tuple[str, ...],
) -> int:
    """Delete failed jobs, or jobs in another state.

    Their records go, too. Choose them by IDs, or by words as for `rqd jobs`; state: chooses another
    state than failed. A running job is deleted only by its ID. Jobs that wait for a deleted job are
    canceled.
    """
    wanted = _chosen(words, queues, all_, dry_run or yes, {})
    with backend(url, namespace) as there:
        if wanted is None:
            return _by_id(_DELETE, there, words, as_json)
        _ask(_DELETE, there, wanted, dry_run or yes)
        return _by_filter(_DELETE, there, wanted, dry_run, as_json)


@click.command(name="cancel", cls=Command)
@redis_options
@as_json
@queues_option
@click.option("--all", "all_", is_flag=True, help="Choose all queued jobs of all queues.")
@_dry_run
@_yes
@_words
def cancel(
    url: str | None,
    namespace: str | None,
    as_json: bool,
    queues: tuple[str, ...],
    all_: bool,
    dry_run: bool,
    yes: bool,
    words: tuple[str, ...],
) -> int:
    """Cancel queued, scheduled or deferred jobs.

    They will not run; their records stay. Choose them by IDs, or by words as for `rqd jobs`;
    state: chooses scheduled or deferred jobs.
    """
    wanted = _chosen(words, queues, all_, dry_run or yes, {}, "queued")
    with backend(url, namespace) as there:
        if wanted is None:
            return _by_id(_CANCEL, there, words, as_json)
        _ask(_CANCEL, there, wanted, dry_run or yes)
        return _by_filter(_CANCEL, there, wanted, dry_run, as_json)


def _chosen(
    words: Sequence[str],
    queues: Sequence[str],
    is_all: bool,
    has_flags: bool,
    options: dict[str, str | None],
    state: str = "failed",
) -> Filter | None:
    """Returns the filter that was typed; None for ids."""
    job_ids = [word for word in words if ":" not in word]
    is_filtered = bool(queues or any(options.values()) or len(words) > len(job_ids))
    if job_ids and (is_filtered or is_all or has_flags):
        raise ConfigurationError("IDs choose the jobs: leave out the words and the other options")
    if job_ids:
        return None
    if not is_filtered and not is_all:
        flags = "".join(f"--{name}, " for name in options)
        raise ConfigurationError(
            f"choose jobs: IDs, words such as cause:crashed, --queue, {flags}or --all"
        )
    has_state = any(word.startswith("state:") for word in words)
    return filter_of(words, queues, **options, state=None if has_state else state)


def _ask(act: _Act, there: Backend, wanted: Filter, is_sure: bool) -> None:
    """Asks before many jobs are changed. Raises ConfigurationError where nobody can answer."""
    if is_sure:
        return
    check_filter(wanted, there.views)
    count = Bulk(there.store).count(act.name, wanted).jobs
    jobs = "1 job" if count == 1 else f"{count:,} jobs"
    if not sys.stdin.isatty():
        raise ConfigurationError(f"{jobs} {act.would_be}: write --yes, or --dry-run to list them")
    click.confirm(f"{jobs} {act.would_be}: go on?", abort=True, err=True)


def _by_filter(act: _Act, there: Backend, wanted: Filter, dry_run: bool, as_json: bool) -> int:
    check_filter(wanted, there.views)
    found: dict[str, list[str]] = {}
    progress = Progress()
    with ticking() as ticker:
        try:
            for progress in Bulk(there.store).steps(act.name, wanted, looks_only=dry_run):
                for job in progress.jobs:
                    found.setdefault(job.queue, []).append(job.id)
                ticker.show(_so_far(progress))
        except KeyboardInterrupt:
            ticker.clear()
            say(f"rqd: stopped: {_so_far(progress)}; the same command goes on", err=True)
            raise
    (_print_json if as_json else _print_lines)(act, wanted, found, progress, dry_run)
    return EX_REFUSED if progress.refused else 0


def _so_far(progress: Progress) -> str:
    return f"{progress.done:,} done, {progress.looked_at:,} of {progress.total:,} looked at"


def _print_json(
    _act: _Act, _wanted: Filter, found: dict[str, list[str]], progress: Progress, dry_run: bool
) -> None:
    facts = {
        "dry_run": dry_run,
        "jobs": progress.done,
        "changed": progress.changed,
        "refused": dict(progress.refused),
        "queues": found,
    }
    click.echo(json.dumps(facts, indent=2))


def _print_lines(
    act: _Act, wanted: Filter, found: dict[str, list[str]], progress: Progress, dry_run: bool
) -> None:
    for queue, ids in sorted(found.items()):
        if dry_run:
            for job_id in ids:
                say(job_id)
        jobs = "1 job" if len(ids) == 1 else f"{len(ids):,} jobs"
        say(f"{queue}: {jobs} {act.would_be if dry_run else act.done}", err=dry_run)
    for line in _left_out(progress):
        say(line, err=True)
    if not found and not progress.refused:
        click.echo(f"no {wanted.state} job matches", err=True)


def _left_out(progress: Progress) -> Iterator[str]:
    if progress.changed:
        yield f"left alone, as others changed them meanwhile: {progress.changed:,}"
    for reason, count in progress.refused.items():
        yield f"refused: {count:,}: {reason}"


def _by_id(act: _Act, there: Backend, job_ids: Sequence[str], as_json: bool) -> int:
    statuses: dict[str, str] = {}
    status = 0
    for typed in job_ids:
        job_id = typed
        try:
            job_id = whole_id(typed, there.views)
            act.by_id(Job.fetch(job_id, there))
        except RqdError as error:
            if len(job_ids) == 1:
                raise
            status = EX_REFUSED
            statuses[job_id] = "refused"
            say(f"rqd: {error}", err=True)
        else:
            statuses[job_id] = _BECOMES[act.name]
            if not as_json:
                click.echo(f"{job_id}: {_SAID[act.name]}")
    if as_json:
        click.echo(json.dumps({"jobs": statuses}, indent=2))
    return status


# A job that was requeued may run already, or have ended.
_BECOMES = {RETRY: "queued", DELETE: "deleted", CANCEL: "canceled"}
_SAID = _BECOMES | {RETRY: "requeued"}
