"""Measures what an enqueue of a Django task costs beside a plain one of rqd.

    python -m benchmarks.django_enqueue

In turns, on one server: the plain enqueue of the same call, the same with the two callbacks of a
task, and the task itself. Prints the median of the rounds in microseconds, the ratio to the plain
enqueue, and the bytes that a job takes in Redis.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

from django.conf import settings

from benchmarks.server import Server, started_server
from benchmarks.tasks import burn

_ROUNDS = 9
_JOBS = 2000
_CALLBACK = "rqd.django.signals.send_task_finished"


def main() -> int:
    with started_server() as server:
        here = {"BACKEND": "rqd.django.RqdBackend", "OPTIONS": {"url": server.url}}
        settings.configure(TASKS={"default": here})
        enqueues = _enqueues(server)
        times: dict[str, list[float]] = {name: [] for name in enqueues}
        sizes = {}
        for _ in range(_ROUNDS):
            for name, enqueue in enqueues.items():
                server.empty()
                enqueue(0)  # loads the scripts
                before, began = _used(server), time.perf_counter()
                for number in range(_JOBS):
                    enqueue(number)
                times[name].append((time.perf_counter() - began) / _JOBS * 1e6)
                sizes[name] = (_used(server) - before) / _JOBS
    plain = statistics.median(times["plain"])
    print(f"{'':16}{'us':>8}{'ratio':>8}{'bytes':>8}")
    for name, took in times.items():
        middle = statistics.median(took)
        print(f"{name:16}{middle:8.0f}{middle / plain:8.2f}{sizes[name]:8.0f}")
    return 0


def _enqueues(server: Server) -> dict[str, Callable[[int], object]]:
    from rqd import Queue
    from rqd.django.framework import Task, task_backends

    queue = Queue(connection=server.url, serializer="json")
    task = task_backends["default"].task_class(func=burn)
    assert isinstance(task, Task)
    name, both = task.module_path, {"on_failure": _CALLBACK, "on_stopped": _CALLBACK}
    return {
        "plain": lambda number: queue.enqueue(name, number),
        "two callbacks": lambda number: queue.enqueue(name, number, **both),
        "a task": task.enqueue,
    }


def _used(server: Server) -> int:
    memory: dict[str, int] = server.client.info("memory")
    return memory["used_memory"]


if __name__ == "__main__":
    sys.exit(main())
