"""Who is measured: how each is started, takes jobs, and has its finished jobs counted.

All get the same server, the same functions, four processes, results stored, and little logging.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from benchmarks import tasks
from benchmarks.server import Server

WORKERS = 4
BULK = 1000  # jobs a call of enqueue_many
_SCRIPTS = Path(sys.executable).parent


class Contender(Protocol):
    """A job queue as the measurements see it. A handle is what its own enqueue returns."""

    @property
    def label(self) -> str:
        """What the table calls it."""
        ...

    @property
    def command(self) -> list[str]:
        """Starts its workers."""
        ...

    @property
    def counter(self) -> tuple[str, str]:
        """The Redis command and key that tell how many jobs are finished."""
        ...

    def enqueue(self, function: Callable[[], Any]) -> Any:
        """Puts one call on the queue."""
        ...

    def enqueue_many(self, function: Callable[[], Any], count: int) -> list[Any]:
        """Puts many on the queue, as fast as it can."""
        ...

    def result(self, handle: Any) -> Any:
        """What the job returned; None while it has not."""
        ...


@dataclass
class Rqd:
    """rqd; a process a job, or one for many."""

    server: Server
    jobs_per_child: int = 1
    label: str = field(init=False)
    command: list[str] = field(init=False)
    counter: tuple[str, str] = field(init=False)

    def __post_init__(self) -> None:
        from rqd import Queue, use_redis
        from rqd.store.keys import Keys

        use_redis(self.server.url, namespace="rqd")
        self.queue = Queue()
        reuses = self.jobs_per_child > 1
        self.label = f"rqd --jobs-per-child {self.jobs_per_child}" if reuses else "rqd"
        self.command = [str(_SCRIPTS / "rqd"), "start", "--url", self.server.url]
        self.command += ["--namespace", "rqd", "--workers", str(WORKERS)]
        self.command += ["--preload", "benchmarks.tasks"]
        self.command += ["--jobs-per-child", str(self.jobs_per_child)]
        self.counter = ("ZCARD", Keys("rqd").index("default", "finished"))

    def enqueue(self, function: Callable[[], Any]) -> Any:
        return self.queue.enqueue(function)

    def enqueue_many(self, function: Callable[[], Any], count: int) -> list[Any]:
        prepare, handles = self.queue.prepare_data, []
        for size in _portions(count):
            handles += self.queue.enqueue_many([prepare(function) for _ in range(size)])
        return handles

    def result(self, handle: Any) -> Any:
        return handle.return_value()


@dataclass
class RqPool:
    """RQ's worker pool, which forks a process for every job."""

    server: Server
    label: str = f"rq worker-pool -n {WORKERS}"
    command: list[str] = field(init=False)
    counter: tuple[str, str] = ("ZCARD", "rq:finished:default")

    def __post_init__(self) -> None:
        import redis
        from rq import Queue

        self.queue = Queue(connection=redis.Redis.from_url(self.server.url))
        self.command = [str(_SCRIPTS / "rq"), "worker-pool", "--quiet", "-n", str(WORKERS)]
        self.command += ["--url", self.server.url]
        self.command += ["--worker-class", "benchmarks.rq_worker.PreloadedWorker", "default"]

    def enqueue(self, function: Callable[[], Any]) -> Any:
        return self.queue.enqueue(function)

    def enqueue_many(self, function: Callable[[], Any], count: int) -> list[Any]:
        prepare, handles = self.queue.prepare_data, []
        for size in _portions(count):
            handles += self.queue.enqueue_many([prepare(function) for _ in range(size)])
        return handles

    def result(self, handle: Any) -> Any:
        return handle.return_value(refresh=True)


@dataclass
class Huey:
    """Huey with worker processes, each of which runs job after job."""

    server: Server
    label: str = f"huey -k process -w {WORKERS}"
    command: list[str] = field(init=False)
    counter: tuple[str, str] = ("HLEN", "huey.results.bench")

    def __post_init__(self) -> None:
        os.environ["BENCH_URL"] = self.server.url  # read by huey_tasks when it is imported
        from benchmarks import huey_tasks

        self.calls = {tasks.noop: huey_tasks.noop, tasks.started_at: huey_tasks.started_at}
        self.command = [str(_SCRIPTS / "huey_consumer"), "benchmarks.huey_tasks.huey", "--quiet"]
        self.command += ["--worker-type", "process", "--workers", str(WORKERS)]

    def enqueue(self, function: Callable[[], Any]) -> Any:
        return self.calls[function]()

    def enqueue_many(self, function: Callable[[], Any], count: int) -> list[Any]:
        call = self.calls[function]
        return [call() for _ in range(count)]

    def result(self, handle: Any) -> Any:
        return handle.get(preserve=True)


def _portions(count: int) -> Iterator[int]:
    while count > 0:
        yield min(BULK, count)
        count -= BULK
