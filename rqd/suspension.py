"""All of a namespace paused, under RQ's names: daemons start no jobs; those that run go on."""

from __future__ import annotations

from typing import Any

from rqd.connection import Connection, backend_for
from rqd.model.errors import ConfigurationError
from rqd.model.names import parse_duration_s
from rqd.store.keys import ALL_QUEUES


def suspend(connection: Connection = None, ttl: float | str | None = None) -> None:
    """Has no jobs started, of any queue, until `resume`, or for `ttl` seconds (or `"10m"`)."""
    backend_for(connection).store.pause(ALL_QUEUES, time_of_pause_s(ttl, "ttl"))


def resume(connection: Connection = None) -> None:
    """Has jobs started again; paused queues stay so."""
    backend_for(connection).store.resume(ALL_QUEUES)


def is_suspended(
    connection: Connection = None,
    worker: Any = None,  # noqa: ARG001 - RQ's; all workers are, or none
) -> bool:
    """True while everything is suspended."""
    return ALL_QUEUES in backend_for(connection).views.paused()


def time_of_pause_s(value: float | str | None, what: str) -> float | None:
    """Seconds; None, as for -1, until it is resumed. Raises ConfigurationError."""
    seconds = parse_duration_s(value, what)
    if seconds == 0:
        raise ConfigurationError(f"{what} 0 would be no pause: write seconds, or '10m'")
    return None if seconds == -1 else seconds
