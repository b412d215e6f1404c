"""Dramatiq on Redis: processes of one thread each, as its docs advise for work that computes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.contenders.base import SCRIPTS, WORKERS, need
from benchmarks.labels import DRAMATIQ
from benchmarks.server import Server


@dataclass
class Dramatiq:
    """Its middleware is the default's, and Results."""

    server: Server
    label: str = DRAMATIQ

    def __post_init__(self) -> None:
        need("dramatiq")
        os.environ["BENCH_URL"] = self.server.url  # read when the app is imported
        from benchmarks.apps import dramatiq_app

        self.calls = dramatiq_app.calls

    @property
    def command(self) -> list[str]:
        workers = [str(SCRIPTS / "dramatiq"), "benchmarks.apps.dramatiq_app"]
        return [*workers, "--processes", str(WORKERS), "--threads", "1"]

    def enqueue(self, function: Callable[..., Any], *args: float) -> Any:
        return self.calls[function].send(*args)

    def enqueue_many(self, function: Callable[..., Any], count: int, *args: float) -> list[Any]:
        """One after the other: it has nothing for many."""
        send = self.calls[function].send
        return [send(*args) for _ in range(count)]

    def finished(self) -> int:
        return self.server.results_count()

    def result(self, handle: Any) -> Any:
        from dramatiq.results import ResultMissing

        try:
            return handle.get_result()
        except ResultMissing:
            return None
