"""`python -m benchmarks.dashboard [JOBS]`: what the dashboard costs.

First how long its pages take with a million failed jobs. Then what fifty viewers cost the server
and the daemon, in windows that alternate with none, under 1,500 jobs a second.
"""

from __future__ import annotations

import socket
import statistics
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from subprocess import Popen
from typing import Any

import psutil

from benchmarks import tasks
from benchmarks.contenders.base import SCRIPTS
from benchmarks.contenders.rqd import Rqd
from benchmarks.processes import running, wait_for
from benchmarks.searching import fill
from benchmarks.server import Server, started_server

_JOBS = 1_000_000
_PAGES = ("/", "/jobs", "/jobs?filter=function:shop.tasks.f7", "/failures", "/queues", "/hosts")
_LOOKS = 5
_VIEWERS, _RATE, _WINDOW_S, _WINDOWS = 50, 1500, 10.0, 3
_PORT_OF = "dashboard: "


def main() -> None:
    """Prints both tables."""
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else _JOBS
    _pages(jobs)
    print()
    _viewers()


def _pages(jobs: int) -> None:
    with started_server() as server:
        fill(server, jobs)
        with _dashboard(server) as (port, _):
            print(f"{jobs:,} failed jobs, {server.version()}")
            print(f"{'page':<44}{'first, ms':>12}{'median of 5, ms':>18}")
            for path in _PAGES:
                first, *more = [_fetch(port, path) for _ in range(1 + _LOOKS)]
                print(f"{path:<44}{first:>12,.0f}{statistics.median(more):>18,.0f}")


def _fetch(port: int, path: str) -> float:
    began = time.perf_counter()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
        answer.read()
    return (time.perf_counter() - began) * 1000


@contextmanager
def _dashboard(server: Server) -> Iterator[tuple[int, Popen[bytes]]]:
    log = server.folder / "web.log"
    command = [str(SCRIPTS / "rqd"), "web", "--url", server.url, "--port", "0"]
    with running(command, server.env, log) as process:
        wait_for(lambda: _PORT_OF in log.read_text(), "the dashboard", 20.0, process, log)
        address = log.read_text().partition("http://127.0.0.1:")[2]
        yield int(address.partition("/")[0]), process


def _viewers() -> None:
    with started_server() as server, ExitStack() as open_:
        contender = Rqd(server, workers=4, jobs_per_child=1000)
        log = server.folder / "daemon.log"
        daemon = open_.enter_context(running(contender.command, server.env, log))
        port, web = open_.enter_context(_dashboard(server))
        feeding = threading.Event()
        feeder = threading.Thread(target=_feed, args=(contender, feeding), daemon=True)
        feeder.start()
        wait_for(lambda: contender.finished() > _RATE, "jobs", 30.0, daemon, log)
        rows: dict[int, list[tuple[float, float, float, float]]] = {0: [], _VIEWERS: []}
        for _ in range(_WINDOWS):
            for count in rows:
                with _watching(port, count):
                    rows[count].append(_window(server, daemon, web))
        feeding.set()
        feeder.join()
    heads = ("jobs/s", "server, % of a core", "daemon, % of a core", "rqd web, % of a core")
    print(f"{_RATE:,} jobs a second enqueued, medians of {_WINDOWS} windows of {_WINDOW_S:g} s")
    print(f"{'viewers':<10}" + "".join(f"{head:>24}" for head in heads))
    for count, found in rows.items():
        medians = [statistics.median(column) for column in zip(*found, strict=True)]
        print(f"{count:<10}" + "".join(f"{value:>24,.1f}" for value in medians))


def _feed(contender: Rqd, ended: threading.Event) -> None:
    due = time.monotonic()
    while not ended.is_set():
        contender.enqueue_many(tasks.noop, _RATE // 10)
        due += 0.1
        time.sleep(max(0.0, due - time.monotonic()))


@contextmanager
def _watching(port: int, count: int) -> Iterator[None]:
    """Keeps so many live pages open, and reads all that comes."""
    viewers = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
    readers = [threading.Thread(target=_read, args=(one,), daemon=True) for one in viewers]
    for one, reader in zip(viewers, readers, strict=True):
        one.sendall(b"GET /overview.live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        reader.start()
    try:
        yield
    finally:
        for one in viewers:
            one.shutdown(socket.SHUT_RDWR)
            one.close()


def _read(viewer: socket.socket) -> None:
    try:
        while viewer.recv(65536):
            pass
    except OSError:
        pass  # closed at the end of the window


def _window(
    server: Server, daemon: Popen[bytes], web: Popen[bytes]
) -> tuple[float, float, float, float]:
    time.sleep(1.0)  # the first page of each viewer is not what it costs to watch
    before = _used(server, daemon, web)
    time.sleep(_WINDOW_S)
    after = _used(server, daemon, web)
    jobs, *cpu = (b - a for a, b in zip(before, after, strict=True))
    return (jobs / _WINDOW_S, *(100 * seconds / _WINDOW_S for seconds in cpu))  # type: ignore[return-value]  # four


def _used(server: Server, daemon: Popen[bytes], web: Popen[bytes]) -> tuple[float, ...]:
    stats: Any = server.client.hgetall("{rqd}:stats:default")
    jobs = float(stats.get(b"finished", 0))
    return (jobs, *(_cpu_s(pid) for pid in (server.pid, daemon.pid, web.pid)))


def _cpu_s(pid: int) -> float:
    """The cpu time of a process and of its children that run."""
    process = psutil.Process(pid)
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


if __name__ == "__main__":
    main()
