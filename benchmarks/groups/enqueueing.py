"""Jobs enqueued a second by one producer, with no workers about."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from benchmarks import tasks
from benchmarks.bench import Bench, Run
from benchmarks.contenders import PYTHON_PEERS, RQD
from benchmarks.contenders.base import BULK, Contender
from benchmarks.labels import CELERY, DRAMATIQ, HUEY, TASKIQ
from benchmarks.results import Bound, Claimed, Quantity, Ratio

_BETWEEN_LOOKS = 50  # single enqueues from one look at the clock to the next
_TITLE = "one producer enqueues, jobs/s"
# Who enqueues; the workers don't matter here.
_CLIENTS = {CELERY: "celery", DRAMATIQ: "dramatiq", HUEY: "huey", TASKIQ: "taskiq"}


class Enqueue:
    """Singly, each a round trip; and in bulk, a thousand a call where they have such a call."""

    name = "enqueue"
    quantities: tuple[Quantity, ...] = (
        Quantity("enqueue", _TITLE, "singly"),
        Quantity("bulk", _TITLE, "many at once"),
    )
    claims: tuple[Claimed, ...] = (
        Ratio("enqueue: rqd / RQ", "enqueue", "rqd", ("rq",), 3),
        Ratio("enqueue: rqd / Huey", "enqueue", "rqd", ("huey",), 1),
        Bound("enqueue_many: rqd", "bulk", "rqd", 50_000, "jobs/s", at_most=False),
    )

    def runs(self, bench: Bench) -> list[Run]:
        """RQ's pools have the same client, so one of them is left out."""
        contenders = bench.available({**RQD, **PYTHON_PEERS})
        return [
            Run(_CLIENTS.get(one.label, one.label.split()[0]), partial(_measure, bench, one))
            for one in contenders
        ]


def _measure(bench: Bench, contender: Contender) -> dict[str, float]:
    def one_by_one() -> int:
        for _ in range(_BETWEEN_LOOKS):
            contender.enqueue(tasks.noop)
        return _BETWEEN_LOOKS

    def in_bulk() -> int:
        return len(contender.enqueue_many(tasks.noop, BULK))

    return {
        "enqueue": _rate(bench, contender, one_by_one),
        "bulk": _rate(bench, contender, in_bulk),
    }


def _rate(bench: Bench, contender: Contender, some: Callable[[], int]) -> float:
    bench.server.empty()
    contender.enqueue(tasks.noop)  # loads scripts, opens the connection
    count, began = 0, time.perf_counter()
    while (passed_s := time.perf_counter() - began) < bench.effort.enqueue_s:
        count += some()
    return count / passed_s
