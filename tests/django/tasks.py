"""Tasks, as a project has them."""

from __future__ import annotations

import os
import signal
from typing import Any

import django

from rqd import Retry

if django.VERSION >= (6, 0):
    from django.tasks import task as task
else:
    from django_tasks import task as task


@task
def multiply(a: int, b: int) -> int:
    """Returns the product."""
    return a * b


@task(priority=10, queue_name="mails")
async def greet(name: str) -> str:
    """Returns a greeting."""
    return f"hello {name}"


@task(takes_context=True)
def which_attempt(context: Any, least: int = 1) -> list[Any]:
    """Returns its attempt and its id; fails before the attempt `least`."""
    if context.attempt < least:
        raise ValueError(f"attempt {context.attempt}")
    return [context.attempt, context.task_result.id]


@task
def crash() -> None:
    """Dies as by the kernel."""
    os.kill(os.getpid(), signal.SIGKILL)


@task
def read(path: str) -> str:
    """Reads a file, which may be a pipe."""
    with open(path) as file:
        return file.read()


@task
def returns_a_set() -> set[int]:
    """Returns what JSON does not have."""
    return {1}


@task
def returns_a_tuple() -> Any:
    """Returns what JSON has as a list."""
    return (1, "two")


@task
def careful() -> None:
    """Has options of rqd."""


# The decorator of Django 6.0 takes none of a backend's options.
careful = careful.using(retry=Retry(1), job_timeout="5m", max_memory="1G")


def no_task() -> int:
    """Is a plain function."""
    return int(multiply(3, 4))
