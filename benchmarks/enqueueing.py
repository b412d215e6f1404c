"""Jobs enqueued a second by one producer, with no workers about."""

from __future__ import annotations

import time

from benchmarks import tasks
from benchmarks.contenders import BULK, Contender
from benchmarks.server import Server

_BETWEEN_LOOKS = 50  # single enqueues from one look at the clock to the next


def measure_singly(server: Server, contender: Contender, seconds: float) -> float:
    """One `enqueue` after the other, each a round trip."""
    server.empty()
    contender.enqueue(tasks.noop)  # loads scripts, opens the connection
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for _ in range(_BETWEEN_LOOKS):
            contender.enqueue(tasks.noop)
        count += _BETWEEN_LOOKS
    return count / (time.perf_counter() - began)


def measure_in_bulk(server: Server, contender: Contender, seconds: float) -> float:
    """`enqueue_many`, a thousand a call, their preparation included."""
    server.empty()
    contender.enqueue(tasks.noop)
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        contender.enqueue_many(tasks.noop, BULK)
        count += BULK
    return count / (time.perf_counter() - began)
