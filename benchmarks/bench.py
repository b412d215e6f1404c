"""One run: its server, its effort, and the rounds in which all measurements take turns."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.contenders.base import Contender, Missing
from benchmarks.processes import BenchmarkError
from benchmarks.quiet import wait_for_quiet
from benchmarks.results import Claimed, Quantity, Results
from benchmarks.server import Server


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured; a run waits so long for others to leave the machine alone."""

    rounds: int
    backlog_s: float
    calibration_s: float
    enqueue_s: float
    samples: int  # of latency, a round
    command_jobs: int
    quiet_s: float
    jobs_s: float  # each kind of jobs
    idle_s: float
    largest_backlog: int


FULL = Effort(3, 2.0, 0.5, 0.7, 80, 300, 3.0, 0.6, 4.0, 1_000_000)
QUICK = Effort(1, 1.2, 0.3, 0.3, 40, 100, 0.3, 0.6, 2.0, 50_000)


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement of one of those measured: its figures by quantity."""

    row: str
    measure: Callable[[], Mapping[str, float]]
    rounds: int | None = None  # in the first so many rounds only; None: in each


class Group(Protocol):
    """What belongs together and is chosen by `--only`."""

    name: str
    quantities: tuple[Quantity, ...]
    claims: tuple[Claimed, ...]

    def runs(self, bench: Bench) -> list[Run]:
        """What is run each round, in this order or reversed."""
        ...


@dataclass
class Bench:
    """The measurements of one run."""

    server: Server
    effort: Effort
    results: Results = field(default_factory=Results)
    expected: dict[str, float] = field(default_factory=dict)  # jobs a second, by who
    began: float = field(default_factory=time.monotonic)

    def run(self, groups: Sequence[Group]) -> None:
        """Group by group: first what each of it needs, then its rounds."""
        for group in groups:
            runs = group.runs(self)
            for number in range(1, self.effort.rounds + 1):
                chosen = [run for run in runs if run.rounds is None or number <= run.rounds]
                for run in chosen if number % 2 else reversed(chosen):
                    self._measure(group, run, f"{group.name} {number}/{self.effort.rounds}")

    def available(self, makers: Mapping[str, Callable[[Server], Contender]]) -> list[Contender]:
        """Those contenders that can be had here; the others are remarked on, once."""
        made = []
        for name, make in makers.items():
            try:
                made.append(make(self.server))
            except Missing as missing:
                self._remark(f"{name} is left out: {missing}")
        return made

    def _measure(self, group: Group, run: Run, prefix: str) -> None:
        self.server.empty()  # a large heap freed now isn't freed while someone is measured
        self.results.others_share.append(wait_for_quiet(self.effort.quiet_s))
        try:
            found = run.measure()
        except BenchmarkError as error:
            self.results.is_incomplete = True
            why, *more = str(error).splitlines()
            self._remark(f"{group.name}: {run.row} could not be measured: {why}")
            print(*more, sep="\n", file=sys.stderr)
            return
        told = []
        for quantity in group.quantities:
            if quantity.name in found:
                figure = found[quantity.name]
                self.results.add(quantity.name, run.row, figure)
                told.append(f"{figure:,.{quantity.digits}f} {quantity.column}")
        self.say(f"{prefix}: {run.row}: {', '.join(told)}")

    def say(self, text: str) -> None:
        """Progress, to stderr."""
        passed_s = time.monotonic() - self.began
        print(f"{passed_s:5.0f} s  {text}", file=sys.stderr, flush=True)

    def _remark(self, text: str) -> None:
        if text not in self.results.remarks:
            self.results.remarks.append(text)
            self.say(text)
