"""From the call of enqueue to the job's first line, while all workers are idle."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import Any

from benchmarks import tasks
from benchmarks.contenders import WORKERS, Contender
from benchmarks.processes import BenchmarkError, running, wait_for
from benchmarks.server import Server

_PAUSE_S = 0.025
_JITTER_S = 0.010  # so that samples don't fall in step with anyone's polling
_RESULT_TIMEOUT_S = 10.0


@dataclass(slots=True)
class Latencies:
    """In seconds. `by_record`: the job record's started minus enqueued, where it has both."""

    to_first_line: list[float] = field(default_factory=list)
    by_record: list[float] = field(default_factory=list)


def measure_latency(server: Server, contender: Contender, samples: int) -> Latencies:
    """Enqueues one job at a time, each after the last is over; both clocks are this machine's."""
    server.empty()
    log = server.folder / "contender.log"
    found = Latencies()
    with running(contender.command, server.env, log) as process:
        warm_up = contender.enqueue_many(tasks.noop, 2 * WORKERS)
        wait_for(
            lambda: server.count(*contender.counter) >= len(warm_up),
            f"{contender.label}, warm-up",
            30.0,
            process,
            log,
        )
        time.sleep(0.5)
        for _ in range(samples):
            before = time.time()
            handle = contender.enqueue(tasks.started_at)
            time.sleep(_PAUSE_S + random.uniform(0, _JITTER_S))
            found.to_first_line.append(_result(contender, handle) - before)
            recorded = _by_record(handle)
            if recorded is not None:
                found.by_record.append(recorded)
    return found


def _result(contender: Contender, handle: Any) -> float:
    deadline = time.monotonic() + _RESULT_TIMEOUT_S
    while (value := contender.result(handle)) is None:
        if time.monotonic() > deadline:
            raise BenchmarkError(f"{contender.label}: no result of {handle!r}")
        time.sleep(0.005)
    return float(value)


def _by_record(handle: Any) -> float | None:
    """Only where both instants are the record's own; rqd's are by Redis' clock."""
    if not hasattr(handle, "started_at"):
        return None
    handle.refresh()
    if handle.started_at is None or handle.enqueued_at is None:
        return None
    return float((handle.started_at - handle.enqueued_at).total_seconds())
