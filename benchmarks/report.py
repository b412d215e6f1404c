"""The tables a run ends with, and the same as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.commands import Commands
from benchmarks.latency import Latencies
from benchmarks.results import RQ, RQD, Claim, Results, claims, percentile

Row = tuple[str, ...]
PACKAGES = {RQD: "rqd", RQ: "rq"}  # who enqueues; labels tell who works


def surroundings(server_version: str) -> dict[str, str]:
    """Machine, versions and date: without them a figure says nothing."""
    packages = ("rqd", "rq", "huey", "redis", "hiredis")
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{len(os.sched_getaffinity(0))} cores, {_cpu_model()}",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "server": f"{server_version}, TCP on loopback, nothing saved",
        "packages": ", ".join(f"{name} {_version(name)}" for name in packages),
    }


def text_report(around: Mapping[str, str], results: Results, labels: Mapping[str, str]) -> str:
    """Everything for the eye: surroundings, what was measured, what was to be reached."""
    lines = [f"{name:<9} {value}" for name, value in around.items()]
    if others := results.others_share:
        lines.append(
            f"{'others':<9} used {statistics.median(others):.0%} of the processors before a run"
            f" (median), {max(others):.0%} at most"
        )
    for title, rows in _tables(results, labels):
        lines += ["", *_aligned([title, *rows])]
    lines += ["", *_aligned([_CLAIMS_HEAD, *map(_claim_row, claims(results))])]
    return "\n".join(lines)


def write_json(path: Path, around: Mapping[str, str], results: Results) -> None:
    """The raw figures of each round, and the claims."""
    made = [{**asdict(claim), "ok": claim.is_kept} for claim in claims(results)]
    document = {"surroundings": dict(around), "results": asdict(results), "claims": made}
    path.write_text(json.dumps(document, indent=2) + "\n")


def _tables(results: Results, labels: Mapping[str, str]) -> Iterator[tuple[Row, list[Row]]]:
    rates = ("jobs/s", "by round")
    if results.backlog:
        yield ("backlog of no-ops, 4 at a time", *rates), _rate_rows(results.backlog, labels)
    if results.singly:
        yield ("one producer: enqueue", *rates), _rate_rows(results.singly, PACKAGES)
        yield (
            ("one producer: enqueue_many, 1000 a call", *rates),
            _rate_rows(results.in_bulk, PACKAGES),
        )
    if results.latency:
        head = ("idle, enqueue's call to job's first line", "median ms", "p99 ms", "samples")
        yield head, list(_latency_rows(results.latency, labels))
    if results.commands:
        counted = ("enqueue", "backlog", "idle", "the backlog's")
        yield (
            ("commands a job, scripts' own not counted", *counted),
            list(_command_rows(results.commands, labels)),
        )


def _rate_rows(rates: Mapping[str, Sequence[float]], labels: Mapping[str, str]) -> list[Row]:
    return [
        (labels[name], f"{statistics.median(found):,.0f}", " ".join(f"{r:,.0f}" for r in found))
        for name, found in rates.items()
    ]


def _latency_rows(latency: Mapping[str, Latencies], labels: Mapping[str, str]) -> Iterator[Row]:
    for name, found in latency.items():
        yield _latency_row(labels[name], found.to_first_line)
        if found.by_record:
            yield _latency_row("  its record's started - enqueued", found.by_record)


def _latency_row(label: str, seconds: Sequence[float]) -> Row:
    middle, high = (percentile(seconds, percent) * 1000 for percent in (50, 99))
    return label, f"{middle:.2f}", f"{high:.2f}", f"{len(seconds)}"


def _command_rows(commands: Mapping[str, Commands], labels: Mapping[str, str]) -> Iterator[Row]:
    for name, counts in commands.items():
        which = ", ".join(f"{command} {count}" for command, count in counts.names.items())
        each = (f"{count:.2f}" for count in (counts.enqueue, counts.backlog, counts.idle))
        yield labels[name], *each, which


_CLAIMS_HEAD: Row = ("what", "measured", "by round", "to reach", "")


def _claim_row(claim: Claim) -> Row:
    sign = "<=" if claim.at_most else ">="
    spread = f"{claim.spread[0]:.2f} .. {claim.spread[1]:.2f}" if claim.spread else ""
    return (
        claim.text,
        f"{claim.measured:.2f} {claim.unit}".rstrip(),
        spread,
        f"{sign} {claim.to_reach:g} {claim.unit}".rstrip(),
        "ok" if claim.is_kept else "MISSED",
    )


def _aligned(rows: Sequence[Row]) -> list[str]:
    """The first column and the last are text, to the left; those between are to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    last = len(widths) - 1
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column in (0, last) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]


def _cpu_model() -> str:
    fields: dict[str, Any] = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    return str(fields.get("model name") or platform.machine())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
