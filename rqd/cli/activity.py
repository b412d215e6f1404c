"""`rqd ps` and `rqd top`: the running jobs of all hosts."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from rqd.cli.grammar import Command
from rqd.cli.options import as_json, backend, redis_options
from rqd.cli.output import duration, echo_table, fitted, mebibytes, one_line
from rqd.client.activity import ORDERS, Activity, ordered, running_jobs
from rqd.model.errors import ConfigurationError
from rqd.model.words import counted
from rqd.store.connection import RedisGone
from rqd.store.queries import Queries

if TYPE_CHECKING:
    import curses

HEADS = (
    "job",
    "function",
    "queue",
    "worker",
    "host",
    "pid",
    "for",
    "cpu %",
    "memory MiB",
    "progress",
)
# The columns that a narrow terminal leaves out, in this order.
LEAST = ("progress", "pid", "host", "queue", "worker")
_MOST_PROGRESS_CHARS = 40
_ORDER_BY_KEY = {"t": "time", "c": "cpu", "m": "memory", "u": "queue"}
_QUITS = ("q", "Q", "\x1b")
_INTERVAL = "Time from each look to the next.  [default: 2]"
_INSTEAD = "`rqd ps` prints the same once"


def cells(one: Activity) -> tuple[object, ...]:
    """Returns the cells under HEADS."""
    progress = "" if one.progress is None else f"{one.progress:.0%} {one.progress_message}".rstrip()
    memory = None if one.memory_bytes is None else mebibytes(one.memory_bytes)
    cpu = None if one.cpu_percent is None else round(one.cpu_percent)
    return (
        one.id, one.function, one.queue, one.worker, one.host, one.pid or None, duration(one.for_s),
        cpu, memory, progress[:_MOST_PROGRESS_CHARS],
    )  # fmt: skip


def screen(
    found: Sequence[Activity], by: str, width: int, height: int, note: str = ""
) -> list[str]:
    """Returns a terminal's lines: a title, a table as far as there is room, the keys."""
    hosts = len({one.host for one in found})
    title = f"rqd top: {counted(len(found), 'job')} on {counted(hosts, 'host')}, by {by}"
    keys = note or "t time  c cpu  m memory  u queue  q quit"
    room = max(0, height - 3)
    rows = [cells(one) for one in ordered(found, by)[:room]]
    table, left_out = fitted(HEADS, rows, LEAST, width)
    if left_out and not note:
        keys += f"  cut: {', '.join(left_out)}"  # all of them are just 79 characters
    lines = [title, *table, *[""] * (room - len(rows)), keys]
    return [line[:width] for line in lines[:height]]


@click.command(name="ps", cls=Command)
@redis_options
@as_json
@click.option(
    "--sort", type=click.Choice(ORDERS), default="time", help="Order of the list.  [default: time]"
)
def ps(url: str | None, namespace: str | None, as_json: bool, sort: str) -> None:
    """List the running jobs of all hosts.

    Daemons measure cpu and memory with each heartbeat, every 5 seconds.
    """
    with backend(url, namespace) as there:
        found = ordered(running_jobs(there.views), sort)
    if as_json:
        click.echo(json.dumps(list(map(asdict, found)), indent=2))
    else:
        echo_table("Running jobs", HEADS, list(map(cells, found)), LEAST)


@click.command(name="top", cls=Command)
@redis_options
@click.option("--interval", "-i", type=float, default=2.0, metavar="SECONDS", help=_INTERVAL)
def top(url: str | None, namespace: str | None, interval: float) -> None:
    """Watch the running jobs of all hosts.

    Keys: t, c, m, u sort by time, cpu, memory, queue; q quits. Daemons measure cpu and memory
    with each heartbeat, every 5 seconds.
    """
    if not 0.1 <= interval <= 3600:
        raise ConfigurationError(f"--interval {interval:g}: write seconds, from 0.1 to 3600")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigurationError(f"rqd top needs a terminal: {_INSTEAD}")
    try:
        import curses  # noqa: PLC0415 - some builds of Python have none
    except ImportError:
        raise ConfigurationError(f"this Python was built without curses: {_INSTEAD}") from None
    with backend(url, namespace) as there:
        found = running_jobs(there.views)  # fails before the terminal changes
        try:
            curses.wrapper(_Top(there.views, found, interval).run)
        except curses.error as error:
            raise ConfigurationError(f"this terminal can't show it ({error}): {_INSTEAD}") from None
        except KeyboardInterrupt:
            return  # as q


class _Top:
    """The screen of `rqd top`: its jobs and their order."""

    def __init__(self, views: Queries, found: list[Activity], interval_s: float) -> None:
        self._views = views
        self._found = found
        self._interval_s = interval_s
        self._note = ""
        self._by = "time"

    def run(self, window: curses.window) -> None:
        """Shows the jobs until a key quits. Answers a key, and a new terminal size, at once."""
        import curses  # noqa: PLC0415 - it is there: see above

        try:
            curses.curs_set(0)
        except curses.error:
            pass  # this terminal can't hide it
        window.timeout(int(self._interval_s * 1000))
        while True:
            self._draw(window)
            pressed = window.getch()
            key = chr(pressed) if 0 <= pressed < 256 else ""
            if key in _QUITS:
                return
            self._by = _ORDER_BY_KEY.get(key, self._by)
            if pressed == -1:
                self._refresh()

    def _refresh(self) -> None:
        try:
            self._found, self._note = running_jobs(self._views), ""
        except RedisGone as error:
            self._note = one_line(f"Redis is away, trying again: {error}")

    def _draw(self, window: curses.window) -> None:
        import curses  # noqa: PLC0415 - as in run

        height, width = window.getmaxyx()
        # The terminal's last column: writing there would scroll its last line.
        lines = screen(self._found, self._by, width - 1, height, self._note)
        styles = {0: curses.A_BOLD, 1: curses.A_REVERSE, len(lines) - 1: curses.A_DIM}
        window.erase()
        for number, line in enumerate(lines):
            try:
                window.addstr(number, 0, line, styles.get(number, curses.A_NORMAL))
            except curses.error:
                continue  # it has become smaller meanwhile
        window.refresh()
