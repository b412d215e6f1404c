"""How soon the first job runs, how soon a stop is over, how soon a successor goes on."""

from __future__ import annotations

import select
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from os import pidfd_open
from typing import Any

from benchmarks import tasks
from benchmarks.bench import Bench, Run
from benchmarks.contenders import PEERS, RQ
from benchmarks.contenders.base import WORKERS, Contender
from benchmarks.contenders.rqd import Rqd
from benchmarks.labels import RQD as RQD_LABEL
from benchmarks.processes import BenchmarkError, running, wait_for
from benchmarks.results import Bound, Claimed, Quantity

_TITLE = "from the last job's end to the exit; from a kill to a successor's first settle, ms"
_TIMEOUT_S = 20.0
_LOOK_S = 0.002
_REPEATS = 2  # a round
_JOB_S = 0.5
_UNDER_WAY_S = 0.2  # from the claim until a job surely runs
_BACKLOG = 2000


class Startup:
    """Its peers only start: to stop, each has rules of its own."""

    name = "startup"
    quantities: tuple[Quantity, ...] = (
        Quantity("startup.first", "start to the first job's first line", "ms"),
        Quantity("startup.term", _TITLE, "stop: SIGTERM"),
        Quantity("startup.burst", _TITLE, "stop: --burst"),
        Quantity("startup.recovery", _TITLE, "kill -9"),
    )
    claims: tuple[Claimed, ...] = (
        Bound("start to the first job's first line", "startup.first", RQD_LABEL, 300, "ms"),
        Bound("last job's end to exit, SIGTERM", "startup.term", RQD_LABEL, 50, "ms"),
        Bound("last job's end to exit, --burst", "startup.burst", RQD_LABEL, 50, "ms"),
        Bound("kill -9 to a successor's first settle", "startup.recovery", RQD_LABEL, 1000, "ms"),
    )

    def runs(self, bench: Bench) -> list[Run]:
        """rqd several times a round, its peers once."""
        ours: list[tuple[str, Callable[[Bench], float]]] = [
            ("startup.first", lambda bench: _first(bench, Rqd(bench.server))),
            ("startup.term", _term),
            ("startup.burst", _burst),
            ("startup.recovery", _recovery),
        ]
        peers = bench.available({**RQ, **PEERS})
        return [
            *(
                Run(RQD_LABEL, partial(_measure, bench, name, how))
                for name, how in ours
                for _ in range(_REPEATS)
            ),
            *(Run(one.label, partial(_measure_first, bench, one), 1) for one in peers),
        ]


def _measure(bench: Bench, name: str, how: Callable[[Bench], float]) -> dict[str, float]:
    return {name: how(bench) * 1000}


def _measure_first(bench: Bench, contender: Contender) -> dict[str, float]:
    return {"startup.first": _first(bench, contender) * 1000}


def _first(bench: Bench, contender: Contender) -> float:
    handle, log = contender.enqueue(tasks.started_at), bench.server.folder / "contender.log"
    before = time.time()
    with running(contender.command, bench.server.env, log) as process:
        wait_for(lambda: contender.finished() > 0, contender.label, _TIMEOUT_S, process, log)
        return _returned(contender, handle) - before


def _term(bench: Bench) -> float:
    rqd, log = Rqd(bench.server), bench.server.folder / "contender.log"
    handles = rqd.enqueue_many(tasks.sleep_till, WORKERS, _JOB_S)
    with running(rqd.command, bench.server.env, log) as process:
        wait_for(lambda: rqd.started() == WORKERS, rqd.label, _TIMEOUT_S, process, log)
        time.sleep(_UNDER_WAY_S)
        process.send_signal(signal.SIGTERM)
        ended = _exit_of(process)
    return ended - max(_returned(rqd, handle) for handle in handles)


def _burst(bench: Bench) -> float:
    rqd = Rqd(bench.server, options=("--burst",))
    handles = rqd.enqueue_many(tasks.sleep_till, WORKERS, _JOB_S)
    with running(rqd.command, bench.server.env, bench.server.folder / "contender.log") as process:
        ended = _exit_of(process)
    return ended - max(_returned(rqd, handle) for handle in handles)


def _recovery(bench: Bench) -> float:
    """Both under one name: the successor knows that what the other held is free."""
    rqd = Rqd(bench.server, options=("--name", "bench"))
    rqd.enqueue_many(tasks.noop, _BACKLOG)
    env, folder = bench.server.env, bench.server.folder
    with running(rqd.command, env, log := folder / "first.log") as first:
        wait_for(lambda: rqd.finished() > WORKERS, rqd.label, _TIMEOUT_S, first, log)
        first.kill()
        killed = time.time()
        first.wait()
    settled = rqd.finished()
    with running(rqd.command, env, log := folder / "second.log") as second:
        wait_for(
            lambda: rqd.finished() > settled, rqd.label, _TIMEOUT_S, second, log, every_s=_LOOK_S
        )
        return time.time() - killed


def _returned(contender: Contender, handle: Any) -> float:
    result = contender.result(handle)
    if result is None:
        raise BenchmarkError(f"{contender.label}: {handle!r} has no result")
    return float(result)


def _exit_of(process: subprocess.Popen[bytes]) -> float:
    """When it exited, by a pidfd: Popen's own wait with a time limit looks now and then only."""
    poll = select.poll()
    poll.register(pidfd_open(process.pid), select.POLLIN)
    if not poll.poll(_TIMEOUT_S * 1000):
        raise BenchmarkError(f"{process.args!r} has not exited")
    return time.time()
