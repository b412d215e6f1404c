"""Threads in which a site reads and changes Redis, some of each kind at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import anyio.to_thread
from anyio import CapacityLimiter

T = TypeVar("T")


class Threads:
    """Runs functions in threads; each kind of work has its own limit, with a connection a thread.

    `most` has the limit of each kind.
    """

    def __init__(self, most: Mapping[str, int]) -> None:
        self._most = most
        self._limiters: dict[str, CapacityLimiter] = {}

    async def run(self, work: Callable[[], T], kind: str) -> T:
        """Returns what `work` returns, once a thread of its kind is free."""
        return await anyio.to_thread.run_sync(work, limiter=self._limiter(kind))

    def are_busy(self, kind: str) -> bool:
        """True if work of this kind would have to wait for a thread."""
        return self._limiter(kind).available_tokens < 1

    def _limiter(self, kind: str) -> CapacityLimiter:
        if kind not in self._limiters:  # made late: it belongs to a running loop
            self._limiters[kind] = CapacityLimiter(self._most[kind])
        return self._limiters[kind]
