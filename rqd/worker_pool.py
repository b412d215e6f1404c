"""`WorkerPool(...).start()`, RQ's: here one worker with as many places."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from rqd.connection import Connection
from rqd.model.errors import ConfigurationError
from rqd.queue import Queue
from rqd.worker import SimpleWorker, Worker

__all__ = ["WorkerPool"]


class WorkerPool:
    """Works on queues, `num_workers` jobs at a time: `Worker(.., workers=..)` under RQ's name."""

    def __init__(
        self,
        queues: Queue | str | Iterable[Queue | str],
        connection: Connection = None,
        num_workers: int = 1,
        worker_class: type[Worker | SimpleWorker] = Worker,
        exception_handlers: Callable[..., Any] | str | Iterable[Callable[..., Any] | str] = (),
        **rqs: Any,
    ) -> None:
        """`worker_class` as RQ's: SimpleWorker means a Worker here, whose jobs are forked too.

        `rqs` as for `Worker`. Raises ConfigurationError for another class, and as `Worker` does.
        """
        if not (isinstance(worker_class, type) and issubclass(worker_class, Worker | SimpleWorker)):
            raise ConfigurationError(f"worker_class={worker_class!r}: write rqd.Worker")
        kind = worker_class if issubclass(worker_class, Worker) else Worker
        self._worker = kind(
            queues,
            connection=connection,
            workers=num_workers,
            exception_handlers=exception_handlers,
            **rqs,
        )
        self.queues = self._worker.queues
        self.num_workers = num_workers

    def start(self, burst: bool = False, logging_level: str | int | None = None) -> None:
        """Works until it is told to stop (Ctrl-C, SIGTERM, `rqd stop`), or with `burst` until the
        queues are empty. Raises RqdError if it could not start.
        """
        self._worker.work(burst, logging_level)
