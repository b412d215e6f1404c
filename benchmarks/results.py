"""What was measured, and what follows: ratios within a round, and which claims hold."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

Rows = Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Quantity:
    """Something that is measured of several; its name is what figures and claims call it.

    Those of one title that follow one another are one table, of a column each.
    """

    name: str
    title: str
    column: str
    digits: int = 0
    chart: str = "bars"  # or stacked, the last the others' sum; or lines, over the rows' numbers


@dataclass(slots=True)
class Results:
    """A figure a round, by quantity and by who was measured; in the order they were made."""

    figures: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    is_incomplete: bool = False  # as something failed
    others_share: list[float] = field(default_factory=list)  # of the processors, before each run

    def add(self, quantity: str, row: str, figure: float) -> None:
        """One more round's."""
        self.figures.setdefault(quantity, {}).setdefault(row, []).append(figure)


@dataclass(frozen=True, slots=True)
class Claim:
    """A floor (or, for `at_most`, a ceiling) and what was measured; `spread` over the rounds.

    `measured` is None where someone it takes could not be had.
    """

    text: str
    measured: float | None
    to_reach: float
    unit: str
    at_most: bool = False
    spread: tuple[float, float] | None = None

    @property
    def is_kept(self) -> bool | None:
        """True if the floor was reached, or the ceiling not passed; None if not measured."""
        if self.measured is None:
            return None
        return self.measured <= self.to_reach if self.at_most else self.measured >= self.to_reach


@dataclass(frozen=True, slots=True)
class Ratio:
    """To be claimed: one of two divided by the other, round by round.

    Of several others the best is taken: the highest, or for `at_most` the lowest.
    """

    text: str
    quantity: str
    row: str
    others: tuple[str, ...]
    to_reach: float
    at_most: bool = False

    def claim(self, figures: Mapping[str, Rows]) -> Claim:
        """Not measured if one of the two wasn't."""
        ours = figures.get(self.quantity, {}).get(self.row)
        theirs = figures.get(self.quantity, {})
        measured = {name: theirs[name] for name in self.others if theirs.get(name)}
        if not ours or not measured:
            return Claim(self.text, None, self.to_reach, "x", self.at_most)
        best = min if self.at_most else max
        rival = best(measured, key=lambda name: statistics.median(measured[name]))
        # zip, as one that failed in a round has a figure fewer.
        ratios = [a / b for a, b in zip(ours, measured[rival], strict=False)]
        text = self.text if len(self.others) == 1 else f"{self.text} ({rival})"
        spread = min(ratios), max(ratios)
        return Claim(text, statistics.median(ratios), self.to_reach, "x", self.at_most, spread)


@dataclass(frozen=True, slots=True)
class Bound:
    """To be claimed: a figure by itself, the median over the rounds."""

    text: str
    quantity: str
    row: str
    to_reach: float
    unit: str
    at_most: bool = True

    def claim(self, figures: Mapping[str, Rows]) -> Claim:
        """Not measured if it wasn't."""
        found = figures.get(self.quantity, {}).get(self.row)
        if not found:
            return Claim(self.text, None, self.to_reach, self.unit, self.at_most)
        middle, spread = statistics.median(found), (min(found), max(found))
        return Claim(self.text, middle, self.to_reach, self.unit, self.at_most, spread)


@dataclass(frozen=True, slots=True)
class Flat:
    """To be claimed: from `first` on, no row of a quantity falls too far below an earlier one."""

    text: str
    quantity: str
    to_reach: float
    first: str | None = None

    def claim(self, figures: Mapping[str, Rows]) -> Claim:
        """Not measured if fewer than two rows were."""
        rows = list(figures.get(self.quantity, {}))
        chosen = rows[rows.index(self.first) if self.first in rows else 0 :]
        if len(chosen) < 2:
            return Claim(self.text, None, self.to_reach, "x", at_most=True)
        middles = [statistics.median(figures[self.quantity][row]) for row in chosen]
        falls = [before / after for before, after in combinations(middles, 2)]
        return Claim(self.text, max(falls), self.to_reach, "x", at_most=True)


Claimed = Ratio | Bound | Flat


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that this share of all values doesn't exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * percent // 100) - 1)]
