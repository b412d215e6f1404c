"""The README's table of a run: a row for each thing compared, a column for each queue."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.labels import (
    CELERY,
    DRAMATIQ,
    HUEY,
    RESQUE,
    REUSED,
    RQ,
    RQ_SIMPLE,
    RQD,
    SIDEKIQ,
    TASKIQ,
)
from benchmarks.report import Document, Row

_OTHERS = {
    "Celery": CELERY,
    "Dramatiq": DRAMATIQ,
    "Huey": HUEY,
    "taskiq": TASKIQ,
    "Sidekiq": SIDEKIQ,
}
_COLUMNS = ("rqd", "RQ", "Resque", *_OTHERS)
_FORKING = {"rqd": RQD, "RQ": RQ, "Resque": RESQUE}
_REUSING = {"rqd": REUSED, "RQ": RQ_SIMPLE, **_OTHERS}
_AS_STARTED = {**_FORKING, **_OTHERS}
# What enqueues is named by its package; the benchmark itself enqueues for those in Ruby.
_CLIENTS = {name: name.lower() for name in _COLUMNS if name not in ("Resque", "Sidekiq")}


@dataclass(frozen=True, slots=True)
class _Line:
    """What is compared, and which row of a quantity is whose."""

    text: str
    quantity: str
    rows: Mapping[str, str]


_LINES = (
    _Line("a process a job, 4 at a time, jobs/s", "fork.4", _FORKING),
    _Line("the same with 60 MB preloaded, jobs/s", "preload.big", _FORKING),
    _Line("processes reused, 4 of them, jobs/s", "reuse", _REUSING),
    _Line("enqueue, one by one, jobs/s", "enqueue", _CLIENTS),
    _Line("enqueue, many at once, jobs/s", "bulk", _CLIENTS),
    _Line("idle, enqueue to first line, p50, ms", "idle.p50", _AS_STARTED),
    _Line("idle, enqueue to first line, p99, ms", "idle.p99", _AS_STARTED),
    _Line("Redis commands a job", "commands", _AS_STARTED),
    _Line("bytes to and from Redis a job", "bytes", _AS_STARTED),
    _Line("cpu time a job, us", "cpu", _AS_STARTED),
    _Line("memory of all processes, 4 workers, MB", "memory.empty", _AS_STARTED),
    _Line("idle, % of a core", "idle.cpu", _AS_STARTED),
)


def summary(document: Document) -> list[Row]:
    """Head and rows; a cell is empty where someone has no such thing."""
    measured = {one["name"]: one for one in document["measured"]}
    table: list[Row] = [("no-ops", *_COLUMNS)]
    for line in _LINES:
        if one := measured.get(line.quantity):
            cells = (_cell(one["rows"], line.rows.get(name), one["digits"]) for name in _COLUMNS)
            table.append((line.text, *cells))
    return table


def _cell(rows: Mapping[str, list[float]], row: str | None, digits: int) -> str:
    figures = rows.get(row) if row else None
    return f"{statistics.median(figures):,.{digits}f}" if figures else ""
