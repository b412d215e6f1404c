"""Pictures of a run: bars of those measured, stacked where parts make a whole, lines of growth."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import matplotlib as mpl

from benchmarks.labels import BARE, RQD
from benchmarks.page import picture_of
from benchmarks.report import Document

mpl.use("agg")
mpl.rcParams["svg.hashsalt"] = "rqd"  # the same figures make the same file
mpl.rcParams["svg.fonttype"] = "none"  # text stays text

from matplotlib import pyplot as plt  # noqa: E402 - it settles on a backend when imported

_OURS, _PEERS, _LIMIT = "#2a6f97", "#b8c4cc", "#e0a458"
_PARTS = ("#2a6f97", "#61a5c2", "#a9d6e5", "#e0a458", "#b8c4cc")
_WIDTH = 7.5
_A_BAR = 0.32  # inches
Quantities = Sequence[dict[str, Any]]


def draw(document: Document, folder: Path, suffix: str = "svg") -> list[Path]:
    """A file for each table of measurements."""
    folder.mkdir(parents=True, exist_ok=True)
    around = document["surroundings"]
    made = []
    for title, group in groupby(document["measured"], key=lambda one: str(one["title"])):
        quantities = list(group)
        chart = {"bars": _bars, "stacked": _stacked, "lines": _lines}[quantities[0]["chart"]]
        figure = chart(quantities)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        figure.text(0.01, 0.01, f"{around['machine']}, {around['date'][:10]}", fontsize=7)
        path = folder / f"{picture_of(quantities[0]['name'])}.{suffix}"
        figure.savefig(path, dpi=110, metadata={"Date": None} if suffix == "svg" else None)
        plt.close(figure)
        made.append(path)
    return made


def _bars(quantities: Quantities) -> Any:
    """A field of bars for each quantity, side by side."""
    rows = list(dict.fromkeys(row for one in quantities for row in one["rows"]))
    figure, axes = plt.subplots(
        1,
        len(quantities),
        figsize=(_WIDTH, 1.3 + _A_BAR * len(rows)),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, one in zip(axes[0], quantities, strict=True):
        values = [_middle(one["rows"].get(row, ())) for row in rows]
        bars = axis.barh(rows, values, color=[_colour(row) for row in rows])
        texts = [f"{value:,.{one['digits']}f}" if value else "" for value in values]
        axis.bar_label(bars, texts, padding=3, fontsize=8)
        axis.set_title(one["column"], fontsize=9)
        axis.margins(x=0.3)
        _plain(axis)
        axis.set_xticks([])
    axes[0][0].invert_yaxis()  # shared by all
    return _with_room(figure)


def _stacked(quantities: Quantities) -> Any:
    """The quantities but the last, which is their sum, on top of one another."""
    *parts, whole = quantities
    rows = list(whole["rows"])
    figure, axis = plt.subplots(figsize=(_WIDTH, 1.5 + _A_BAR * len(rows)), layout="constrained")
    left = [0.0] * len(rows)
    for part, colour in zip(parts, _PARTS, strict=False):
        values = [_middle(part["rows"].get(row, ())) for row in rows]
        axis.barh(rows, values, left=left, color=colour, label=part["column"])
        left = [a + b for a, b in zip(left, values, strict=True)]
    for row, value in enumerate(left):
        axis.annotate(
            f" {value:,.0f}",
            (value, row),
            ha="left",
            va="center",
            fontsize=8,
            annotation_clip=False,
        )
    axis.margins(x=0.12)
    axis.invert_yaxis()
    axis.legend(fontsize=8, frameon=False, loc="lower right")
    _plain(axis)
    return _with_room(figure)


def _lines(quantities: Quantities) -> Any:
    """Over numbers that grow by factors: the rows' names."""
    figure, axes = plt.subplots(
        1, len(quantities), figsize=(_WIDTH, 2.8), squeeze=False, layout="constrained"
    )
    for axis, one in zip(axes[0], quantities, strict=True):
        sizes = [float(row.replace(",", "")) for row in one["rows"]]
        values = [_middle(figures) for figures in one["rows"].values()]
        axis.plot(sizes, values, marker="o", color=_OURS)
        axis.set_xscale("log")
        axis.set_xticks(sizes, list(one["rows"]), fontsize=7)
        axis.minorticks_off()
        axis.set_ylim(0, 1.15 * max(values))
        axis.set_title(one["column"], fontsize=9)
        axis.tick_params(axis="y", labelsize=7)
        _plain(axis)
    return _with_room(figure)


def _middle(figures: Sequence[float]) -> float:
    return statistics.median(figures) if figures else 0.0


def _colour(row: str) -> str:
    if row == BARE or "alone" in row:
        return _LIMIT
    return _OURS if row.split()[0] == RQD else _PEERS


def _plain(axis: Any) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(axis="y", labelsize=8)


def _with_room(figure: Any) -> Any:
    """For the line below."""
    figure.get_layout_engine().set(rect=(0, 0.04, 1, 0.96))
    return figure
