"""Celery with Redis as broker and result backend, and its prefork pool."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.contenders.base import SCRIPTS, WORKERS, need
from benchmarks.labels import CELERY
from benchmarks.server import Server


@dataclass
class Celery:
    """Without gossip, mingle and heartbeats, which one worker alone on Redis has no use for."""

    server: Server
    label: str = CELERY

    def __post_init__(self) -> None:
        need("celery")
        os.environ["BENCH_URL"] = self.server.url  # read when the app is imported
        from benchmarks.apps import celery_app

        self.app, self.calls = celery_app.app, celery_app.calls

    @property
    def command(self) -> list[str]:
        worker = [str(SCRIPTS / "celery"), "-A", "benchmarks.apps.celery_app", "worker"]
        worker += ["--concurrency", str(WORKERS), "--loglevel", "WARNING"]
        return [*worker, "--without-gossip", "--without-mingle", "--without-heartbeat"]

    def enqueue(self, function: Callable[..., Any], *args: float) -> Any:
        return self.calls[function].delay(*args)

    def enqueue_many(self, function: Callable[..., Any], count: int, *args: float) -> list[Any]:
        """One after the other through one producer, which is the most it has."""
        task = self.calls[function]
        with self.app.producer_or_acquire() as producer:
            return [task.apply_async(args, producer=producer) for _ in range(count)]

    def finished(self) -> int:
        return self.server.results_count()

    def result(self, handle: Any) -> Any:
        return handle.result
