"""Kills a job at each of its lines in turn, and runs it again."""

from __future__ import annotations

import inspect
import linecache
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from types import CodeType
from typing import Any

from rqd.daemon.trial import END, Step, run_trial
from rqd.model.call import import_function
from rqd.model.errors import ConfigurationError


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
        shown = "\n".join(map(str, failures))
        raise AssertionError(
            f"{name} is not idempotent: killed and run again it ends otherwise\n{shown}"
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
