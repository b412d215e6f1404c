"""Two backends on rqd in the place of Django's own, for the tests that django_suite.py runs.

Its daemon and its tests share these settings: `DJANGO_SETTINGS_MODULE=benchmarks.django_backends`.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from asgiref.sync import sync_to_async

from rqd.client.job import Job
from rqd.django import RqdBackend

LIMIT_S = 20.0
SECRET_KEY = "for these tests"
USE_TZ = True
INSTALLED_APPS = ["rqd.django"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
TASKS = {"default": {"BACKEND": f"{__name__}.Unserved", "QUEUES": []}}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"lines": {"()": f"{__name__}.Lines"}},
    "handlers": {
        "file": {
            "class": "logging.FileHandler",
            "filename": os.environ["DJANGO_SUITE_LOG"],
            "formatter": "lines",
        }
    },
    # The tests' own process says of the same tasks what it hears from the daemon's.
    "loggers": {
        "django.tasks": {
            "level": "DEBUG",
            "handlers": ["file"] if "DJANGO_SUITE_DAEMON" in os.environ else [],
        }
    },
}


class Lines(logging.Formatter):
    """Writes a record, its traceback included, as a line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps([record.levelno, super().format(record)])


class Unserved(RqdBackend):
    """A backend that no daemon serves, with what the dummy backend has for tests."""

    def __init__(self, alias: str, params: Any) -> None:
        super().__init__(alias, params)
        self.settings = replace(self.settings, namespace="unserved")
        self.results: list[Any] = []

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        self.results.append(super().enqueue(task, args, kwargs))
        return self.results[-1]

    async def aenqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        self.results.append(await super().aenqueue(task, args, kwargs))
        return self.results[-1]

    def clear(self) -> None:
        """Deletes what was enqueued."""
        for result in self.results:
            Job.fetch(result.id, connection=self.backend).delete()
        self.results = []


class Served(RqdBackend):
    """A backend whose daemon runs a task before its enqueue returns, as the immediate one does."""

    def __init__(self, alias: str, params: Any) -> None:
        super().__init__(alias, params)
        self.settings = replace(self.settings, namespace="served")

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        return self._ended(super().enqueue(task, args, kwargs))

    async def aenqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        return await sync_to_async(self._ended)(await super().aenqueue(task, args, kwargs))

    def _ended(self, result: Any) -> Any:
        if result.enqueued_at is None:
            return result  # the transaction is open
        deadline = time.monotonic() + LIMIT_S
        while not result.is_finished and time.monotonic() < deadline:
            Job.fetch(result.id, connection=self.backend).wait(LIMIT_S)
            result.refresh()
        for level, line in _lines(result.id, deadline):
            logging.getLogger("django.tasks").log(level, "%s", line)
        return result


def _lines(result_id: str, deadline: float) -> Iterator[tuple[int, str]]:
    """Yields what the daemon logged of a task, up to its end."""
    with open(os.environ["DJANGO_SUITE_LOG"]) as file:
        while time.monotonic() < deadline:
            if not (line := file.readline()).endswith("\n"):
                file.seek(file.tell() - len(line))
                time.sleep(0.005)
                continue
            level, text = json.loads(line)
            if result_id in text:
                yield level, text
                if "state=FAILED" in text or "state=SUCCESSFUL" in text:
                    return
