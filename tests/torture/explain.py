"""What a history's events say about one another: pure decisions of the checker.

A job that starts again must have a reason. It is a retry, if the attempt before it failed and was
charged; else the attempt was lost or put back, and a fault must have hit the master it ran on,
while it ran or before its outcome could be recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tests.torture.history import Event

# Outcomes are recorded, and frames read, a little after a fault is over.
_SLACK_S = 1.0
_EARLY_S = 0.05
RETRY = "retry"
REPEAT = "repeat"
ASKED = "asked"
# A job that ended so much later did so while the server's clock was forward.
_AN_AGE_S = 1800
_ON_MASTER = ("master", "zygote")
_BROKEN = "reload to a broken deploy"
_STOPS = ("SIGTERM of a master", "signal storm")


@dataclass(slots=True)
class Run:
    """One execution of a job. `how` and `ended` are None if it noted no end."""

    job: str
    t: float
    fence: int
    attempt: int
    pid: int
    master: str
    how: str | None = None
    ended: float | None = None

    def end(self, noted: Event | None) -> None:
        """It noted this as its end, if it did."""
        if noted is not None:
            self.how, self.ended = noted["how"], noted["t"]


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that was injected, from when to when."""

    name: str
    level: str
    master: str
    pid: int
    begin: float
    end: float


class Faults:
    """The faults of a campaign, found by what they hit."""

    def __init__(self, events: Iterable[Event], deaths: Iterable[Event]) -> None:
        """`deaths`: of masters."""
        died_at = {death["master"]: death["t"] for death in deaths}
        self.all = [
            Fault(e["name"], e["level"], e["master"], e["pid"], e["begin"], _end_of(e, died_at))
            for e in events
        ]
        self._on_master: dict[str, list[Fault]] = {}
        self._on_pid: dict[int, list[Fault]] = {}
        for fault in self.all:
            if fault.level in _ON_MASTER:
                self._on_master.setdefault(fault.master, []).append(fault)
            if fault.level == "child":
                self._on_pid.setdefault(fault.pid, []).append(fault)

    def on_master(self, master: str, since: float, until: float) -> Fault | None:
        """A fault of this master or its zygote that overlaps this time."""
        return _latest_of(self._on_master.get(master, ()), since, until)

    def of_deploy(self, master: str, at: float) -> Fault | None:
        """One that keeps this master, or another of its name, from importing the application."""
        name, _, _ = master.partition(".")
        broken = [f for f in self.all if f.name == _BROKEN and f.master.startswith(f"{name}.")]
        return _latest_of(broken, at, at)

    def of_clock(self, since: float, until: float) -> Fault | None:
        """A fault of the clock that due times are reckoned by."""
        return _latest_of((f for f in self.all if "clock" in f.name), since, until)

    def on_child(self, pid: int, since: float, until: float) -> Fault | None:
        """A fault of this child."""
        return _latest_of(self._on_pid.get(pid, ()), since, until)


def _end_of(fault: Event, died_at: Mapping[str, float]) -> float:
    """What stops a master goes on until that is gone: its grace may have to end first."""
    end: float = fault["end"]
    return max(end, died_at.get(fault["master"], end)) if fault["name"] in _STOPS else end


def _latest_of(faults: Iterable[Fault], since: float, until: float) -> Fault | None:
    fitting = [f for f in faults if f.begin - _EARLY_S <= until and f.end + _SLACK_S >= since]
    return max(fitting, key=lambda fault: fault.begin, default=None)


def retries_of(offer: Event) -> int:
    """How often a job may be retried: after each success anew, if it is repeated."""
    retries: int = offer["retries"]
    return retries * (1 + offer["again"]) if offer["kind"] == "repeated" else retries


def why_again(run: Run, after: Run, offer: Event, earlier: int, faults: Faults) -> str | None:
    """Why `after` started though `run` had: `retry`, `repeat`, `asked`, a fault's name, or None.

    `earlier` counts the retries of this job before. How often it was repeated its records say.
    """
    is_charged, retries = after.attempt > run.attempt, retries_of(offer)
    if is_charged and offer["kind"] == "repeated" and run.how == "returned":
        return REPEAT
    if is_charged and run.how == "RetryLater":
        return ASKED
    if is_charged and earlier < retries and run.how != "returned":
        return RETRY
    hit = faults.on_child(run.pid, run.t, after.t)
    if is_charged:
        # It had returned, and its child was killed before the master was told.
        return hit.name if hit and earlier < retries else None
    hit = faults.on_master(run.master, run.t, after.t)
    return hit.name if hit else None


def why_late(run: Run, newer: Run, faults: Faults) -> str | None:
    """Why `run` started after `newer`, though its fence is lower: what had stopped it, or None."""
    hit = faults.on_master(run.master, newer.t, run.t) or faults.on_child(run.pid, newer.t, run.t)
    return hit.name if hit else None


# What a cause says, and what the name of the fault behind it says.
_CAUSES = (
    ("crashed: SIGKILL", "SIGKILL of a child"),
    ("timed out", "SIGSTOP"),
    ("timed out", "hung"),
    ("abandoned", "master"),
    ("abandoned", "zygote"),
    ("Too many open files", "EMFILE"),
    ("Resource temporarily unavailable", "EAGAIN"),
    ("can't start new thread", "EAGAIN"),
    # RQ's words. It gives a job up whose worker is gone, and whose process died.
    ("Work-horse terminated", "SIGKILL"),
    ("Work-horse terminated", "master"),
    ("AbandonedJobError", ""),
    ("stuck in intermediate queue", "SIG"),
    ("redis.exceptions", ""),
)


def why_failed(job: Event, runs: Sequence[Run], offered: float, faults: Faults) -> str | None:
    """Which fault made a job fail that nothing is wrong with, or None."""
    is_told = 0 < job["ended"] < offered + _AN_AGE_S
    until = job["ended"] if is_told else float("inf")
    pids = {run.pid for run in runs} | {job["pid"]}
    masters = {run.master for run in runs}
    for told, name in _CAUSES:
        if told not in job["cause"]:
            continue
        for fault in reversed(faults.all):
            if name not in fault.name or fault.end + _SLACK_S < offered or fault.begin > until:
                continue
            if _may_hit(fault, job, pids, masters):
                return fault.name
    return None


def _may_hit(fault: Fault, job: Event, pids: set[int], masters: set[str]) -> bool:
    if fault.level == "child":
        return fault.pid in pids
    if fault.level == "redis" or not masters:
        return True
    return fault.master in masters or fault.master.rpartition(".")[0] == job["master"]
