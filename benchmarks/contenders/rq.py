"""RQ: its worker pool, which forks a process for every job, and its pool of SimpleWorkers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import redis

from benchmarks.contenders.base import SCRIPTS, WORKERS, need, portions
from benchmarks.labels import RQ, RQ_SIMPLE
from benchmarks.server import Server


@dataclass
class RqPool:
    """The module of the worker's class imports the jobs before the fork, as RQ's docs advise."""

    server: Server
    workers: int = WORKERS
    worker: str = "PreloadedWorker"
    preload: str = ""
    queues: tuple[str, ...] = ("default",)
    label: str = field(init=False)

    def __post_init__(self) -> None:
        need("rq")
        from rq import Queue

        self.label = RQ_SIMPLE if self.worker == "PreloadedSimpleWorker" else RQ
        self.queue = Queue(connection=redis.Redis.from_url(self.server.url))

    @property
    def command(self) -> list[str]:
        pool = ["env", f"BENCH_PRELOAD={self.preload}"]
        pool += [str(SCRIPTS / "rq"), "worker-pool", "--quiet", "-n", str(self.workers)]
        pool += ["--url", self.server.url]
        return [*pool, "-w", f"benchmarks.apps.rq_worker.{self.worker}", *self.queues]

    def enqueue(self, function: Callable[..., Any], *args: float) -> Any:
        return self.queue.enqueue(function, *args)

    def enqueue_many(self, function: Callable[..., Any], count: int, *args: float) -> list[Any]:
        prepare, handles = self.queue.prepare_data, []
        for size in portions(count):
            handles += self.queue.enqueue_many([prepare(function, args) for _ in range(size)])
        return handles

    def finished(self) -> int:
        return self.server.count("ZCARD", "rq:finished:default")

    def result(self, handle: Any) -> Any:
        return handle.return_value(refresh=True)
