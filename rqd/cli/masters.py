"""Sends commands to masters, on any host, and shows their answers."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click

from rqd.cli.completing import complete_hosts, complete_masters
from rqd.cli.options import as_json, backend
from rqd.cli.output import echo_table, note_former, say
from rqd.cli.suggest import NoSuchNameError, did_you_mean
from rqd.client.connection import Backend
from rqd.client.masters import Reply, Row, as_of_now, ask_masters
from rqd.model.errors import ConfigurationError, RqdError, ServerUnavailableError
from rqd.model.names import check_name, parse_duration_s
from rqd.model.words import counted
from rqd.store.embedded import is_embedded
from rqd.store.live import ANSWER_WITHIN_S
from rqd.store.urls import default_url, hide_password

_POLL_S = 0.05


class _MasterOption(click.Option):
    """`--master NAME`, also under its former spelling `--name`, which help does not list."""

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Adds the former spelling, too, with a place of its own among what was typed."""
        super().add_to_parser(parser, ctx)
        parser.add_option(obj=self, opts=["--name"], dest="name", action="store", nargs=1)

    def handle_parse_result(
        self, ctx: click.Context, opts: Mapping[str, Any], args: list[str]
    ) -> tuple[Any, list[str]]:
        """Uses the former spelling's value, and names the new spelling."""
        if "name" in opts:
            opts = {"master": opts["name"], **opts}
            if not ctx.command.hidden:  # a former command names its new spelling itself
                path = ctx.command_path
                note_former(f"{path} --name {opts['name']}", f"{path} --master {opts['name']}")
        return super().handle_parse_result(ctx, opts, args)


_master = click.option(
    "--master",
    cls=_MasterOption,
    metavar="NAME",
    shell_complete=complete_masters,
    help="Choose the master with this name.  [default: all]",
)
_host = click.option(
    "--host",
    "hosts",
    metavar="HOST",
    multiple=True,
    shell_complete=complete_hosts,
    help="Choose the masters on this host; can be given again.  [default: all]",
)
no_wait_option = click.option("--no-wait", is_flag=True, help="Don't wait for the end of the work.")
timeout_option = click.option(
    "--timeout", metavar="TIME", help="Longest time to wait: 30, 10m.  [default: no limit]"
)


def asking_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--master` and `--host`, which choose masters, and `--json`."""
    return _master(_host(as_json(command)))


@contextmanager
def backend_or(instead: str, url: str | None, namespace: str | None) -> Iterator[Backend]:
    """Opens a `backend`; if Redis is unavailable, its error also names the command `instead`.

    An empty `instead` means that no other command does the same.
    """
    try:
        with backend(url, namespace, signs=True) as there:
            yield there
    except ServerUnavailableError as error:
        if not instead or is_embedded(url or default_url()):  # an embedded server ends with it
            raise
        message = f"{error} (without Redis, on a daemon's host: {instead})"
        raise ServerUnavailableError(message) from error


def select_masters(there: Backend, name: str | None, hosts: Sequence[str]) -> list[Row]:
    """Returns the rows of all live masters, or of the master with this name, or of these hosts.

    Raises NoSuchNameError for a name or host without a live master, RqdError if none is alive.
    """
    if name is not None:
        check_name(name, "master name")
    rows = there.views.masters()
    if not rows and name is None:
        where = f"in namespace {there.namespace} at {hide_password(there.url)}"
        raise RqdError(f"no master is running {where}")
    if name is not None:
        if name not in (known := [row["name"] for row in rows]):
            near = did_you_mean(name, known) or "; rqd info lists them"
            raise NoSuchNameError(f"no master named {name!r} is alive{near}")
        rows = [row for row in rows if row["name"] == name]
    known = sorted({row.get("host", "") for row in rows})
    for host in hosts:
        if host not in known:
            near = did_you_mean(host, known) or "; rqd info lists them"
            which = f" named {name!r}" if name is not None else ""
            raise NoSuchNameError(f"no master{which} is alive on host {host!r}{near}")
    return [row for row in rows if not hosts or row.get("host") in hosts]


def serving(there: Backend, queue: str) -> list[str]:
    """Returns the names of the masters that serve this queue."""
    rows = there.views.masters()
    return [row["name"] for row in rows if queue in row.get("queues", "").split(",")]


def show(replies: Sequence[Reply]) -> None:
    """Prints the table of replies."""
    rows = [(one.master, one.host, one.words) for one in replies]
    echo_table("Masters", ("master", "host", "answer"), rows)


def close(replies: Sequence[Reply], as_json: bool) -> int:
    """Returns the exit status: 1 unless all are well. With JSON, prints the replies first."""
    if as_json:
        rows = [
            {"master": one.master, "host": one.host, "answer": one.answer, "became": one.outcome}
            for one in replies
        ]
        click.echo(json.dumps(rows, indent=2))
    return 0 if all(one.is_well for one in replies) else 1


def read_timeout(timeout: str | None) -> float | None:
    """Returns the seconds; None for no limit. Raises ConfigurationError."""
    timeout_s = parse_duration_s(timeout, "--timeout")
    if timeout_s is not None and timeout_s <= 0:
        raise ConfigurationError(f"--timeout {timeout}: write a time above 0, 10m")
    return timeout_s


def wait_for(
    replies: Sequence[Reply],
    note_outcomes: Callable[[Sequence[Reply]], int],
    quiet: bool,
    timeout_s: float | None,
) -> None:
    """Calls `note_outcomes` until each reply has an outcome, and prints the outcomes.

    It returns the number of jobs that still run. After `timeout_s` the rest ends as not done in
    time; None means no limit.
    """
    give_up_at = time.monotonic() + (timeout_s if timeout_s is not None else float("inf"))
    line = _Line()
    left = list(replies)
    while left:
        running = note_outcomes(left)
        for one in [one for one in left if one.outcome]:
            line.clear()
            if not quiet:
                say(f"{one.master}: {one.outcome}")
        left = [one for one in left if not one.outcome]
        if left and time.monotonic() >= give_up_at:
            line.clear()
            for one in left:
                one.end("not done in time", is_well=False)
                say(f"{one.master}: {one.outcome}", err=quiet)
            return
        if left:
            line.show(
                f"waiting for {counted(len(left), 'master')}, {counted(running, 'job')} running"
            )
            time.sleep(_POLL_S)  # no event to wait for: a dead master's row just expires
    line.clear()


@dataclass(frozen=True, slots=True)
class Targets:
    """The masters that a command is for: all of a namespace, or by name and by host."""

    url: str | None
    namespace: str | None
    master: str | None
    hosts: Sequence[str]


def pause_masters(
    targets: Targets, now: bool, as_json: bool, no_wait: bool, timeout: str | None
) -> int:
    """Pauses masters, and waits until they run no job; returns the exit status."""
    timeout_s = read_timeout(timeout)
    instead = "" if now else "kill -USR2 PID"
    with backend_or(instead, targets.url, targets.namespace) as there:
        rows = select_masters(there, targets.master, targets.hosts)
        replies = ask_masters(there, rows, "pause", timeout_s, now=now)
        if not as_json:
            show(replies)
        if not no_wait:
            awaited = [one for one in replies if one.is_well]
            wait_for(awaited, _Watch(there, rows).note_outcomes, as_json, timeout_s)
        return close(replies, as_json)


def resume_masters(targets: Targets, as_json: bool, timeout: str | None) -> int:
    """Resumes masters; returns the exit status."""
    with backend_or("kill -CONT PID", targets.url, targets.namespace) as there:
        rows = select_masters(there, targets.master, targets.hosts)
        replies = ask_masters(there, rows, "resume", read_timeout(timeout))
        if not as_json:
            show(replies)
        return close(replies, as_json)


class _Watch:
    """Follows masters by their rows until they are paused and run no job.

    A master's own row shows the pause from its next heartbeat on; its workers' rows change with
    each settlement. A row that still shows it once the workers' were read shows that they were its
    own: with a master that dies, its workers' rows go, too.
    """

    def __init__(self, there: Backend, asked: Sequence[Row]) -> None:
        self._there = there
        self._asked = asked
        self._has_paused: set[str] = set()
        # A master that was resumed before it was seen paused has had its heartbeat by then.
        self._all_paused_by = time.monotonic() + ANSWER_WITHIN_S

    def note_outcomes(self, left: Sequence[Reply]) -> int:
        """Notes the outcomes of the masters that are left; returns the number of their jobs."""
        rows = as_of_now(self._there, self._asked)
        running = dict.fromkeys((one.master for one in left), 0)
        for worker in self._there.views.workers(
            [rows[one.master] for one in left if one.master in rows]
        ):
            running[worker["master"]] += worker.get("state") == "busy"
        rows_after = as_of_now(self._there, self._asked)
        for one in left:
            row = rows_after.get(one.master, {"state": "gone"})
            was_paused = rows.get(one.master, {}).get("state") == "paused"
            self._note(one, row.get("state", ""), was_paused and not running[one.master])
        return sum(running.values())

    def _note(self, one: Reply, state: str, was_drained: bool) -> None:
        has_paused = one.master in self._has_paused or time.monotonic() > self._all_paused_by
        if state in ("gone", "stopping"):
            one.end(state)
        elif state == "paused":
            self._has_paused.add(one.master)
            if was_drained:
                one.end("drained")
        elif state != "starting" and has_paused:
            one.end("resumed meanwhile", is_well=False)


class _Line:
    """A line on a terminal that is written over; writes nothing in a pipe."""

    def __init__(self) -> None:
        self._shown = ""

    def show(self, text: str) -> None:
        if text != self._shown and sys.stderr.isatty():
            click.echo(f"\r{text:<{len(self._shown)}}", err=True, nl=False)
            self._shown = text

    def clear(self) -> None:
        if self._shown:
            click.echo(f"\r{'':<{len(self._shown)}}\r", err=True, nl=False)
            self._shown = ""
