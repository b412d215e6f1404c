"""`rqd top`: the running jobs of all hosts on the whole terminal, again and again."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from rqd.cli.activity import Activity, look, screen
from rqd.cli.grammar import Command
from rqd.cli.options import backend, redis_options
from rqd.cli.output import one_line
from rqd.model.errors import ConfigurationError
from rqd.store.connection import RedisGone
from rqd.store.views import Views

if TYPE_CHECKING:
    import curses

_ORDER_BY_KEY = {"t": "time", "c": "cpu", "m": "memory", "u": "queue"}
_QUITS = ("q", "Q", "\x1b")
_INSTEAD = "`rqd ps` prints the same once"


@click.command(name="top", cls=Command)
@redis_options
@click.option("--interval", "-i", type=float, default=2.0, metavar="SECONDS", help="[default: 2]")
def command(url: str | None, namespace: str | None, interval: float) -> None:
    """Watch the running jobs of all hosts.

    Keys: t, c, m, u sort by time, cpu, memory, queue; q quits. Cpu and memory are of the last
    heartbeat of a job's daemon, which comes every 5 seconds.
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
        found = look(there.views)  # a server that is not there is told on a terminal as it was
        try:
            curses.wrapper(_Top(there.views, found, interval).run)
        except curses.error as error:
            raise ConfigurationError(f"this terminal can't show it ({error}): {_INSTEAD}") from None
        except KeyboardInterrupt:
            return  # as q


class _Top:
    """What is shown, and how it is sorted."""

    def __init__(self, views: Views, found: list[Activity], interval_s: float) -> None:
        self._views = views
        self._found = found
        self._interval_s = interval_s
        self._note = ""
        self._by = "time"

    def run(self, window: curses.window) -> None:
        """Until a key quits. A key, and a new size of the terminal, are answered at once."""
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
            self._found, self._note = look(self._views), ""
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
