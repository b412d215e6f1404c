"""Tables: aligned; coloured on a terminal, plain in a pipe."""

from __future__ import annotations

from collections.abc import Sequence

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


def echo_table(title: str, heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints a titled table; numbers to the right, `-` for what is empty."""
    click.secho(title, bold=True)
    if not rows:
        click.echo("  none")
        return
    cells = [[_cell(value, head) for value, head in zip(row, heads, strict=True)] for row in rows]
    widths = [max(len(line[i]) for line in [list(heads), *cells]) for i in range(len(heads))]
    numeric = [all(isinstance(row[i], int | float) for row in rows) for i in range(len(heads))]
    if not numeric[-1]:
        widths[-1] = 0  # nothing stands behind it: no blanks at the lines' ends
    click.secho("  " + "  ".join(_padded(heads, widths, numeric)), dim=True)
    for line in cells:
        shown = _padded(line, widths, numeric)
        coloured = [
            click.style(text, fg=COLOURS.get(cell)) for text, cell in zip(shown, line, strict=True)
        ]
        click.echo("  " + "  ".join(coloured))


def plain(text: str) -> str:
    """Text out of Redis with its control characters spelt out: who wrote it shall not steer the
    reader's terminal.
    """
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def _padded(cells: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> list[str]:
    return [
        cell.rjust(width) if right else cell.ljust(width)
        for cell, width, right in zip(cells, widths, numeric, strict=True)
    ]


def _cell(value: object, head: str) -> str:
    if value is None or value == "":
        return "-"
    # A process id is a name, not an amount.
    is_amount = isinstance(value, int) and not head.endswith("pid")
    return f"{value:,}" if is_amount else plain(str(value)).replace("\n", "\\n")
