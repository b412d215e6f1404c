"""Commands that clients send for each job, by MONITOR: it marks what scripts do inside as `lua`.

INFO's counters can't tell: they count a script's own commands too. Never timed: MONITOR slows.
"""

from __future__ import annotations

import re
import socket
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks import tasks
from benchmarks.contenders import WORKERS, Contender
from benchmarks.processes import running, wait_for
from benchmarks.server import Server

_LINE = re.compile(rb'\+\d+\.\d+ \[\d+ ([^\]]+)\] "([^"]+)"')
_ONE_BY_ONE = 20
_PAUSE_S = 0.06


@dataclass(frozen=True, slots=True)
class Commands:
    """Commands a job, and which ones."""

    enqueue: float
    backlog: float
    idle: float
    names: dict[str, int]


def measure_commands(server: Server, contender: Contender, jobs: int) -> Commands:
    """Counts three times: for `enqueue`, for workers on a backlog, and on jobs that come singly.

    The backlog's count includes the workers' boot. The last is a median over jobs, so that what
    idle workers send by the clock doesn't count.
    """
    server.empty()
    contender.enqueue(tasks.noop)
    server.empty()
    with _monitored(server) as enqueued:
        for _ in range(jobs):
            contender.enqueue(tasks.noop)
    log = server.folder / "contender.log"
    polls = 0

    def is_done() -> bool:
        nonlocal polls
        polls += 1
        return server.count(*contender.counter) >= target

    with _monitored(server) as worked, running(contender.command, server.env, log) as process:
        target = jobs
        wait_for(is_done, f"{contender.label}, counting", 60.0, process, log, every_s=0.1)
        worked_off = Counter(worked)
        worked_off[contender.counter[0]] -= polls
        contender.enqueue_many(tasks.noop, 2 * WORKERS)
        target, polls = jobs + 2 * WORKERS, 0
        wait_for(is_done, f"{contender.label}, counting", 60.0, process, log)
        time.sleep(0.5)
        singly = []
        for _ in range(_ONE_BY_ONE):
            before = worked.total()
            contender.enqueue(tasks.noop)
            time.sleep(_PAUSE_S)
            singly.append(worked.total() - before)
    each = enqueued.total() / jobs
    return Commands(
        enqueue=each,
        backlog=worked_off.total() / jobs,
        idle=statistics.median(singly) - each,
        names={name: count for name, count in worked_off.most_common(6) if count > 0},
    )


@contextmanager
def _monitored(server: Server) -> Iterator[Counter[str]]:
    """Counts by name what clients send, from here to the end of the block."""
    seen: Counter[str] = Counter()
    with socket.create_connection(server.address) as connection:
        connection.sendall(b"MONITOR\r\n")
        lines = connection.makefile("rb")
        lines.readline()
        reader = threading.Thread(target=_count, args=(lines, seen), daemon=True)
        reader.start()
        try:
            yield seen
        finally:
            time.sleep(0.2)  # the stream runs a little behind
            connection.shutdown(socket.SHUT_RDWR)
            reader.join(5.0)
            lines.close()


def _count(lines: Iterator[bytes], seen: Counter[str]) -> None:
    for line in lines:
        if (match := _LINE.match(line)) and match[1] != b"lua":
            seen[match[2].decode().upper()] += 1
