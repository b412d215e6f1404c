"""Detects kills by the kernel for want of memory. The kernel reports them by counters only."""

from __future__ import annotations

import signal
from collections import deque
from dataclasses import replace
from pathlib import Path

from rqd.daemon.host.cgroups import OomKill, SlotGroup, counters, own_group
from rqd.daemon.workers.attempt import Attempt
from rqd.model.outcome import Crashed, OutOfMemory, Report

# A process of many gigabytes takes its time to die, and to be reported.
_WINDOW_S = 5.0
_HOST = Path("/proc/vmstat")


class OomCounter:
    """Counts the processes that the kernel has killed for their memory.

    `is_own`: counts only kills in the daemon's own control group, which holds its jobs where it is
    a unit or a container; else counts all kills on the host.
    """

    def __init__(self, source: tuple[Path, bool] | None = None) -> None:
        self._path, self.is_own = source or _own_source()
        self._seen: deque[tuple[float, int]] = deque()

    def look(self, now: float) -> None:
        """Samples the counter; call it now and then while jobs run."""
        self._seen.append((now, self._count()))
        while len(self._seen) > 1 and self._seen[1][0] <= now - _WINDOW_S:
            self._seen.popleft()

    def has_risen(self, now: float) -> bool:
        """True if the counter has risen in the last seconds."""
        self.look(now)
        return self._seen[-1][1] > self._seen[0][1]

    def _count(self) -> int:
        return counters(self._path).get("oom_kill", 0)


def explain(
    attempt: Attempt, report: Report, group: SlotGroup | None, counter: OomCounter, now: float
) -> Report:
    """Returns the report of a death, corrected if the kernel killed for want of memory.

    `group` is the group of the worker's slot, None where it has none.
    """
    killed = group.take_oom_kill() if group is not None else None
    outcome, limit_bytes = report.outcome, attempt.limits.memory_bytes
    if not isinstance(outcome, Crashed) or outcome.signal != signal.SIGKILL or attempt.verdict:
        return report
    used_bytes = report.usage.peak_memory_bytes or 0
    if killed is OomKill.AT_LIMIT and limit_bytes is not None:
        return replace(report, outcome=OutOfMemory(max(used_bytes, limit_bytes), limit_bytes, True))
    if killed is None and not counter.has_risen(now):
        return report
    if killed is not None or counter.is_own:
        return replace(report, outcome=OutOfMemory(used_bytes, None, True))
    note = "perhaps by the kernel: it has just killed for want of memory on this host"
    return replace(report, outcome=replace(outcome, note=note))


def _own_source() -> tuple[Path, bool]:
    if (group := own_group()) and "oom_kill" in counters(group / "memory.events"):
        return group / "memory.events", True
    if (group := own_group("memory")) and "oom_kill" in counters(group / "memory.oom_control"):
        return group / "memory.oom_control", True
    return _HOST, False
