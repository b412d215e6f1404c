"""`bin/bench`: all measurements in one run on one server, in rounds that alternate who runs."""

from __future__ import annotations

import argparse
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import redis

from benchmarks.commands import measure_commands
from benchmarks.contenders import Contender, Huey, Rqd, RqPool
from benchmarks.enqueueing import measure_in_bulk, measure_singly
from benchmarks.latency import Latencies, measure_latency
from benchmarks.processes import BenchmarkError
from benchmarks.quiet import wait_for_quiet
from benchmarks.report import PACKAGES, surroundings, text_report, write_json
from benchmarks.results import BARE, HUEY, REUSED, RQ, RQD, Results, claims
from benchmarks.server import Server, started_server
from benchmarks.throughput import Rate, measure_backlog, measure_bare
from rqd.exceptions import RqdError

# In each round in this order, or reversed: those that are compared run one after the other.
BACKLOG_OF = {"fork": (RQ, RQD, BARE), "reuse": (REUSED, HUEY)}
GROUPS = (*BACKLOG_OF, "enqueue", "latency", "commands")
# Jobs a second to begin with; the first, uncounted run of each contender corrects it.
FIRST_GUESS = {RQ: 80.0, RQD: 500.0, BARE: 700.0, REUSED: 2500.0, HUEY: 2000.0}
EXIT_OK, EXIT_MISSED, EXIT_BROKEN = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Effort:
    """How long is measured: rounds, seconds a run, samples over all rounds, jobs counted, and how
    long a run waits for others to leave the machine alone.
    """

    rounds: int
    backlog_s: float
    calibration_s: float
    enqueue_s: float
    latency_samples: int
    command_jobs: int
    quiet_s: float


FULL = Effort(3, 5.0, 1.0, 1.0, 201, 300, 5.0)
QUICK = Effort(1, 2.0, 0.5, 0.5, 60, 100, 0.5)


@dataclass
class Bench:
    """The measurements of one run."""

    server: Server
    effort: Effort
    groups: Sequence[str]
    results: Results = field(default_factory=Results)

    def __post_init__(self) -> None:
        self.contenders: dict[str, Contender] = {
            RQD: Rqd(self.server),
            REUSED: Rqd(self.server, jobs_per_child=1000),
            RQ: RqPool(self.server),
            HUEY: Huey(self.server),
        }
        self.labels = {name: one.label for name, one in self.contenders.items()}
        self.labels[BARE] = "bare loop: the zygote alone, no Redis"
        self.expected = dict(FIRST_GUESS)
        self.began = time.monotonic()

    def run(self) -> None:
        """Calibration, the rounds, and once what doesn't vary."""
        backlogs = [name for group in self.groups for name in BACKLOG_OF.get(group, ())]
        for name in backlogs:
            rate = self._backlog(name, self.effort.calibration_s)
            self._say(f"calibration: {self.labels[name]}: about {rate.per_s:,.0f} jobs/s")
        for number in range(1, self.effort.rounds + 1):
            order: Callable[[Sequence[str]], list[str]] = list if number % 2 else _reverse
            prefix = f"round {number}/{self.effort.rounds}"
            for name in order(backlogs):
                rate = self._backlog(name, self.effort.backlog_s)
                self.results.backlog.setdefault(name, []).append(rate.per_s)
                told = f"{rate.per_s:,.0f} jobs/s, all {rate.jobs:,} finished"
                self._say(f"{prefix}: {self.labels[name]}: {told}")
            if "enqueue" in self.groups:
                self._enqueue(order((RQ, RQD)), prefix)
            if "latency" in self.groups:
                self._latency(order((RQ, RQD, HUEY)), prefix)
        if "commands" in self.groups:
            for name in (RQD, RQ, HUEY):
                self._say(f"counting the commands of {self.labels[name]}")
                self.results.commands[name] = measure_commands(
                    self.server, self.contenders[name], self.effort.command_jobs
                )

    def _backlog(self, name: str, seconds: float) -> Rate:
        self._await_quiet()
        jobs = max(50, int(self.expected[name] * seconds))
        timeout_s = 30 + 6 * seconds
        if name == BARE:
            rate = measure_bare(self.server, jobs, timeout_s)
        else:
            rate = measure_backlog(self.server, self.contenders[name], jobs, timeout_s)
        self.expected[name] = rate.per_s
        return rate

    def _await_quiet(self) -> None:
        self.server.empty()  # a large heap freed now isn't freed while someone is measured
        self.results.others_share.append(wait_for_quiet(self.effort.quiet_s))

    def _enqueue(self, names: Sequence[str], prefix: str) -> None:
        results, seconds = self.results, self.effort.enqueue_s
        for name in names:
            one = self.contenders[name]
            self._await_quiet()
            singly = measure_singly(self.server, one, seconds)
            in_bulk = measure_in_bulk(self.server, one, seconds)
            results.singly.setdefault(name, []).append(singly)
            results.in_bulk.setdefault(name, []).append(in_bulk)
            self._say(
                f"{prefix}: {PACKAGES[name]} enqueues {singly:,.0f}/s, {in_bulk:,.0f}/s in bulk"
            )

    def _latency(self, names: Sequence[str], prefix: str) -> None:
        samples = -(-self.effort.latency_samples // self.effort.rounds)
        for name in names:
            self._await_quiet()
            found = measure_latency(self.server, self.contenders[name], samples)
            pooled = self.results.latency.setdefault(name, Latencies())
            pooled.to_first_line += found.to_first_line
            pooled.by_record += found.by_record
            self._say(f"{prefix}: {self.labels[name]}: {samples} idle starts")

    def _say(self, text: str) -> None:
        passed_s = time.monotonic() - self.began
        print(f"{passed_s:5.0f} s  {text}", file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints, and tells by its status whether every floor was reached."""
    options = _options(argv)
    effort = QUICK if options.quick else FULL
    if options.rounds is not None:
        effort = replace(effort, rounds=options.rounds)
    # So that TERM, too, ends what was started on its way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with started_server() as server:
            around = surroundings(server.version())
            bench = Bench(server, effort, options.only)
            bench.run()
    except (BenchmarkError, RqdError, redis.RedisError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return EXIT_BROKEN
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception:  # noqa: BLE001 - the interpreter's status 1 would say that a floor was missed
        traceback.print_exc()
        return EXIT_BROKEN
    print(text_report(around, bench.results, bench.labels))
    if options.json:
        write_json(options.json, around, bench.results)
    return EXIT_OK if all(claim.is_kept for claim in claims(bench.results)) else EXIT_MISSED


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bin/bench", description=__doc__)
    parser.add_argument("--rounds", type=_positive, help="how often each contender runs  [3]")
    parser.add_argument("--quick", action="store_true", help="one short round, under a minute")
    parser.add_argument(
        "--only", type=_groups, default=GROUPS, metavar="A,B", help=f"of {', '.join(GROUPS)}"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there, too")
    return parser.parse_args(argv)


def _groups(text: str) -> tuple[str, ...]:
    chosen = tuple(name.strip() for name in text.split(","))
    if unknown := [name for name in chosen if name not in GROUPS]:
        raise argparse.ArgumentTypeError(f"no {unknown[0]!r}: choose from {', '.join(GROUPS)}")
    return tuple(name for name in GROUPS if name in chosen)


def _positive(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 50:
        raise argparse.ArgumentTypeError("from 1 to 50")
    return number


def _reverse(names: Sequence[str]) -> list[str]:
    return list(reversed(names))


if __name__ == "__main__":
    sys.exit(main())
