"""`bin/growth`: what a job costs where there is much of everything, against where there is little.

Two namespaces on one server, one small and one large, take turns, so that a machine that is busy
for a while favours neither. Each case makes one thing large; claim and settle, enqueue and beat are
timed, and the memory of a real master that works in each is read.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from benchmarks.processes import BenchmarkError, running, wait_for
from benchmarks.report import surroundings
from benchmarks.server import Server, started_server
from rqd.model.call import encode_call
from rqd.model.limits import RateLimit
from rqd.model.records import Claim, NewJob, Template
from rqd.model.terms import dump_terms
from rqd.store.connection import client_connection
from rqd.store.messages import Beat, Settlement, Turn
from rqd.store.store import Store

FLAT = 1.5
_LEASE_US = 15_000_000
_FAR_US = 10**15
_WORKERS = 4
_ROUNDS = 300
_AT_ONCE = 250  # jobs a turn that fills a namespace
_JOBS_OF_A_MASTER = 200
_, _NOOP = encode_call("benchmarks.tasks.noop", (), {})


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much there is of everything."""

    ready: int = 0
    finished: int = 0
    scheduled: int = 0
    queues: int = 1
    waiters: int = 0
    limited: int = 0


@dataclass(frozen=True, slots=True)
class Case:
    """What is made large; everything else is as small as in its counterpart."""

    label: str
    large: Sizes


@dataclass(slots=True)
class Measured:
    """Medians in microseconds, small then large; the master's memory in bytes."""

    label: str
    turn_us: tuple[float, float] = (0, 0)
    enqueue_us: tuple[float, float] = (0, 0)
    beat_us: tuple[float, float] = (0, 0)
    master_bytes: tuple[int, int] = (0, 0)

    @property
    def is_flat(self) -> bool:
        """True if claim + settle, and the master's memory, grew by no more than FLAT."""
        return all(large <= FLAT * small for small, large in (self.turn_us, self.master_bytes))


@dataclass
class Namespace:
    """One namespace, filled to a size, and the masters' side of it driven by hand."""

    server: Server
    name: str
    sizes: Sizes
    held: tuple[Claim, ...] = ()
    waiters: list[socket.socket] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = Store(client_connection(self.server.url), self.name)
        self.queues = tuple(f"q{number}" for number in range(self.sizes.queues))
        self._number = 0
        self._fill()

    def turn(self) -> None:
        """Settles four jobs and claims four."""
        self._turn(_WORKERS)

    def enqueue(self) -> None:
        """One job more, to the queue that is served last."""
        self._enqueue(1, Template(self.queues[-1]))

    def beat(self) -> None:
        """One heartbeat of a master that runs four jobs."""
        running = tuple((one.id, one.token, "") for one in self.held)
        self.store.beat(Beat("m", "boot", _LEASE_US, 15, "", running, {"boot": "boot"}, {}))

    def rearm(self) -> None:
        """Idle masters that a marker woke wait again."""
        for waiter in self.waiters:
            try:
                while waiter.recv(65536, socket.MSG_DONTWAIT):
                    waiter.sendall(self._wait_command())
            except BlockingIOError:
                continue

    def master_bytes(self) -> int:
        """The memory of a real master once it has run some jobs here, in bytes."""
        log = self.server.folder / "master.log"
        command = [sys.executable, "-m", "rqd", "start", "--url", self.server.url]
        command += ["--namespace", self.name, "--queues", ",".join(self.queues)]
        command += ["--workers", str(_WORKERS), "--preload", "benchmarks.tasks"]
        before = self._done()
        self._enqueue(_JOBS_OF_A_MASTER, Template(self.queues[0], at_front=True))
        with running(command, {**os.environ}, log) as process:
            wait_for(
                lambda: self._done() >= before + _JOBS_OF_A_MASTER,
                f"a master in {self.name}",
                60,
                process,
                log,
            )
            return int(psutil.Process(process.pid).memory_info().rss)

    def _fill(self) -> None:
        sizes = self.sizes
        self._fill_finished(sizes.finished)
        self._fill_limited(sizes.limited)
        scheduled = Template(self.queues[0], due_us=self._now_us() + _FAR_US)
        self._enqueue(sizes.scheduled, scheduled)
        for number, queue in enumerate(self.queues):
            share = sizes.ready // len(self.queues)
            more = number < sizes.ready % len(self.queues)
            self._enqueue(share + more, Template(queue))
        for _ in range(sizes.waiters):
            waiter = socket.create_connection(self.server.address)
            waiter.sendall(self._wait_command())
            self.waiters.append(waiter)
        self.turn()

    def _fill_finished(self, count: int) -> None:
        for done in range(0, count, _AT_ONCE):
            self._enqueue(min(_AT_ONCE, count - done), Template(self.queues[0], result_ttl_s=-1))
            self._turn(_AT_ONCE)
        self._turn(0)

    def _fill_limited(self, count: int) -> None:
        """Jobs that wait for a limit which one holds that runs for ever."""
        if not count:
            return
        limit = dump_terms({"limit": RateLimit("k", concurrency=1).term()})
        self._enqueue(count + 1, Template(self.queues[0], terms=limit))
        numbers = tuple(range(1, _WORKERS + 1))
        while self.server.count("ZCARD", self.store.keys.ready(self.queues[0])):
            request = self.store.request_id()
            self.store.turn(Turn(request, "holder", _LEASE_US, (), numbers, self.queues))

    def _turn(self, workers: int) -> None:
        ended = tuple(
            Settlement(one.id, one.token, one.worker, "finish", result=b"result")
            for one in self.held
        )
        numbers = tuple(range(1, workers + 1))
        request = self.store.request_id()
        turn = Turn(request, "m", _LEASE_US, ended, numbers, self.queues if workers else ())
        self.held = self.store.turn(turn).claims

    def _enqueue(self, count: int, template: Template) -> None:
        first, self._number = self._number, self._number + count
        for start in range(first, first + count, 10_000):
            jobs = [
                NewJob(f"job-{number}", template, "benchmarks.tasks.noop", _NOOP)
                for number in range(start, min(start + 10_000, first + count))
            ]
            self.store.enqueue(jobs, self.store.request_id())

    def _wait_command(self) -> bytes:
        keys = [self.store.keys.wake_queue(queue) for queue in self.queues]
        words = ["BZPOPMIN", f"{self.store.keys.wake_master('idle')}", *keys, "0"]
        parts = [f"*{len(words)}\r\n", *(f"${len(word)}\r\n{word}\r\n" for word in words)]
        return "".join(parts).encode()

    def _done(self) -> int:
        return self.server.count("ZCARD", self.store.keys.index(self.queues[0], "finished"))

    def _now_us(self) -> int:
        return int(time.time() * 1e6)


def measure(server: Server, case: Case) -> Measured:
    """One case: both namespaces are filled, then take turns."""
    server.empty()
    # As many queues' worth of ready jobs as the turns use up, in both.
    least = _ROUNDS * _WORKERS + 100
    small = Namespace(server, "small", Sizes(ready=least, finished=100, scheduled=100))
    sizes = asdict(case.large)
    sizes["ready"] = max(least, case.large.ready)
    large = Namespace(server, "large", Sizes(**sizes))
    found = Measured(case.label)
    try:
        found.turn_us = _both(small.turn, large.turn, large.rearm)
        found.enqueue_us = _both(small.enqueue, large.enqueue, large.rearm)
        found.beat_us = _both(small.beat, large.beat, large.rearm)
        found.master_bytes = small.master_bytes(), large.master_bytes()
    finally:
        for waiter in large.waiters:
            waiter.close()
    return found


def _both(
    small: Callable[[], None], large: Callable[[], None], between: Callable[[], None]
) -> tuple[float, float]:
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(_ROUNDS):
        for call, kept in zip((small, large), times, strict=True):
            began = time.perf_counter()
            call()
            kept.append(time.perf_counter() - began)
            between()
    return statistics.median(times[0]) * 1e6, statistics.median(times[1]) * 1e6


def cases(scale: float) -> Iterator[Case]:
    """What is made large, `scale` 1 for the whole."""

    def size(count: int) -> int:
        return int(count * scale)

    yield Case(f"{size(1_000_000):,} ready jobs", Sizes(ready=size(1_000_000)))
    yield Case(f"{size(1_000_000):,} finished jobs", Sizes(finished=size(1_000_000)))
    yield Case(f"{size(100_000):,} scheduled jobs", Sizes(scheduled=size(100_000)))
    yield Case(f"{size(100_000):,} jobs of a full limit", Sizes(limited=size(100_000)))
    yield Case(f"{size(1_000):,} queues, all with work", Sizes(queues=size(1_000)))
    yield Case(f"{size(500):,} idle masters", Sizes(waiters=size(500)))


def main() -> int:
    """Measures and prints; 0 if all is flat, 1 if something grew, 2 if it could not be measured."""
    parser = argparse.ArgumentParser(prog="bin/growth", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the sizes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args()
    found = []
    try:
        with _quietly(), started_server() as server:
            around = {**surroundings(), "server": server.version()}
            print("\n".join(f"{name:<9} {value}" for name, value in around.items()))
            print(f"\n{_HEAD}\n{'-' * len(_HEAD)}")
            for case in cases(0.1 if options.quick else 1.0):
                found.append(measure(server, case))
                print(_row(found[-1]), flush=True)
    except (BenchmarkError, OSError) as error:
        print(f"bin/growth: {error}", file=sys.stderr)
        return 2
    if options.json:
        document = {"surroundings": around, "cases": [asdict(one) for one in found]}
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    return 0 if all(one.is_flat for one in found) else 1


_HEAD = (
    f"{'with':<28}{'claim+settle 4 us':>20}{'enqueue us':>16}{'beat us':>16}{'master MB':>16}"
    f"   at most {FLAT} x"
)


def _row(one: Measured) -> str:
    def pair(values: tuple[float, float], digits: int = 0) -> str:
        return f"{values[0]:.{digits}f} > {values[1]:.{digits}f}"

    megabytes = one.master_bytes[0] / 1e6, one.master_bytes[1] / 1e6
    return (
        f"{one.label:<28}{pair(one.turn_us):>20}{pair(one.enqueue_us):>16}{pair(one.beat_us):>16}"
        f"{pair(megabytes, 1):>16}   {'flat' if one.is_flat else 'GREW'}"
    )


@contextmanager
def _quietly() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise BenchmarkError("interrupted") from None


if __name__ == "__main__":
    sys.exit(main())
