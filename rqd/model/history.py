"""The numbers of attempts, added up: by what became of them, by cause, and as histograms.

A number is a field of a hash in Redis: `<kind> <detail>`, and behind a second blank the function
that it is of, if it is of one. A function's name may have blanks, as it comes last.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

# Upper bounds, of which a value may reach its own. OpenTelemetry's buckets for messaging end at ten
# seconds: too short for jobs.
SECONDS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    *(60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 21600.0),
)
BYTES = tuple(float(8 * 2**20 * 2**power) for power in range(11))  # 8 MiB to 8 GiB
# The functions of a queue that are counted by themselves; all others are this one.
MOST_FUNCTIONS, OTHER_FUNCTION = 200, "_other"
_LONGEST_NAME = 200

# What becomes of an attempt. After the last three a job is as it was: no run has ended.
FINISHED, REPEATED, RETRIED, FAILED, STOPPED = (
    "finished",
    "repeated",
    "retried",
    "failed",
    "stopped",
)
PUT_BACK, LOST, PARKED = "put_back", "lost", "parked"
BECAME = (FINISHED, REPEATED, RETRIED, FAILED, STOPPED, PUT_BACK, LOST, PARKED)

# The kinds of fields. Sums are in microseconds, of memory in KiB.
_BECAME, _CAUSE = "became", "cause"
_WAIT, _RUN, _MEMORY = "wait", "run", "memory"
_SUM = "sum"  # the detail of a histogram's sum
_CPU = "cpu"
_UNIT = {_WAIT: 1e6, _RUN: 1e6, _MEMORY: 1 / 1024}
_LARGEST = 2**53


@dataclass(slots=True)
class Histogram:
    """Counts of values by bucket, and their sum. The last bucket is for values above all bounds."""

    bounds: tuple[float, ...] = SECONDS
    counts: list[int] = field(default_factory=list)
    sum: float = 0.0

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    @property
    def count(self) -> int:
        """The number of values."""
        return sum(self.counts)

    def add(self, value: float) -> None:
        """Counts a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def merge(self, other: Histogram) -> None:
        """Adds the values of another histogram with the same bounds."""
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum

    def percentile(self, percent: float) -> float | None:
        """Estimates a percentile, as if values lay evenly in their bucket; None without values.

        A value above all bounds counts as the highest bound.
        """
        rank, seen = self.count * percent / 100, 0
        if not rank:
            return None
        for at, count in enumerate(self.counts[:-1]):
            if count and seen + count >= rank:
                low = self.bounds[at - 1] if at else 0.0
                return low + (self.bounds[at] - low) * (rank - seen) / count
            seen += count
        return self.bounds[-1]


@dataclass(slots=True)
class Numbers:
    """The numbers of a function, or of a queue. Times are seconds."""

    became: dict[str, int] = field(default_factory=dict)
    causes: dict[str, int] = field(default_factory=dict)  # of failed attempts
    wait: Histogram = field(default_factory=Histogram)
    run: Histogram = field(default_factory=Histogram)
    memory: Histogram = field(default_factory=lambda: Histogram(BYTES))
    cpu_s: float = 0.0

    @property
    def ended(self) -> int:
        """The number of runs that have ended, whatever became of them."""
        return self.run.count

    @property
    def failed(self) -> int:
        """The number of failed attempts, retried ones among them; not the stopped ones."""
        return sum(self.causes.values()) - self.causes.get("stopped", 0)

    def add_run(
        self, waited_s: float, ran_s: float | None, cpu_s: float | None, peak_bytes: int | None
    ) -> None:
        """Counts a run that has ended; None for figures that nobody could measure.

        In place of `Histogram.add`, as a master does this for every job.
        """
        wait, run = self.wait, self.run
        wait.counts[bisect_left(SECONDS, waited_s)] += 1
        wait.sum += waited_s
        ran_s = ran_s or 0.0
        run.counts[bisect_left(SECONDS, ran_s)] += 1
        run.sum += ran_s
        if cpu_s:
            self.cpu_s += cpu_s
        if peak_bytes is not None:
            self.memory.counts[bisect_left(BYTES, peak_bytes)] += 1
            self.memory.sum += peak_bytes

    def merge(self, other: Numbers) -> None:
        """Adds other numbers to these."""
        for mine, more in ((self.became, other.became), (self.causes, other.causes)):
            for name, count in more.items():
                mine[name] = mine.get(name, 0) + count
        self.wait.merge(other.wait)
        self.run.merge(other.run)
        self.memory.merge(other.memory)
        self.cpu_s += other.cpu_s

    def fields(self, *, of_function: bool = False) -> Iterator[tuple[str, int]]:
        """Yields the names and values that are not zero. A function has no waits and no ends."""
        if not of_function:
            yield from ((f"{_BECAME} {name}", count) for name, count in self.became.items())
        yield from ((f"{_CAUSE} {name}", count) for name, count in self.causes.items())
        for kind, histogram in ((_WAIT, self.wait), (_RUN, self.run), (_MEMORY, self.memory)):
            if of_function and kind == _WAIT:
                continue
            yield from ((f"{kind} {at}", n) for at, n in enumerate(histogram.counts) if n)
            if total := round(histogram.sum * _UNIT[kind]):
                yield f"{kind} {_SUM}", total
        if micros := round(self.cpu_s * 1e6):
            yield f"{_CPU} {_SUM}", micros

    def _read(self, kind: str, detail: str, count: int) -> None:
        """Adds a field as `fields` wrote it; ignores any other."""
        if kind == _BECAME and detail in BECAME:
            self.became[detail] = count
        elif kind == _CAUSE and detail.isidentifier():
            self.causes[detail] = count
        elif kind == _CPU and detail == _SUM:
            self.cpu_s = count / 1e6
        elif kind in (_WAIT, _RUN, _MEMORY):
            histogram = {_WAIT: self.wait, _RUN: self.run, _MEMORY: self.memory}[kind]
            if detail == _SUM:
                histogram.sum = count / _UNIT[kind]
            elif detail.isdecimal() and len(detail) < 3 and int(detail) < len(histogram.counts):
                histogram.counts[int(detail)] = count


def read_numbers(row: Mapping[str, str]) -> tuple[Numbers, dict[str, Numbers]]:
    """Reads a hash of numbers: the queue's own, and those of its functions by name.

    Ignores fields and values that no master of ours writes.
    """
    own, functions = Numbers(), dict[str, Numbers]()
    for name, value in row.items():
        kind, _, rest = name.partition(" ")
        detail, has_function, function = rest.partition(" ")
        if not value.isdecimal() or len(value) > 16 or int(value) > _LARGEST:
            continue
        numbers = functions.setdefault(function, Numbers()) if has_function else own
        numbers._read(kind, detail, int(value))
    return own, functions


def function_label(name: str) -> str:
    """Returns the name under which a function is counted: its first 200 characters, one line."""
    return "".join(c if c.isprintable() else "?" for c in name[:_LONGEST_NAME]) or "?"


def added_up(numbers: Iterable[Numbers]) -> Numbers:
    """Returns the sum of many numbers."""
    total = Numbers()
    for one in numbers:
        total.merge(one)
    return total
