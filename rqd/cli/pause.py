"""`rqd pause` and `rqd resume`: of queues, of all queues, or of masters."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from rqd.cli.completing import complete_hosts, complete_masters, complete_queues
from rqd.cli.grammar import Command
from rqd.cli.masters import Targets, no_wait_option, pause_masters, resume_masters, timeout_option
from rqd.cli.options import as_json, backend, redis_options
from rqd.cli.output import note_former, say, with_unit
from rqd.cli.suggest import queues_to_name
from rqd.client.connection import Backend
from rqd.client.control import resume as resume_everything
from rqd.client.control import suspend, time_of_pause_s
from rqd.client.queue import Queue
from rqd.client.snapshot import Paused, pause_of, queue_rows
from rqd.model.errors import ConfigurationError
from rqd.model.numbers import iso
from rqd.store.keys import ALL_QUEUES

_master = click.option(
    "--master",
    metavar="NAME",
    shell_complete=complete_masters,
    help="Choose the master with this name.",
)
_hosts = click.option(
    "--host",
    "hosts",
    metavar="HOST",
    multiple=True,
    shell_complete=complete_hosts,
    help="Choose the masters on this host; can be given again.",
)
_all_masters = click.option(
    "--all-masters", is_flag=True, help="Choose all masters of the namespace."
)
_all = click.option("--all", "all_", is_flag=True, help="Choose all queues of the namespace.")
_queues = click.argument(
    "queues",
    nargs=-1,
    metavar="[QUEUE.. | --all | --master NAME]",
    shell_complete=complete_queues,
)


def _choosing_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `QUEUE..`, `--all`, and for masters `--master`, `--host` and `--all-masters`."""
    return _all(_master(_hosts(_all_masters(_queues(command)))))


@click.command(name="pause", cls=Command)
@redis_options
@as_json
@_choosing_options
@click.option("--for", "for_", metavar="TIME", help="Time until the queues resume: 30, 10m, 2h.")
@click.option("--now", is_flag=True, help="Kill the masters' running jobs and put them back.")
@no_wait_option
@timeout_option
def pause(
    url: str | None,
    namespace: str | None,
    as_json: bool,
    queues: tuple[str, ...],
    all_: bool,
    master: str | None,
    hosts: tuple[str, ...],
    all_masters: bool,
    for_: str | None,
    now: bool,
    no_wait: bool,
    timeout: str | None,
) -> int:
    """Pause queues or masters: no more of their jobs start.

    Running jobs go on, and new jobs are accepted. Jobs of a paused queue wait. Other masters start
    the jobs that a paused master does not. The pause lasts until `rqd resume`.

    With masters the command waits until they run no job. It exits with 1 if a master did not
    answer, or still ran jobs at the --timeout.
    """
    _check_choice("pause", queues, all_, master, hosts, all_masters)
    if master or hosts or all_masters:
        _refuse({"--for": for_ is not None}, "queues; a master is paused until it is resumed")
        targets = Targets(url, namespace, master, hosts)
        return pause_masters(targets, now, as_json, no_wait, timeout)
    _refuse({"--now": now, "--no-wait": no_wait, "--timeout": timeout is not None}, "masters")
    if all_:
        pause_all(url, namespace, as_json, for_)
    else:
        for_each(url, namespace, as_json, queues, lambda queue: pause_queue(queue, for_))
    return 0


@click.command(name="resume", cls=Command)
@redis_options
@as_json
@_choosing_options
@timeout_option
def resume(
    url: str | None,
    namespace: str | None,
    as_json: bool,
    queues: tuple[str, ...],
    all_: bool,
    master: str | None,
    hosts: tuple[str, ...],
    all_masters: bool,
    timeout: str | None,
) -> int:
    """Resume paused queues or masters.

    `--all` ends `rqd pause --all`. Queues and masters with a pause of their own stay paused.

    With masters it also ends a pause by a signal. It exits with 1 if a master did not answer.
    """
    if not (queues or all_ or master or hosts or all_masters):
        note_former("rqd resume", "rqd resume --all")
        all_ = True
    _check_choice("resume", queues, all_, master, hosts, all_masters)
    if master or hosts or all_masters:
        return resume_masters(Targets(url, namespace, master, hosts), as_json, timeout)
    _refuse({"--timeout": timeout is not None}, "masters")
    if all_:
        _resume_all(url, namespace, as_json)
    else:
        for_each(url, namespace, as_json, queues, resume_queue)
    return 0


def for_each(
    url: str | None,
    namespace: str | None,
    as_json: bool,
    names: Sequence[str],
    do: Callable[[Queue], str],
) -> None:
    """Calls `do` with each queue, and prints the words that it returns.

    Raises ConfigurationError for an invalid name, and for a master's, before the first call.
    """
    with backend(url, namespace) as there:
        queues = [Queue(name, there) for name in names]
        _refuse_masters(there, names)
        done = {queue.name: do(queue) for queue in queues}
        rows = queue_rows(there, list(done), there.views.paused())
    if as_json:
        click.echo(json.dumps([{"done": done[row["name"]], **row} for row in rows], indent=2))
        return
    for name, words in done.items():
        say(f"{name}: {words}")


def _refuse_masters(there: Backend, names: Sequence[str]) -> None:
    """Raises ConfigurationError for a live master's name that no queue has."""
    masters = {row["name"] for row in there.views.masters()}
    queues = queues_to_name(there.views)
    for name in names:
        if name in masters and name not in queues:
            raise ConfigurationError(
                f"there is no queue {name!r}, but a master of this name:"
                f" did you mean --master {name}?"
            )


def pause_queue(queue: Queue, for_: str | None) -> str:
    """Pauses a queue, for a time or without end; returns the words to print."""
    queue.pause(read_for(for_))
    unknown = "" if queue.name in queue.connection.views.queue_names() else "; it never had a job"
    return f"paused{_how_long(for_, 'it is resumed')}{unknown}"


def resume_queue(queue: Queue) -> str:
    """Resumes a queue; returns the words to print."""
    queue.resume()
    return f"resumed{', but all queues are paused (rqd resume --all)' if queue.is_paused else ''}"


def pause_all(url: str | None, namespace: str | None, as_json: bool, for_: str | None) -> None:
    """Pauses all queues, for a time or without end."""
    with backend(url, namespace) as there:
        suspend(there, read_for(for_))
        paused = pause_of(ALL_QUEUES, there.views.paused())
    done = f"paused{_how_long(for_, 'rqd resume --all')}"
    click.echo(json.dumps({"done": done, **paused}, indent=2) if as_json else f"all queues: {done}")


def _resume_all(url: str | None, namespace: str | None, as_json: bool) -> None:
    with backend(url, namespace) as there:
        resume_everything(there)
        paused = sorted(there.views.paused())
    if as_json:
        click.echo(json.dumps({"done": "resumed", "still_paused": paused}, indent=2))
    else:
        still = f"; still paused: {', '.join(paused)}" if paused else ""
        say(f"all queues: resumed{still}")


def _check_choice(
    verb: str,
    queues: Sequence[str],
    all_: bool,
    master: str | None,
    hosts: Sequence[str],
    all_masters: bool,
) -> None:
    """Raises UsageError unless queues, all of them, or masters are chosen."""
    choices = "QUEUE.., --all, or --master NAME (--host HOST, --all-masters)"
    by_name = bool(master or hosts)
    chosen_kinds = bool(queues) + all_ + (by_name or all_masters)
    if not chosen_kinds:
        raise click.UsageError(f"name queues or masters to {verb}: {choices}")
    if chosen_kinds > 1:
        raise click.UsageError(f"{verb} one kind at a time: {choices}")
    if by_name and all_masters:
        raise click.UsageError("--all-masters chooses every master: leave out --master and --host")


def _refuse(given: Mapping[str, bool], why: str) -> None:
    """Raises UsageError for options of the other kind."""
    for option, is_given in given.items():
        if is_given:
            raise click.UsageError(f"{option} is for {why}")


def _how_long(for_: str | None, until: str) -> str:
    return f" for {with_unit(for_)}" if for_ else f", until {until}"


def state_of(row: Mapping[str, Any]) -> str:
    """Formats the result of `pause_of`: `open`, `paused`, `paused until 2030-12-24T18:00:00Z`."""
    return _with_end("paused", row["paused_until"]) if row["paused"] else "open"


def why_not_started(name: str, paused: Paused) -> str | None:
    """Returns the pause that keeps the queue's jobs waiting, and its remedy; None if it is open."""
    if ALL_QUEUES in paused:
        state = _with_end("suspended", iso(paused[ALL_QUEUES]))
        return f"all work is {state} (`rqd resume --all` ends that)"
    if name in paused:
        state = _with_end("paused", iso(paused[name]))
        return f"queue {name} is {state} (`rqd resume {name}` ends that)"
    return None


def read_for(text: str | None) -> float | None:
    """Returns the seconds of `--for`; None for no end. Raises ConfigurationError."""
    if text is not None and text.strip().startswith("-"):
        raise ConfigurationError(
            f"--for {text}: write a time, 10m; without --for it lasts until it is resumed"
        )
    return time_of_pause_s(text, "--for")


def _with_end(state: str, until: str | None) -> str:
    return f"{state} until {until[:19]}Z" if until else state
