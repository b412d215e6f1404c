"""Somebody comes from RQ and changes the import alone: what learnt preloading makes of that.

No-ops of a module that imports rqd, a process for each, 4 at a time, after the first second: by a
daemon without `--preload`, by one that preloads the module, and by RQ's pool, whose worker has
imported its jobs. Rounds are interleaved. After `bin/setup bench`:

    python -m benchmarks.ported [ROUNDS]
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

from benchmarks import tasks
from benchmarks.apps import ported_app
from benchmarks.contenders.base import Contender
from benchmarks.contenders.rq import RqPool
from benchmarks.contenders.rqd import Rqd
from benchmarks.processes import running, wait_for
from benchmarks.server import Server, started_server

_FIRST_S, _COUNTED_S = 1.0, 2.0
# More than anybody does in that time.
_BACKLOG = 12_000
_LIMIT_S = 60.0


class _Watch:
    """Counts what is finished between two moments after the first job."""

    def __init__(self, contender: Contender) -> None:
        self._contender = contender
        self._first_at = 0.0
        self._from: tuple[float, int] | None = None
        self.rate = 0.0

    def is_done(self) -> bool:
        """Looks; True once the time to be counted is over."""
        count, now = self._contender.finished(), time.perf_counter()
        if not self._first_at:
            self._first_at = now if count else 0.0
        elif self._from is None:
            if now >= self._first_at + _FIRST_S:
                self._from = (now, count)
        elif now >= self._from[0] + _COUNTED_S:
            self.rate = (count - self._from[1]) / (now - self._from[0])
            return True
        return False


def _rate(server: Server, contender: Contender, function: Callable[[], int]) -> float:
    server.empty()
    contender.enqueue_many(function, _BACKLOG)
    watch, log = _Watch(contender), server.folder / "contender.log"
    with running(contender.command, server.env, log) as process:
        wait_for(watch.is_done, contender.label, _LIMIT_S, process, log)
    return watch.rate


def main() -> None:
    """Prints each one's median rate, and the two ratios round by round."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    module = ported_app.__name__
    with started_server() as server:
        measures = {
            "import changed": partial(_rate, server, Rqd(server, preload=""), ported_app.noop),
            "--preload": partial(_rate, server, Rqd(server, preload=module), ported_app.noop),
            "rq worker-pool": partial(_rate, server, RqPool(server), tasks.noop),
        }
        rates: dict[str, list[float]] = {name: [] for name in measures}
        for _ in range(rounds):
            for name, measure in measures.items():
                rates[name].append(measure())
    for name, found in rates.items():
        print(f"{name:15} {statistics.median(found):7,.0f} jobs/s  {[*map(round, found)]}")
    for other in ("--preload", "rq worker-pool"):
        pairs = zip(rates["import changed"], rates[other], strict=True)
        ratios = [ours / theirs for ours, theirs in pairs]
        print(f"import changed / {other}: {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
