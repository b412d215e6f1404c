"""`rqd pause` and `rqd resume`: of queues, of all queues, or of masters."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from rqd.cli.completing import complete_hosts, complete_masters, complete_queues
from rqd.cli.grammar import Command
from rqd.cli.masters import (
    Reply,
    Row,
    as_of_now,
    ask_masters,
    backend_or,
    close,
    no_wait_option,
    read_timeout,
    select_masters,
    show,
    timeout_option,
    wait_for,
)
from rqd.cli.options import as_json, backend, redis_options
from rqd.cli.output import say, with_unit
from rqd.cli.pauses import pause_of, queue_rows, read_for
from rqd.connection import Backend
from rqd.queue import Queue
from rqd.store.asking import ANSWER_WITHIN_S
from rqd.store.keys import ALL_QUEUES
from rqd.suspension import resume as resume_everything
from rqd.suspension import suspend

_master = click.option(
    "--master", metavar="NAME", shell_complete=complete_masters, help="The master of this name."
)
_hosts = click.option(
    "--host",
    "hosts",
    metavar="HOST",
    multiple=True,
    shell_complete=complete_hosts,
    help="The masters on this host; can be given again.",
)
_all_masters = click.option("--all-masters", is_flag=True, help="All masters of the namespace.")
_all = click.option("--all", "all_", is_flag=True, help="All queues of the namespace.")
_queues = click.argument(
    "queues",
    nargs=-1,
    metavar="[QUEUE.. | --all | --master NAME]",
    shell_complete=complete_queues,
)


def _choosing_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`QUEUE..`, `--all`, or the masters of `--master`, `--host` and `--all-masters`."""
    return _all(_master(_hosts(_all_masters(_queues(command)))))


@click.command(name="pause", cls=Command)
@redis_options
@as_json
@_choosing_options
@click.option("--for", "for_", metavar="TIME", help="Queues: end by itself then: 30, 10m, 2h.")
@click.option("--now", is_flag=True, help="Masters: kill running jobs and put them back.")
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
    """Start no jobs of queues, or in masters.

    Running jobs go on, and new ones are accepted. Jobs of a paused queue wait; those of a paused
    master are started by other masters. It lasts until `rqd resume`.

    With masters the command waits until they run no job. It exits with 1 if one did not answer, or
    was not free of jobs in time.
    """
    _check_choice("pause", queues, all_, master, hosts, all_masters)
    if master or hosts or all_masters:
        _refuse({"--for": for_ is not None}, "queues; a master is paused until it is resumed")
        return pause_masters(url, namespace, master, hosts, now, as_json, no_wait, timeout)
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
    """Start jobs of paused queues or masters again.

    `--all` ends `rqd pause --all`: queues and masters that were paused by themselves stay so.

    With masters it also ends a pause by a signal. It exits with 1 if one did not answer.
    """
    if not (queues or all_ or master or hosts or all_masters):
        note_former("rqd resume", "rqd resume --all")
        all_ = True
    _check_choice("resume", queues, all_, master, hosts, all_masters)
    if master or hosts or all_masters:
        return resume_masters(url, namespace, master, hosts, as_json, timeout)
    _refuse({"--timeout": timeout is not None}, "masters")
    if all_:
        _resume_all(url, namespace, as_json)
    else:
        for_each(url, namespace, as_json, queues, resume_queue)
    return 0


def note_former(was: str, now: str) -> None:
    """Says on standard error how a command is spelt that was typed as it was before."""
    say(f"rqd: `{was}` is now `{now}`: the old spelling goes in the next version", err=True)


def for_each(
    url: str | None,
    namespace: str | None,
    as_json: bool,
    names: Sequence[str],
    do: Callable[[Queue], str],
) -> None:
    """Does something with queues, and prints the words that `do` returns. Raises ConfigurationError
    for a wrong name before the first.
    """
    with backend(url, namespace) as there:
        done = {queue.name: do(queue) for queue in [Queue(name, there) for name in names]}
        rows = queue_rows(there, list(done), there.views.paused())
    if as_json:
        click.echo(json.dumps([{"done": done[row["name"]], **row} for row in rows], indent=2))
        return
    for name, words in done.items():
        say(f"{name}: {words}")


def pause_queue(queue: Queue, for_: str | None) -> str:
    """Pauses a queue, for a time; returns the words for it."""
    queue.pause(read_for(for_))
    unknown = "" if queue.name in queue.connection.views.queue_names() else "; it never had a job"
    return f"paused{_how_long(for_, 'it is resumed')}{unknown}"


def resume_queue(queue: Queue) -> str:
    """Resumes a queue; returns the words for it."""
    queue.resume()
    return f"resumed{', but all queues are paused (rqd resume --all)' if queue.is_paused else ''}"


def pause_all(url: str | None, namespace: str | None, as_json: bool, for_: str | None) -> None:
    """Pauses all queues, for a time."""
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


def pause_masters(
    url: str | None,
    namespace: str | None,
    name: str | None,
    hosts: Sequence[str],
    now: bool,
    as_json: bool,
    no_wait: bool,
    timeout: str | None,
) -> int:
    """Pauses masters, and waits until they run no job; the exit status."""
    timeout_s = read_timeout(timeout)
    instead = "" if now else "kill -USR2 PID"
    with backend_or(instead, url, namespace) as there:
        rows = select_masters(there, name, hosts)
        replies = ask_masters(there, rows, "pause", timeout_s, now=now)
        if not as_json:
            show(replies)
        if not no_wait:
            awaited = [one for one in replies if one.is_well]
            wait_for(awaited, _Watch(there, rows).look, as_json, timeout_s)
        return close(replies, as_json)


def resume_masters(
    url: str | None,
    namespace: str | None,
    name: str | None,
    hosts: Sequence[str],
    as_json: bool,
    timeout: str | None,
) -> int:
    """Resumes masters; the exit status."""
    with backend_or("kill -CONT PID", url, namespace) as there:
        rows = select_masters(there, name, hosts)
        replies = ask_masters(there, rows, "resume", read_timeout(timeout))
        if not as_json:
            show(replies)
        return close(replies, as_json)


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
        raise click.UsageError(f"say what to {verb}: {choices}")
    if chosen_kinds > 1:
        raise click.UsageError(f"{verb} one kind at a time: {choices}")
    if by_name and all_masters:
        raise click.UsageError("--all-masters are all: leave out --master and --host")


def _refuse(given: Mapping[str, bool], why: str) -> None:
    """Raises UsageError for options that are of the other kind."""
    for option, is_given in given.items():
        if is_given:
            raise click.UsageError(f"{option} is of {why}")


def _how_long(for_: str | None, until: str) -> str:
    return f" for {with_unit(for_)}" if for_ else f", until {until}"


class _Watch:
    """Sees by the rows how far masters are: a master's own says that it is paused from the next
    beat on, its workers' change with each settlement.
    """

    def __init__(self, there: Backend, asked: Sequence[Row]) -> None:
        self._there = there
        self._asked = asked
        self._has_paused: set[str] = set()
        # One that was resumed before it was seen paused has had its beat by then.
        self._all_paused_by = time.monotonic() + ANSWER_WITHIN_S

    def look(self, left: Sequence[Reply]) -> int:
        """Notes what became of those that are left; how many jobs they run."""
        rows = as_of_now(self._there, self._asked)
        running = dict.fromkeys((one.master for one in left), 0)
        for worker in self._there.views.workers(
            [rows[one.master] for one in left if one.master in rows]
        ):
            running[worker["master"]] += worker.get("state") == "busy"
        for one in left:
            row = rows.get(one.master, {"state": "gone"})
            self._note(one, row.get("state", ""), running[one.master])
        return sum(running.values())

    def _note(self, one: Reply, state: str, running: int) -> None:
        has_paused = one.master in self._has_paused or time.monotonic() > self._all_paused_by
        if state in ("gone", "stopping"):
            one.end(state)
        elif state == "paused":
            self._has_paused.add(one.master)
            if not running:
                one.end("drained")
        elif state != "starting" and has_paused:
            one.end("resumed by somebody", is_well=False)
