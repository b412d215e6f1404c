"""rqd itself; a process a job, or one for many."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.contenders.base import SCRIPTS, WORKERS, portions
from benchmarks.labels import REUSED, RQD
from benchmarks.server import Server
from rqd import Queue, use_redis
from rqd.store.keys import Keys

_NAMESPACE = "rqd"
MANY = 1000  # jobs a child, where children are reused


@dataclass
class Rqd:
    """Logs a line a job to a file, as all that it prints goes there."""

    server: Server
    workers: int = WORKERS
    jobs_per_child: int = 1
    preload: str = "benchmarks.tasks"
    queues: tuple[str, ...] = ("default",)
    options: tuple[str, ...] = ()
    label: str = field(init=False)

    def __post_init__(self) -> None:
        use_redis(self.server.url, namespace=_NAMESPACE)
        self.label = RQD if self.jobs_per_child == 1 else REUSED
        self._queues = [Queue(name) for name in self.queues]
        self._finished = [Keys(_NAMESPACE).index(name, "finished") for name in self.queues]

    @property
    def command(self) -> list[str]:
        start = [str(SCRIPTS / "rqd"), "start", "--url", self.server.url]
        start += ["--namespace", _NAMESPACE, "--queues", ",".join(self.queues)]
        start += ["--workers", str(self.workers), "--jobs-per-child", str(self.jobs_per_child)]
        return [*start, "--preload", self.preload, *self.options]

    def enqueue(self, function: Callable[..., Any], *args: float) -> Any:
        return self._queues[0].enqueue(function, *args)

    def enqueue_many(self, function: Callable[..., Any], count: int, *args: float) -> list[Any]:
        """Evenly over its queues."""
        handles = []
        each, more = divmod(count, len(self._queues))
        for number, queue in enumerate(self._queues):
            for size in portions(each + (number < more)):
                jobs = [queue.prepare_data(function, args) for _ in range(size)]
                handles += queue.enqueue_many(jobs)
        return handles

    def finished(self) -> int:
        """By one command if it has one queue."""
        if len(self._finished) == 1:
            return self.server.count("ZCARD", self._finished[0])
        with self.server.client.pipeline(transaction=False) as pipe:
            for key in self._finished:
                pipe.zcard(key)
            return sum(pipe.execute())

    def started(self) -> int:
        """How many jobs run, of the first queue."""
        return self.server.count("ZCARD", Keys(_NAMESPACE).index(self.queues[0], "started"))

    def result(self, handle: Any) -> Any:
        return handle.return_value()
