"""Tables: aligned; coloured on a terminal, plain in a pipe."""

from __future__ import annotations

from collections.abc import Sequence

import click

COLOURS = {
    "busy": "green",
    "idle": "cyan",
    "starting": "yellow",
    "stopping": "yellow",
    "finished": "green",
    "started": "cyan",
    "failed": "red",
    "canceled": "yellow",
}


def echo_table(title: str, heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints a titled table; numbers to the right, `-` for what is empty."""
    click.secho(title, bold=True)
    if not rows:
        click.echo("  none")
        return
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(heads), *cells]) for i in range(len(heads))]
    numeric = [all(isinstance(row[i], int | float) for row in rows) for i in range(len(heads))]
    click.secho("  " + _line(heads, widths, numeric), dim=True)
    for line in cells:
        shown = [
            click.style(_pad(cell, width, right), fg=COLOURS.get(cell))
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ]
        click.echo("  " + "  ".join(shown).rstrip())


def _line(cells: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> str:
    padded = (_pad(c, w, right) for c, w, right in zip(cells, widths, numeric, strict=True))
    return "  ".join(padded).rstrip()


def _pad(cell: str, width: int, right: bool) -> str:
    return cell.rjust(width) if right else cell.ljust(width)


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    return f"{value:,}" if isinstance(value, int) and abs(value) >= 10_000 else str(value)
