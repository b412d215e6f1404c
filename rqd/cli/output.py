"""Prints tables, fields and lines; formats instants and lengths of time.

On a terminal tables are aligned, coloured and no wider than it. In a pipe they are plain and whole.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest

import click

COLOURS = {
    "busy": "green",
    "idle": "cyan",
    "starting": "yellow",
    "stopping": "yellow",
    "suspended": "yellow",
    "paused": "yellow",
    "finished": "green",
    "started": "cyan",
    "failed": "red",
    "canceled": "yellow",
    "ok": "green",
    "warning": "yellow",
}
_MARGIN = _GAP = "  "
_VALUES_AT = 14  # where the values of fields begin
# A text shorter than this says nothing.
_SHORTEST = 8


@dataclass(slots=True)
class _Column:
    head: str
    cells: list[str]
    is_numeric: bool
    width: int

    @property
    def is_empty(self) -> bool:
        """True if it has only dashes and zeros."""
        return set(self.cells) <= {"-", "0", "0.0"}

    def pieces(self, number: int, wraps: bool) -> list[str]:
        """Returns a cell's lines: more than one only if it is too long and `wraps`."""
        text = self.cells[number]
        if not wraps or len(text) <= self.width:
            return [text]
        return textwrap.wrap(text, self.width, break_on_hyphens=False)  # --options stay whole

    def padded(self, text: str, colour: str | None = None) -> str:
        """Returns the text in the column's width, shortened if it must be."""
        shown = text if len(text) <= self.width else text[: self.width - 1] + "…"
        blanks = " " * (self.width - len(shown))
        styled = click.style(shown, fg=colour) if shown else ""
        return blanks + styled if self.is_numeric else styled + blanks


def echo_table(
    title: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[object]],
    least: Sequence[str] = (),
    wraps: bool = False,
) -> None:
    """Prints a titled table; numbers to the right, `-` for an empty cell.

    On a narrow terminal it leaves out columns named in `least`, empty columns first, then from the
    first on. If that is not enough, it shortens the longest texts. With `wraps` it continues them
    in lines below, in a pipe, too: nothing of them is lost.
    """
    click.secho(title, bold=True)
    if not rows:
        click.echo("  none")
        return
    columns = [_column(head, [row[i] for row in rows]) for i, head in enumerate(heads)]
    dropped = _fit(columns, least, _room()) if wraps or sys.stdout.isatty() else []
    click.secho(_line([column.padded(column.head) for column in columns]), dim=True)
    for number in range(len(rows)):
        cells = [column.pieces(number, wraps) for column in columns]
        for pieces in zip_longest(*cells, fillvalue=""):
            padded = [
                column.padded(text, COLOURS.get(text))
                for column, text in zip(columns, pieces, strict=True)
            ]
            click.echo(_line(padded))
    if dropped:
        names = ", ".join(head for head in heads if head in dropped)
        click.secho(f"{_MARGIN}(too narrow for {names})", dim=True)


def fitted(
    heads: Sequence[str], rows: Sequence[Sequence[object]], least: Sequence[str], room: int
) -> tuple[list[str], list[str]]:
    """Returns a table's lines, its heads first, and the heads that are left out.

    The lines equal the output of `echo_table` on a terminal of this width, without margin and
    colours.
    """
    columns = [_column(head, [row[i] for row in rows]) for i, head in enumerate(heads)]
    dropped = _fit(columns, least, room + len(_MARGIN))
    lines = [_GAP.join(click.unstyle(column.padded(column.head)) for column in columns)]
    for number in range(len(rows)):
        cells = (click.unstyle(column.padded(column.cells[number])) for column in columns)
        lines.append(_GAP.join(cells))
    return [line.rstrip() for line in lines], [head for head in heads if head in dropped]


def echo_field(name: str, value: str, margin: str = "") -> None:
    """Prints a field and its value. Further lines of the value are indented.

    So no line of a value looks like another field.
    """
    first, *more = plain(value).split("\n")
    click.echo(f"{margin}{name + ':':<{_VALUES_AT}}{click.style(first, fg=COLOURS.get(value))}")
    for line in more:
        click.echo(f"{margin}{'':<{_VALUES_AT}}{line}".rstrip())


def say(text: str, *, err: bool = False, fg: str | None = None) -> None:
    """Prints a text as a single line, also if a name in it has line breaks."""
    click.secho(one_line(text), err=err, fg=fg)


def note_former(was: str, now: str) -> None:
    """Says on standard error the new spelling of a command that was typed in the old spelling."""
    say(f"rqd: `{was}` is now `{now}`: the old spelling goes in the next version", err=True)


def one_line(text: str) -> str:
    """Returns the `plain` text with its line breaks spelt out, too."""
    return plain(text).replace("\n", "\\n")


def mebibytes(size_bytes: int) -> float:
    """Converts to MiB for a column: the unit of limits, where 512M are 512 MiB."""
    return round(size_bytes / 2**20, 1)


def with_unit(time: str) -> str:
    """Returns a time as it was typed, with its unit: seconds, if none was typed."""
    time = time.strip()
    return f"{time}s" if time[-1:].isdigit() else time


def duration(seconds: float) -> str:
    """Formats a length of time: `7 s`, `1:02`, `3:04:05`, `2d 03:04`."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d {hour:02}:{minute:02}"
    if hours:
        return f"{hour}:{minute:02}:{second:02}"
    return f"{minute}:{second:02}" if minute else f"{second} s"


def ago(since: str | None, now_us: int, suffix: str = " ago") -> str:
    """Formats the time since an instant of ISO 8601; empty for None."""
    if not since:
        return ""
    seconds = max(0, now_us / 1e6 - datetime.fromisoformat(since).timestamp())
    return f"{duration(seconds)}{suffix}"


def plain(text: str) -> str:
    """Spells out the control characters of a text out of Redis.

    Its writer must not steer the reader's terminal.
    """
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def _column(head: str, values: Sequence[object]) -> _Column:
    cells = [_cell(value, head) for value in values]
    filled = [value for value in values if value is not None]
    is_numeric = bool(filled) and all(isinstance(value, int | float) for value in filled)
    return _Column(head, cells, is_numeric, max(map(len, [head, *cells])))


def _cell(value: object, head: str) -> str:
    if value is None or value == "":
        return "-"
    # A process id is a name, not an amount.
    is_amount = isinstance(value, int) and not head.endswith("pid")
    return f"{value:,}" if is_amount else one_line(str(value))


def _line(cells: Sequence[str]) -> str:
    return (_MARGIN + _GAP.join(cells)).rstrip()


def _room() -> int:
    return shutil.get_terminal_size().columns


def _fit(columns: list[_Column], least: Sequence[str], room: int) -> list[str]:
    """Makes the columns fit into the room, as far as can be; returns the removed heads."""
    by_head = {column.head: column for column in columns}
    dropped = []
    for head in sorted(least, key=lambda head: not by_head[head].is_empty):
        if _width(columns) <= room:
            break
        columns.remove(by_head[head])
        dropped.append(head)
    while (over := _width(columns) - room) > 0:
        widest = max(columns, key=lambda column: 0 if column.is_numeric else column.width)
        shortest = max(_SHORTEST, len(widest.head))
        if widest.is_numeric or widest.width <= shortest:
            break
        second = max((c.width for c in columns if c is not widest and not c.is_numeric), default=0)
        widest.width = max(shortest, widest.width - over, min(second, widest.width - 1))
    return dropped


def _width(columns: Sequence[_Column]) -> int:
    return len(_MARGIN) + sum(c.width for c in columns) + len(_GAP) * (len(columns) - 1)
