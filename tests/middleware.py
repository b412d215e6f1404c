"""What the daemons under test have around their jobs; it writes to the file of RQD_TEST_HISTORY."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from rqd.model.middleware import RunningJob


def note(*words: object) -> None:
    with Path(os.environ["RQD_TEST_HISTORY"]).open("a") as history:
        history.write(" ".join(map(str, words)) + "\n")


def outer(job: RunningJob, call: Callable[[], Any]) -> Any:
    note("outer", job.func_name.rpartition(".")[2], job.args)
    try:
        return call()
    except ZeroDivisionError as error:
        raise ValueError("translated") from error
    finally:
        note("outer is over")


def inner(job: RunningJob, call: Callable[[], Any]) -> Any:
    result = call()
    note("inner", result, job.description)  # the last is asked of Redis
    return result + 1


def mark(job: RunningJob, *_: object) -> None:
    job.meta = {**job.meta, "handled": True}
    job.save()


def broken(job: RunningJob, call: Callable[[], Any]) -> Any:
    raise RuntimeError("the middleware is broken")


def divide(x: int, y: int) -> float:
    note("divide")
    return x / y


async def divide_later(x: int, y: int) -> float:
    return divide(x, y)


def report(
    job: RunningJob, kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    note("report", kind.__name__, job.func_name.rpartition(".")[2], trace is not None)


def fail_to_report(job: RunningJob, *exc_info: Any) -> None:
    raise LookupError("the handler is broken")


def stop_if_divided(job: RunningJob, kind: type[BaseException], *_: Any) -> bool:
    return kind is not ZeroDivisionError


def hang_or_die(job: RunningJob, kind: type[BaseException], *_: Any) -> None:
    if kind is ValueError:
        os.kill(os.getpid(), signal.SIGKILL)
    threading.Event().wait()


class Layer:
    pass
