"""Tools for tests of code that uses rqd: run queues' jobs, and kill a job at each of its lines.

`Queue(is_async=False)` runs each job at once; the fixtures of rqd/pytest_plugin.py give a test a
server of its own.
"""

from __future__ import annotations

import inspect
import linecache
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import CodeType
from typing import Any

from rqd.client.connection import Connection
from rqd.client.queue import Queue
from rqd.client.worker import SimpleWorker, Worker
from rqd.daemon.host.embedded import EmbeddedServer
from rqd.daemon.trial import END, Step, run_trial
from rqd.model.call import import_function
from rqd.model.errors import ConfigurationError, RqdError

_READY_S = 30.0


def run_jobs(*queues: Queue | str, connection: Connection = None, forked: bool = False) -> None:
    """Runs the jobs of these queues, also new ones from the jobs, until the queues are empty.

    Without a queue it runs `default`. The jobs run in this process, one after the other. `forked`
    runs them in a daemon of its own, where a job may crash, time out and print as in production.
    Scheduled jobs go on waiting. Raises RqdError if the daemon could not run.
    """
    names = queues or ("default",)
    if not forked:
        SimpleWorker(names, connection=connection).work()
    elif not Worker(names, connection=connection).work():
        raise RqdError("the daemon ended with an error: its log, on stderr, says why")


@contextmanager
def embedded_server() -> Iterator[str]:
    """Runs a server of its own for the block, and yields its URL. It ends with this process, too.

    Raises RqdError without a server program: it comes with rqd's extra `embedded`, or is on PATH.
    """
    # /tmp, as the path of a unix socket is short.
    with tempfile.TemporaryDirectory(prefix="rqd-", dir="/tmp") as folder:
        server = EmbeddedServer(Path(folder))
        try:
            server.ensure()
            server.wait_ready(_READY_S)
            yield f"embedded:{folder}"
        finally:
            server.stop()


@dataclass(frozen=True, slots=True)
class CrashPoint:
    """A line at which a job may not be killed: its second run then ends otherwise.

    An undisturbed run gives the `expected` state, the second run the state `found`. The kill came
    before the line's `time`-th run. Line 0 is the end of the job, before its outcome is known.
    `error` is the error of the second run, empty without one.
    """

    file: str
    line: int
    time: int
    expected: Any
    found: Any
    error: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}, time {self.time}" if self.line else "at its end"
        text = linecache.getline(self.file, self.line).strip() if self.line else ""
        ended = f"the second run failed: {self.error.strip()}" if self.error else ""
        lines = [f"killed {where}: {text}".rstrip(": "), ended]
        if self.found != self.expected:
            lines += [f"  expected {self.expected!r}", f"  found    {self.found!r}"]
        return "\n".join(filter(None, lines))

    __repr__ = __str__


def crash_points(
    function: Callable[..., Any] | str,
    *args: Any,
    prepare: Callable[[], object],
    state: Callable[[], Any],
    also: Iterable[Callable[..., Any]] = (),
    limit_s: float = 30.0,
    **kwargs: Any,
) -> list[CrashPoint]:
    """Kills a job at each of its lines in turn, runs it again, and returns the lines that matter.

    rqd runs a job again when its worker's host was lost, so every job should bear that. In each
    trial `prepare()` makes the situation before the job. The job is killed by SIGKILL before a
    line, in a child of this process, and runs again to its end. Then `state()`, a value to be
    compared, has to be as after a run without a kill. A line that runs often is tried at its first
    and at its last time. `also` has functions that the job calls, whose lines are tried, too.
    `limit_s` limits each run, in seconds. An empty list means that the job may be killed anywhere.

    Raises AssertionError if the job fails undisturbed, ConfigurationError if `state` doesn't show
    that it ran, or `function` has no lines.
    """
    target = import_function(function) if isinstance(function, str) else function
    name = getattr(target, "__qualname__", repr(target))
    watched = frozenset(map(_code_of, (target, *also)))
    call = partial(target, *args, **kwargs)
    prepare()
    before = state()
    whole = run_trial(call, watched, None, 1, limit_s)
    if whole.error:
        raise AssertionError(f"{name} fails without being killed: {whole.error.strip()}")
    expected = state()
    if expected == before:
        raise ConfigurationError(
            f"state() is {before!r} before {name} and after it: let it return what the job changes"
        )
    failures = []
    for step in (*_first_and_last(whole.steps), END):
        prepare()
        run_trial(call, watched, step, 1, limit_s)
        error = run_trial(call, watched, None, 2, limit_s).error
        found = state()
        if error or found != expected:
            failures.append(CrashPoint(step.file, step.line, step.time, expected, found, error))
    return failures


def assert_idempotent(function: Callable[..., Any] | str, *args: Any, **more: Any) -> None:
    """Raises AssertionError with the lines that `crash_points` finds of this job, if any."""
    if failures := crash_points(function, *args, **more):
        name = getattr(function, "__qualname__", function)
        told = "\n".join(map(str, failures))
        raise AssertionError(
            f"{name} is not idempotent: killed and run again it ends otherwise\n{told}"
        )


def _first_and_last(steps: Iterable[Step]) -> list[Step]:
    """Returns each line's first and last step, in the order of the lines' first steps."""
    found: dict[tuple[str, int], list[Step]] = {}
    for step in steps:
        found.setdefault((step.file, step.line), []).append(step)
    return [one for times in found.values() for one in dict.fromkeys((times[0], times[-1]))]


def _code_of(function: Callable[..., Any]) -> CodeType:
    found: Any = function
    while isinstance(found, partial):
        found = found.func
    found = inspect.unwrap(found)
    if not inspect.isroutine(found):
        found = type(found).__call__
    code = getattr(getattr(found, "__func__", found), "__code__", None)
    if not isinstance(code, CodeType):
        raise ConfigurationError(f"{function!r} has no lines of Python to be killed at")
    return code
