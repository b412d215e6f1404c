"""The outcome of an attempt, and the words for it.

The master makes an Outcome for every attempt; the operator reads its `cause`.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The call returned: its serialized result, a short repr, the child's signature."""

    result: bytes
    preview: str = ""
    signature: str = ""


@dataclass(frozen=True, slots=True)
class Raised:
    """The call raised: the exception's dotted type, its message and traceback.

    `ancestors` are the dotted names of the classes it descends from.
    """

    exc_type: str
    message: str
    traceback: str
    ancestors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AskedAgain:
    """The job asks to run again: it returned a Retry, or raised RetryLater.

    `most` limits the number of such runs in all, None for no limit; `rules` are as in RetryRules.
    """

    most: int | None
    intervals: tuple[float, ...] = ()
    rules: Mapping[str, Any] = field(default_factory=dict)
    message: str = ""


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The job ran longer than `limit_s`; killed if it did not stop by itself.

    `is_cpu`: the limit is on the cpu time of all its processes.
    """

    limit_s: float
    killed: bool
    traceback: str = ""
    is_cpu: bool = False


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    """The job was killed for the memory of its processes: above `limit_bytes`, or by the kernel.

    `limit_bytes` is None if the host or the daemon's group had no memory left.
    """

    used_bytes: int
    limit_bytes: int | None
    by_kernel: bool = False


@dataclass(frozen=True, slots=True)
class Crashed:
    """The child died without an answer: by a signal, or by leaving with a status of its own.

    `sent_by` names the sender of the signal where it is known, as for signals of rqd itself.
    """

    signal: int = 0
    exit_status: int = 0
    core_dumped: bool = False
    note: str = ""  # any further detail about the death
    sent_by: str = ""


@dataclass(frozen=True, slots=True)
class Released:
    """The attempt ended for a reason outside the job: the daemon stopped, say. Not charged.

    `is_usual`: nothing happened; the job was only held for a moment and had not begun.
    """

    reason: str
    is_usual: bool = False


@dataclass(frozen=True, slots=True)
class Lost:
    """The job's process or host died. Not charged, but counted: the job may be the killer."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The daemon refuses this job for its content or its writer. Charged, never retried."""

    reason: str


@dataclass(frozen=True, slots=True)
class Parked:
    """The job can't be judged here and now; it is looked at again in `delay_s`. Not charged."""

    reason: str
    delay_s: float


@dataclass(frozen=True, slots=True)
class Stopped:
    """Somebody stopped the job: by an exception in it, or by a kill if that did not end it.

    Charged, and never retried.
    """

    by: str
    killed: bool = False
    traceback: str = ""


Outcome = (
    Succeeded
    | Raised
    | AskedAgain
    | TimedOut
    | OutOfMemory
    | Crashed
    | Released
    | Lost
    | Refused
    | Parked
    | Stopped
)


@dataclass(frozen=True, slots=True)
class Usage:
    """The resources that an attempt used: wall and cpu in seconds, its own peak memory in bytes.

    None where nobody could measure. `load_s` is the part of the wall time until the function and
    its arguments were loaded. It is 0 if nothing was imported for them. `peak_memory_bytes` is the
    higher of two figures: the highest sample of memory that the job dirtied, and the growth of its
    peak RSS over the zygote's.
    """

    wall_s: float | None = None
    cpu_s: float | None = None
    peak_memory_bytes: int | None = None
    load_s: float | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """An attempt's outcome and all that is known about it.

    Its usage and pid; the tail and the whole length of its output; the death of its process, if it
    died; its threads' stack. `zygote` says which zygote of its master forked it, from 1.
    """

    outcome: Outcome
    usage: Usage = field(default_factory=Usage)
    pid: int = 0
    output_tail: bytes = b""
    output_bytes: int = 0
    death: Crashed | None = None
    stack: str = ""
    zygote: int = 0


def sent_by(outcome: Outcome) -> str:
    """Names the sender of the signal that ended the process, where it is known; else empty."""
    match outcome:
        case Crashed(sent_by=sender):
            return sender
        case TimedOut(killed=True):
            return "rqd, as it ran on after its timeout"
        case Stopped(by, killed=True):
            return f"rqd, for {by}"
        case OutOfMemory(by_kernel=True):
            return "the kernel, for want of memory"
        case OutOfMemory():
            return "rqd, as it was above its memory"
        case _:
            return ""


def has_stack(outcome: Outcome) -> bool:
    """True if a stack says more about this ending than its own traceback does."""
    return isinstance(outcome, Crashed | TimedOut | Stopped | Lost)


def cause(outcome: Outcome) -> str:
    """Says in a single line how the attempt ended: `crashed: SIGSEGV (core dumped)`."""
    match outcome:
        case Succeeded():
            return "succeeded"
        case Raised(exc_type, message):
            return _with_first_line(f"raised {exc_type.removeprefix('builtins.')}", message)
        case AskedAgain(most, message=message):
            limit = "" if most is None else f", {most} times at most"
            return _with_first_line(f"asked to run again{limit}", message)
        case TimedOut():
            return _timeout(outcome)
        case OutOfMemory():
            return _shortage(outcome)
        case Crashed():
            return f"crashed: {_death(outcome)}"
        case Lost(reason):
            return f"lost as {reason}"
        case Released(reason) | Refused(reason) | Parked(reason):
            return f"{type(outcome).__name__.lower()}: {reason}"
        case Stopped(by, killed):
            return f"stopped by {by}{', killed' if killed else ''}"


def cause_kind(outcome: Outcome) -> str:
    """Returns the kind of a failure's cause, for counts; empty if the attempt did not fail.

    An abandoned job is of a kind of its own, `abandoned`, as no outcome says that.
    """
    match outcome:
        case Raised():
            return "raised"
        case TimedOut():
            return "timed_out"
        case OutOfMemory():
            return "out_of_memory"
        case Crashed():
            return "crashed"
        case Refused():
            return "refused"
        case Stopped():
            return "stopped"
        case _:
            return ""


def _shortage(outcome: OutOfMemory) -> str:
    if outcome.limit_bytes is None:
        return "out of memory: killed by the kernel, as the host or the daemon's group had no more"
    used, limit = _mebibytes(outcome.used_bytes), _mebibytes(outcome.limit_bytes)
    by = ", killed by the kernel" if outcome.by_kernel else ""
    return f"out of memory: {used} MiB of {limit} MiB{by}"


def _mebibytes(size_bytes: int) -> int:
    return -(-size_bytes // 1024**2)  # rounded up, so that a use above a limit shows as that


def _timeout(outcome: TimedOut) -> str:
    kind = " of cpu time" if outcome.is_cpu else ""
    ending = ", killed as it did not stop" if outcome.killed else ""
    return f"timed out after {outcome.limit_s:g} s{kind}{ending}"


def _death(crash: Crashed) -> str:
    if not crash.signal:
        return f"exit status {crash.exit_status}"
    note = f", {crash.note}" if crash.note else ""
    return f"{signal_name(crash.signal)}{' (core dumped)' if crash.core_dumped else ''}{note}"


def _with_first_line(what: str, message: str) -> str:
    first_line = message.strip().split("\n", 1)[0]
    return f"{what}: {first_line}" if first_line else what


def signal_name(number: int) -> str:
    """Returns `SIGSEGV` for 11; `signal 40` for a signal without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
