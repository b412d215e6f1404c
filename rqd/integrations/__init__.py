"""Middleware for what others keep track of jobs with; each module imports its own library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rqd.model.errors import JobTimeoutException

FLUSH_S = 2.0
_TRIES = 4


def flush_to_the_end(flush: Callable[[], Any]) -> None:
    """Sends what is held back, before the job's process leaves without any clean-up.

    The exception of a job that timed out is raised again every half second, here too.
    """
    for _ in range(_TRIES):
        try:
            flush()
        except JobTimeoutException:
            continue
        return
