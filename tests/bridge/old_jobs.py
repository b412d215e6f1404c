"""Jobs of a program that enqueues by RQ."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any, Self

import rqd


class Counter:
    """An instance whose method is a job."""

    def __init__(self, start: int) -> None:
        self.start = start

    def add(self, more: int) -> int:
        return self.start + more

    @classmethod
    def of(cls, start: int) -> Self:
        return cls(start)


def multiply(x: int, y: int) -> int:
    return x * y


def divide(x: int, y: int) -> float:
    return x / y


def crash() -> None:
    ctypes.string_at(0)


def echo(value: Any) -> Any:
    return value


def append(path: str) -> None:
    with open(path, "a") as history:
        history.write("x")


def always_fail(path: str) -> None:
    append(path)
    raise ValueError("always")


def fail_once(path: str) -> str:
    if not Path(path).exists():
        append(path)
        raise ValueError("the first time")
    return "the second time"


def note_meta() -> None:
    job: Any = rqd.get_current_job()
    job.meta["b"] = 2
    job.save_meta()


def ask_rq_for_a_retry() -> Any:
    import rq

    return rq.Retry(max=3)
