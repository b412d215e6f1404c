"""taskiq on a Redis stream: processes of an event loop each, one task at a time in each."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from benchmarks.contenders.base import SCRIPTS, WORKERS, need
from benchmarks.labels import TASKIQ
from benchmarks.server import Server


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """One for all, as the app's broker and its connections stay with the loop that began them."""
    from benchmarks.apps import taskiq_app

    loop = asyncio.new_event_loop()
    loop.run_until_complete(taskiq_app.broker.startup())
    return loop


@dataclass
class Taskiq:
    """One task at a time, as everyone runs four jobs at a time here."""

    server: Server
    label: str = TASKIQ

    def __post_init__(self) -> None:
        need("taskiq", "taskiq_redis")
        os.environ["BENCH_URL"] = self.server.url  # read when the app is imported
        from benchmarks.apps import taskiq_app

        self.calls: dict[Any, Any] = taskiq_app.calls
        self.loop = _loop()

    @property
    def command(self) -> list[str]:
        worker = [str(SCRIPTS / "taskiq"), "worker", "benchmarks.apps.taskiq_app:broker"]
        worker += ["--workers", str(WORKERS), "--max-async-tasks", "1"]
        return [*worker, "--log-level", "WARNING"]

    def enqueue(self, function: Callable[..., Any], *args: float) -> Any:
        return self.loop.run_until_complete(self.calls[function].kiq(*args))

    def enqueue_many(self, function: Callable[..., Any], count: int, *args: float) -> list[Any]:
        return self.loop.run_until_complete(self._send(self.calls[function], count, args))

    async def _send(self, task: Any, count: int, args: tuple[float, ...]) -> list[Any]:
        """One after the other: it has nothing for many, and a connection for each at once."""
        return [await task.kiq(*args) for _ in range(count)]

    def finished(self) -> int:
        return self.server.results_count()

    def result(self, handle: Any) -> Any:
        return self.loop.run_until_complete(self._result(handle))

    async def _result(self, handle: Any) -> Any:
        if not await handle.is_ready():
            return None
        return (await handle.get_result()).return_value
