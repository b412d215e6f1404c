"""Callbacks under test; they write to the file of RQD_TEST_HISTORY."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

from rqd.job import Job
from tests.middleware import note


def on_success(job: Job[Any], connection: Any, result: Any) -> None:
    note("success", job.id, job.get_status(), result, connection.ping())


def on_failure(job: Job[Any], connection: Any, kind: type, error: Any, traceback: Any) -> None:
    note("failure", job.id, job.get_status(), kind.__name__, error)


def on_stopped(job: Job[Any], connection: Any) -> None:
    note("stopped", job.id, job.get_status(), job.cause)


def die(*_: Any) -> None:
    note("dies")
    os.kill(os.getpid(), signal.SIGKILL)


def hang(*_: Any) -> None:
    note("hangs")
    threading.Event().wait()
