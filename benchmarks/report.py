"""A run as one document, for JSON; and its tables, for the eye or for a page in Markdown."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.results import Claim, Quantity, Results

Row = tuple[str, ...]
Document = dict[str, Any]
_PACKAGES = (
    "rqd",
    "rq",
    "celery",
    "dramatiq",
    "huey",
    "taskiq",
    "taskiq-redis",
    "redis",
    "hiredis",
)


def surroundings() -> dict[str, str]:
    """Machine, versions and date: without them a figure says nothing. The server adds itself."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{len(os.sched_getaffinity(0))} cores, {_cpu_model()}",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "server": "none",
        "packages": ", ".join(f"{name} {_version(name)}" for name in _PACKAGES),
    }


def document_of(
    around: Mapping[str, str],
    results: Results,
    groups: Mapping[str, Iterable[Quantity]],
    claims: Iterable[Claim],
) -> Document:
    """Everything, as JSON has it: each group's quantities, with a figure a round by row."""
    others = results.others_share or [0.0]
    busy = f"used {statistics.median(others):.0%} of the processors before a run (median)"
    measured = [
        {
            "group": group,
            "name": quantity.name,
            "title": quantity.title,
            "column": quantity.column,
            "digits": quantity.digits,
            "chart": quantity.chart,
            "rows": results.figures[quantity.name],
        }
        for group, quantities in groups.items()
        for quantity in quantities
        if quantity.name in results.figures
    ]
    return {
        "surroundings": {**around, "others": f"{busy}, {max(others):.0%} at most"},
        "remarks": results.remarks,
        "measured": measured,
        "claims": [{**asdict(claim), "ok": claim.is_kept} for claim in claims],
    }


def text_report(document: Document) -> str:
    """For a terminal: surroundings, what was measured, what was to be reached."""
    lines = [f"{name:<9} {value}" for name, value in document["surroundings"].items()]
    lines += [f"{'remark':<9} {remark}" for remark in document["remarks"]]
    for table in tables(document):
        lines += ["", *_aligned(table)]
    return "\n".join(lines)


def machine_lines(document: Document) -> list[str]:
    """For a page: what was measured on and with, and who was left out."""
    lines = [f"- {name}: {value}" for name, value in document["surroundings"].items()]
    return lines + [f"- remark: {' '.join(remark.split())}" for remark in document["remarks"]]


def markdown(table: Sequence[Row]) -> list[str]:
    """A table for a page."""
    marks = ["---", *("---" if cell in _TEXTS else "---:" for cell in table[0][1:])]
    return ["| " + " | ".join(row) + " |" for row in (table[0], tuple(marks), *table[1:])]


def tables(document: Document) -> Iterator[list[Row]]:
    """Heads and rows: a table for each title, and what is claimed as the last."""
    for title, group in groupby(document["measured"], key=lambda one: str(one["title"])):
        quantities = list(group)
        # A quantity by itself leaves room for its figures by round.
        by_round = ("by round",) if len(quantities) == 1 else ()
        rows = dict.fromkeys(row for one in quantities for row in one["rows"])
        head = (title, *(str(one["column"]) for one in quantities), *by_round)
        yield [head, *(_figures(row, quantities, bool(by_round)) for row in rows)]
    yield [_CLAIMS_HEAD, *map(_claim, document["claims"])]


_TEXTS = ("", "by round")  # heads of columns that aren't figures
_CLAIMS_HEAD: Row = ("what", "measured", "by round", "to reach", "")


def _figures(row: str, quantities: Sequence[Mapping[str, Any]], by_round: bool) -> Row:
    """Medians; a cell is empty where someone has no such figure."""
    cells = [row]
    for one in quantities:
        figures, digits = one["rows"].get(row, ()), one["digits"]
        cells.append(f"{statistics.median(figures):,.{digits}f}" if figures else "")
        if by_round:
            cells.append(" ".join(f"{figure:,.{digits}f}" for figure in figures))
    return tuple(cells)


def _claim(claim: Mapping[str, Any]) -> Row:
    sign, unit, spread = "<=" if claim["at_most"] else ">=", claim["unit"], ""
    if claim["spread"] and claim["spread"][0] != claim["spread"][1]:
        spread = " .. ".join(f"{end:,.2f}" for end in claim["spread"])
    return (
        claim["text"],
        "none" if claim["measured"] is None else f"{claim['measured']:,.2f} {unit}".rstrip(),
        spread,
        f"{sign} {claim['to_reach']:,g} {unit}".rstrip(),
        {True: "ok", False: "MISSED", None: "not measured"}[claim["ok"]],
    )


def _aligned(rows: Sequence[Row]) -> list[str]:
    """Text to the left, figures to the right."""
    texts = {rows[0][0], *_TEXTS}
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if head in texts else cell.rjust(width)
            for head, cell, width in zip(rows[0], row, widths, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]


def _cpu_model() -> str:
    fields: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    return fields.get("model name") or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
