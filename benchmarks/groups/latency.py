"""From the call of enqueue to the job's first line: on idle workers, and half loaded."""

from __future__ import annotations

import random
import time
from functools import partial
from typing import Any

from benchmarks import tasks
from benchmarks.bench import Bench, Run
from benchmarks.contenders import PEERS, REUSING, RQ, RQD
from benchmarks.contenders.base import WORKERS, Contender
from benchmarks.labels import RQD as RQD_LABEL
from benchmarks.processes import BenchmarkError, running, wait_for
from benchmarks.results import Bound, Claimed, Quantity, percentile

_PAUSE_S = 0.025
_JITTER_S = 0.010  # so that samples don't fall in step with anyone's polling
_RESULT_TIMEOUT_S = 10.0
_BUSY_S = 0.01  # what a job of the load takes
_UTILISATION = 0.5
_LOADED_S = 2.5
_TITLE = "enqueue's call to the job's first line, ms"


class Latency:
    """Both clocks are this machine's; enqueue's own round trip is in it."""

    name = "latency"
    quantities: tuple[Quantity, ...] = (
        Quantity("idle.p50", _TITLE, "idle, p50", 2),
        Quantity("idle.p99", _TITLE, "idle, p99", 2),
        Quantity("loaded.p50", _TITLE, "half busy, p50", 2),
        Quantity("loaded.p99", _TITLE, "half busy, p99", 2),
    )
    claims: tuple[Claimed, ...] = (
        Bound("idle, enqueue to first line: p50", "idle.p50", RQD_LABEL, 1, "ms"),
        Bound("idle, enqueue to first line: p99", "idle.p99", RQD_LABEL, 4, "ms"),
        Bound("half loaded, enqueue to first line: p99", "loaded.p99", RQD_LABEL, 10, "ms"),
    )

    def runs(self, bench: Bench) -> list[Run]:
        """rqd in each round, its peers in the first; RQ's pool can't fork often enough for load."""
        peers = bench.available(PEERS) + bench.available(REUSING)
        return [
            *(Run(one.label, partial(_measure, bench, one)) for one in bench.available(RQD)),
            *(Run(one.label, partial(_measure, bench, one), 1) for one in peers),
            *(
                Run(one.label, partial(_measure, bench, one, loaded=False), 1)
                for one in bench.available(RQ)
            ),
        ]


def _measure(bench: Bench, contender: Contender, loaded: bool = True) -> dict[str, float]:
    log = bench.server.folder / "contender.log"
    with running(contender.command, bench.server.env, log) as process:
        warm_up = contender.enqueue_many(tasks.noop, 2 * WORKERS)
        wait_for(
            lambda: contender.finished() >= len(warm_up),
            f"{contender.label}, warm-up",
            30.0,
            process,
            log,
        )
        time.sleep(0.5)
        waits = [_one(contender) for _ in range(bench.effort.samples)]
        found = {"idle.p50": percentile(waits, 50), "idle.p99": percentile(waits, 99)}
        if loaded:
            waits = _under_load(contender)
            found |= {"loaded.p50": percentile(waits, 50), "loaded.p99": percentile(waits, 99)}
    return {name: seconds * 1000 for name, seconds in found.items()}


def _one(contender: Contender) -> float:
    """A job that comes alone, 25 to 35 ms before the next."""
    before = time.time()
    handle = contender.enqueue(tasks.started_at)
    time.sleep(_PAUSE_S + random.uniform(0, _JITTER_S))
    return _result(contender, handle) - before


def _under_load(contender: Contender) -> list[float]:
    """Jobs that come by chance, as in life; the same chance for all, as the seed is one."""
    chance = random.Random(1)
    per_s = _UTILISATION * WORKERS / _BUSY_S
    due, sent = time.time(), []
    end = due + _LOADED_S
    while (due := due + chance.expovariate(per_s)) < end:
        time.sleep(max(0.0, due - time.time()))
        sent.append((time.time(), contender.enqueue(tasks.sleep, _BUSY_S)))
    return [_result(contender, handle) - before for before, handle in sent]


def _result(contender: Contender, handle: Any) -> float:
    deadline = time.monotonic() + _RESULT_TIMEOUT_S
    while (value := contender.result(handle)) is None:
        if time.monotonic() > deadline:
            raise BenchmarkError(f"{contender.label}: no result of {handle!r}")
        time.sleep(0.005)
    return float(value)
