"""What the daemon of these tests preloads: Django, the tasks, and receivers that note signals."""

from __future__ import annotations

import os
from typing import Any

from tests.django.settings import set_up

set_up()

import tests.django.tasks  # noqa: E402, F401 - needs the settings
from rqd.django.framework import TaskResult, signals  # noqa: E402 - as above


def note(kind: str, result: TaskResult) -> None:
    """Adds a line to the file that SIGNALS_FILE names."""
    line = f"{kind} {result.id} {result.status} {len(result.errors)} {result.attempts}\n"
    with open(os.environ["SIGNALS_FILE"], "a") as file:
        file.write(line)


def note_start(task_result: TaskResult, **_: Any) -> None:
    """Notes a start."""
    note("started", task_result)


def note_end(task_result: TaskResult, **_: Any) -> None:
    """Notes an end."""
    note("finished", task_result)


signals.task_started.connect(note_start)
signals.task_finished.connect(note_end)
