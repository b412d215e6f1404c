"""Gives jobs the clean-up of connections that a request has; `manage.py rqd start` sets it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import close_old_connections, reset_queries


def fresh_connections(job: Any, call: Callable[[], Any]) -> Any:  # noqa: ARG001 - a middleware's
    """Closes connections that broke or are older than CONN_MAX_AGE, before and after the job.

    A child that runs one job after another keeps the others, as a web server does.
    """
    reset_queries()
    close_old_connections()
    try:
        return call()
    finally:
        close_old_connections()
