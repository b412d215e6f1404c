"""A queue of unmodified RQ, and a bridge on the same server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis

from rqd.bridge.bridge import Bridge
from rqd.client.connection import Backend
from tests.lacking import needs_rq
from tests.waiting import eventually


class Events:
    """A log that keeps its events, as (level, text, fields)."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, dict[str, object]]] = []

    def debug(self, text: str, **fields: object) -> None:
        self.events.append(("debug", text, fields))

    def info(self, text: str, **fields: object) -> None:
        self.events.append(("info", text, fields))

    def warning(self, text: str, **fields: object) -> None:
        self.events.append(("warning", text, fields))


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def there(redis_url: str) -> Backend:
    return Backend(None, redis_url)


@pytest.fixture
def bridge(there: Backend, events: Events) -> Bridge:
    return Bridge(there, ["default", "low"], events)


@pytest.fixture
def rq_queue(redis_client: redis.Redis) -> Any:
    """RQ's own queue `default`."""
    return needs_rq().Queue(connection=redis_client)


@pytest.fixture
def settle(bridge: Bridge) -> Callable[..., None]:
    """Takes turns until RQ's own handle shows one of these statuses for the job."""

    def wait_for(job: Any, *statuses: str) -> None:
        def is_there() -> bool:
            bridge.turn()
            return str(job.get_status().value) in statuses

        eventually(is_there, 15.0, lambda: f"{statuses}, but it is {job.get_status()}")

    return wait_for
