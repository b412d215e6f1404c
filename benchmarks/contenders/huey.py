"""Huey with worker processes, each of which runs job after job; it has no process a job."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.contenders.base import SCRIPTS, WORKERS, need
from benchmarks.labels import HUEY
from benchmarks.server import Server


@dataclass
class Huey:
    """RedisHuey and its consumer."""

    server: Server
    label: str = HUEY

    def __post_init__(self) -> None:
        need("huey")
        os.environ["BENCH_URL"] = self.server.url  # read when the app is imported
        from benchmarks.apps import huey_app

        self.calls: dict[Callable[..., Any], Any] = huey_app.calls

    @property
    def command(self) -> list[str]:
        consumer = [str(SCRIPTS / "huey_consumer"), "benchmarks.apps.huey_app.huey", "--quiet"]
        return [*consumer, "--worker-type", "process", "--workers", str(WORKERS)]

    def enqueue(self, function: Callable[..., Any], *args: float) -> Any:
        return self.calls[function](*args)

    def enqueue_many(self, function: Callable[..., Any], count: int, *args: float) -> list[Any]:
        call = self.calls[function]
        return [call(*args) for _ in range(count)]

    def finished(self) -> int:
        return self.server.count("HLEN", "huey.results.bench")

    def result(self, handle: Any) -> Any:
        return handle.get(preserve=True)
