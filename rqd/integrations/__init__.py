"""Middleware for other tools that keep track of jobs; each module imports its own library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rqd.model.errors import JobTimeoutException

FLUSH_S = 2.0
_TRIES = 4


def flush_to_the_end(flush: Callable[[], Any]) -> None:
    """Calls `flush` before the job's process leaves without any clean-up; tries four times.

    A timed-out job's exception is raised again every half second, here too.
    """
    for _ in range(_TRIES):
        try:
            flush()
        except JobTimeoutException:
            continue
        return
