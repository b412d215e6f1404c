"""What was measured, and what follows: ratios within a round, and which floors are reached."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.commands import Commands
from benchmarks.latency import Latencies

RQD, REUSED, RQ, HUEY, BARE = "rqd", "rqd_reused", "rq", "huey", "bare"


@dataclass(slots=True)
class Results:
    """By contender; a rate for each round, so that a round's rates can be compared."""

    backlog: dict[str, list[float]] = field(default_factory=dict)
    singly: dict[str, list[float]] = field(default_factory=dict)
    in_bulk: dict[str, list[float]] = field(default_factory=dict)
    latency: dict[str, Latencies] = field(default_factory=dict)
    commands: dict[str, Commands] = field(default_factory=dict)
    others_share: list[float] = field(default_factory=list)  # of the processors, before each run


@dataclass(frozen=True, slots=True)
class Claim:
    """A floor (or, for `at_most`, a ceiling) and what was measured; `spread` over the rounds."""

    text: str
    measured: float
    to_reach: float
    unit: str
    at_most: bool = False
    spread: tuple[float, float] | None = None

    @property
    def is_kept(self) -> bool:
        """True if the floor was reached, or the ceiling not passed."""
        return self.measured <= self.to_reach if self.at_most else self.measured >= self.to_reach


def claims(results: Results) -> list[Claim]:
    """Every claim whose measurements were made."""
    backlog, singly, in_bulk = results.backlog, results.singly, results.in_bulk
    compared = [
        ("fork per job: rqd / RQ's pool", backlog, RQD, backlog, RQ, 8.0),
        ("fork per job: rqd / bare loop", backlog, RQD, backlog, BARE, 0.75),
        ("process reused: rqd / Huey", backlog, REUSED, backlog, HUEY, 1.5),
        ("enqueue: rqd / RQ", singly, RQD, singly, RQ, 3.0),
        ("enqueue_many: rqd / RQ's enqueue", in_bulk, RQD, singly, RQ, 20.0),
    ]
    made = []
    for text, ours, we, theirs, they, to_reach in compared:
        if ours.get(we) and theirs.get(they):
            ratios = [a / b for a, b in zip(ours[we], theirs[they], strict=True)]
            spread = min(ratios), max(ratios)
            made.append(Claim(text, statistics.median(ratios), to_reach, "x", spread=spread))
    if RQD in results.latency:
        median_ms = percentile(results.latency[RQD].to_first_line, 50) * 1000
        made.append(
            Claim("idle, enqueue to first line, median", median_ms, 2.0, "ms", at_most=True)
        )
    if RQD in results.commands:
        counts = results.commands[RQD]
        each = counts.enqueue + counts.backlog
        made.append(Claim("commands a job, enqueue and backlog", each, 3.0, "", at_most=True))
        made.append(Claim("commands a job, idle daemon's own", counts.idle, 3.0, "", at_most=True))
    return made


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that this share of all values doesn't exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * percent // 100) - 1)]
