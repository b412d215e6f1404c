"""Runs a call in a forked child and can kill it at any line, for `rqd.testing.crash_points`.

As in a worker the child leads a process group, which is killed with it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from select import POLLIN, poll
from types import CodeType, FrameType
from typing import Any, NoReturn

from rqd.model.current import current
from rqd.model.outcome import signal_name


@dataclass(frozen=True, slots=True)
class Step:
    """The n-th time that the call reaches a line; line 0 is the call's end."""

    file: str
    line: int
    time: int


END = Step("", 0, 1)


@dataclass(frozen=True, slots=True)
class Trial:
    """The result of a call: the steps of the watched functions, and an error unless it returned."""

    steps: tuple[Step, ...]
    error: str = ""


def run_trial(
    call: Callable[[], Any],
    watched: frozenset[CodeType],
    kill_at: Step | None,
    attempt: int,
    limit_s: float,
) -> Trial:
    """Calls in a child, which is killed at `kill_at`, before that line is run; None for nowhere.

    A call that has not ended after `limit_s` seconds is killed, and has an error.
    """
    read_fd, write_fd = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 and later warn of threads in this process. As with any fork, locks of other
        # threads stay locked in the child.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        os.close(read_fd)
        _live(call, watched, kill_at, attempt, write_fd)
    os.close(write_fd)
    try:
        answer = _read_to_end(read_fd, time.monotonic() + limit_s)
    finally:
        os.close(read_fd)
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    if answer is None:
        return Trial((), f"it had not ended after {limit_s:g} s")
    if answer:
        result = json.loads(answer)
        return Trial(tuple(Step(*step) for step in result["steps"]), result["error"])
    code = os.waitstatus_to_exitcode(status)
    how = signal_name(-code) if code < 0 else f"exit status {code}"
    return Trial((), f"it crashed: {how}")


def _live(
    call: Callable[[], Any],
    watched: frozenset[CodeType],
    kill_at: Step | None,
    attempt: int,
    write_fd: int,
) -> NoReturn:
    try:
        os.setpgid(0, 0)
        current().enter("crash-trial", "crash-points", attempt, attempt)
        steps: list[Step] = []
        error = ""
        sys.settrace(_tracer(watched, steps, kill_at))
        try:
            value = call()
            if type(value).__name__ == "coroutine":
                import asyncio  # noqa: PLC0415 - as a child does

                asyncio.run(value)
        except BaseException as raised:  # noqa: BLE001 - whatever a job raises is its outcome
            its_own = raised.__traceback__ and raised.__traceback__.tb_next  # without our own frame
            error = "".join(traceback.format_exception(raised.with_traceback(its_own)))
        sys.settrace(None)
        if kill_at == END:
            os.kill(os.getpid(), signal.SIGKILL)
        result = {"steps": [(one.file, one.line, one.time) for one in steps], "error": error}
        with os.fdopen(write_fd, "w") as answer:
            json.dump(result, answer)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    finally:
        os._exit(0)  # nothing of the test that forked us may go on here


def _tracer(
    watched: frozenset[CodeType], steps: list[Step], kill_at: Step | None
) -> Callable[..., Any]:
    times: Counter[tuple[str, int]] = Counter()

    def on_line(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            where = frame.f_code.co_filename, frame.f_lineno
            times[where] += 1
            step = Step(*where, times[where])
            if step == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            steps.append(step)
        return on_line

    def on_call(frame: FrameType, _event: str, _: Any) -> Any:
        return on_line if frame.f_code in watched else None

    return on_call


def _read_to_end(fd: int, deadline: float) -> bytes | None:
    """Reads to the end; None if the other end is still open at the deadline."""
    watch = poll()
    watch.register(fd, POLLIN)
    parts: list[bytes] = []
    while watch.poll(max(0.0, deadline - time.monotonic()) * 1000):
        part = os.read(fd, 65536)
        if not part:
            return b"".join(parts)
        parts.append(part)
    return None
