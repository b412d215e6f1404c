"""No-ops in processes that run job after job."""

from __future__ import annotations

from functools import partial

from benchmarks.bench import Bench, Run
from benchmarks.contenders import PEERS, REUSING
from benchmarks.contenders.base import Contender
from benchmarks.labels import PYTHON_PEERS, REUSED, SIDEKIQ
from benchmarks.results import Claimed, Quantity, Ratio
from benchmarks.throughput import backlog_rate

GUESS = 1500.0


class Reuse:
    """Everyone's four processes."""

    name = "reuse"
    quantities: tuple[Quantity, ...] = (
        Quantity("reuse", "processes reused, 4 of them, no-ops", "jobs/s"),
    )
    claims: tuple[Claimed, ...] = (
        Ratio("reused: rqd / the fastest Python peer", "reuse", REUSED, PYTHON_PEERS, 4),
        Ratio("reused: rqd / Sidekiq", "reuse", REUSED, (SIDEKIQ,), 1),
    )

    def runs(self, bench: Bench) -> list[Run]:
        """Each of them."""
        return [
            Run(contender.label, partial(_rate, bench, contender))
            for contender in bench.available({**PEERS, **REUSING})
        ]


def _rate(bench: Bench, contender: Contender) -> dict[str, float]:
    return {"reuse": backlog_rate(bench, contender, GUESS)}
