"""The table of a campaign: for each fault how often, what it cost, how long until all was well."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.torture.checker import Verdict, check
from tests.torture.history import Event, read_histories

_HEADINGS = (
    "fault", "injected", "in flight", "lost", "doubled", "failed", "refused", "recovery", "alone",
)  # fmt: skip
_SETTLED_S = 1.0  # after a fault's end nobody is quite himself for so long
_FORWARD_S = 1800  # a record from while the server's clock was forward


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of fault.

    `longest_s` is the longest time from its end to the next job that came to its end, on its master
    or anywhere; `alone_s` the same where no other fault of that master or of Redis came in between;
    None where nothing had to recover, or it can't be told.
    """

    group: str
    name: str
    injected: int
    in_flight: int
    lost: int
    doubled: int
    failed: int
    refused: int
    longest_s: float | None
    alone_s: float | None
    not_injected: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """A campaign's verdict and table, and what it takes to run it again."""

    seed: int
    system: str
    verdict: Verdict
    rows: tuple[Row, ...]
    seconds: float


def report_on(folder: Path) -> Report:
    """Reads a campaign's histories; asks the checker, counts and measures."""
    events = list(read_histories(folder))
    told = next(event for event in events if event["ev"] == "campaign")
    ends = [event["seconds"] for event in events if event["ev"] == "drained"]
    verdict = check(events)
    return Report(told["seed"], told["system"], verdict, tuple(_rows(events, verdict)), sum(ends))


def _rows(events: Sequence[Event], verdict: Verdict) -> Iterable[Row]:
    by_name: dict[tuple[str, str], list[Event]] = defaultdict(list)
    for event in events:
        if event["ev"] == "fault":
            by_name[event["group"], event["name"]].append(event)
    every = [event for event in events if event["ev"] == "fault"]
    settles = _Settles(events)
    refused = _refused_by_fault(events)
    for (group, name), faults in by_name.items():
        waits = {
            number: wait
            for number, fault in enumerate(faults)
            if (wait := settles.wait_after(fault)) is not None
        }
        alone = [w for n, w in waits.items() if not _is_disturbed(faults[n], w, every)]
        yield Row(
            *(group, name, len(faults), sum(fault["in_flight"] for fault in faults)),
            *(verdict.lost[name], verdict.doubled[name], verdict.failed[name], refused[name]),
            max(waits.values(), default=None),
            max(alone, default=None),
        )
    for event in events:
        if event["ev"] == "not injected":
            yield Row(event["group"], event["name"], 0, 0, 0, 0, 0, 0, None, None, event["why"])


def _is_disturbed(fault: Event, wait_s: float, every: Sequence[Event]) -> bool:
    """True if another fault of Redis, or of its master, was there before it had recovered."""
    name = fault["master"].rpartition(".")[0]
    return any(
        other is not fault
        and other["begin"] < fault["end"] + wait_s
        and other["end"] > fault["end"] - _SETTLED_S
        and (other["level"] == "redis" or (name and other["master"].startswith(f"{name}.")))
        for other in every
    )


class _Settles:
    """When jobs came to their end, by Redis' clock, in all and on each master."""

    def __init__(self, events: Sequence[Event]) -> None:
        jobs = [event for event in events if event["ev"] == "job" and event["ended"]]
        newest = max((e["t"] for e in events if e["ev"] == "end"), default=0.0)
        self._on: dict[str, list[float]] = defaultdict(list)
        for job in jobs:
            if job["ended"] < newest + _FORWARD_S:
                self._on[job["master"]].append(job["ended"])
                self._on[""].append(job["ended"])
        for times in self._on.values():
            times.sort()

    def wait_after(self, fault: Event) -> float | None:
        """Seconds from the fault's end to the first job that ended then: on its master, or any."""
        if fault["level"] == "job" or "clock" in fault["name"]:
            return None
        times = self._on[fault["master"].rpartition(".")[0]]
        place = bisect_right(times, fault["end"])
        return times[place] - fault["end"] if place < len(times) else None


def _refused_by_fault(events: Sequence[Event]) -> Counter[str]:
    """Refused outcomes, told of the fault that can make them: a stop past the lease comes first."""
    found: Counter[str] = Counter()
    faults = [event for event in events if event["ev"] == "fault" and event["level"] == "master"]
    for event in events:
        if event["ev"] == "refused":
            here = [fault for fault in faults if fault["master"] == event["master"]]
            here.sort(key=lambda fault: fault["begin"] - fault["end"])
            found[here[0]["name"] if here else "(none)"] += event["count"]
    return found


def as_text(report: Report) -> str:
    """The table, the verdict, and the seed."""
    lines = [[*_HEADINGS]]
    lines += [
        [
            *(row.name, str(row.injected), str(row.in_flight), str(row.lost), str(row.doubled)),
            *(str(row.failed), str(row.refused)),
            *(_seconds(row.longest_s), _seconds(row.alone_s)),
        ]
        for row in report.rows
        if not row.not_injected
    ]
    verdict = report.verdict
    refused = sum(row.refused for row in report.rows)
    lines.append(
        [
            *("all", str(verdict.faults), "", str(len(verdict.wrong.get("lost", [])))),
            *(str(verdict.doubled.total()), str(verdict.failed.total()), str(refused), "", ""),
        ]
    )
    widths = [max(len(line[n]) for line in lines) for n in range(len(_HEADINGS))]
    shown = [
        "  ".join(
            cell.ljust(width) if not n else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    shown += [f"not injected: {r.name}: {r.not_injected}" for r in report.rows if r.not_injected]
    counted = f"{verdict.jobs} jobs acknowledged, {verdict.starts} starts, {verdict.faults} faults"
    shown += ["", f"{counted}, {report.seconds:.0f} s, seed {report.seed}", *verdict.says()]
    return "\n".join([*shown, "valid" if verdict.is_valid else "NOT VALID"])


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


def as_json(report: Report) -> dict[str, Any]:
    """The same for machines."""
    verdict = report.verdict
    return {
        "seed": report.seed,
        "system": report.system,
        "valid": verdict.is_valid,
        "seconds": report.seconds,
        "jobs": verdict.jobs,
        "starts": verdict.starts,
        "faults": verdict.faults,
        "wrong": dict(verdict.wrong),
        "rows": [asdict(row) for row in report.rows],
    }
