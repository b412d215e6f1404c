"""The boots of zygotes: how long each may take, and when the next one is tried."""

from __future__ import annotations

import math
from dataclasses import dataclass

# Before a zygote is replaced that was replaced a moment ago.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 30.0
# One that has served for so long is replaced at once: whatever ended it does not end each.
_SERVED_WELL_S = 5.0
# What a zygote may take to boot: a minute, or this many times what the one before it took; where
# that isn't known, what no application takes that comes to an end of it.
_SHORTEST_LIMIT_S, _LIMIT_TIMES = 60.0, 10
_FIRST_LIMIT_S = 600.0


@dataclass(frozen=True, slots=True)
class Boot:
    """An import of the application that is under way, and when it has to be done."""

    since: float
    ready_by: float


class Boots:
    """Those under way, by pid; and when the next one is tried, if one waits."""

    def __init__(self) -> None:
        self._under_way: dict[int, Boot] = {}
        self._next_at: float | None = None
        self._pause_s = 0.0  # before the next one
        self._ready_at = -math.inf
        self.took_s: float | None = None  # the latest one; None before the first

    def __contains__(self, pid: int) -> bool:
        """True while a zygote boots, and is not given up."""
        return pid in self._under_way

    def begin(self, pid: int, now: float) -> None:
        """A zygote was started."""
        if self.took_s is None:
            limit_s = _FIRST_LIMIT_S
        else:
            limit_s = max(_SHORTEST_LIMIT_S, _LIMIT_TIMES * self.took_s)
        self._under_way[pid] = Boot(now, now + limit_s)

    def end(self, pid: int, now: float) -> None:
        """It is ready."""
        self._ready_at, self.took_s = now, now - self._under_way.pop(pid).since

    def give_up(self, pid: int) -> None:
        """Whatever it says from now on, it serves no more; nothing if it does not boot."""
        self._under_way.pop(pid, None)

    def give_up_overdue(self, now: float) -> list[tuple[int, float]]:
        """Those that have taken too long, and the seconds that it were."""
        overdue = [pid for pid, boot in self._under_way.items() if now >= boot.ready_by]
        return [(pid, now - self._under_way.pop(pid).since) for pid in overdue]

    def next_due(self) -> float:
        """When one has taken too long, or the next one is to be tried."""
        due = [boot.ready_by for boot in self._under_way.values()]
        if self._next_at is not None:
            due.append(self._next_at)
        return min(due, default=math.inf)

    def plan_next(self, now: float, *, has_served: bool = False) -> float:
        """The next one is tried after a pause that grows each time, and is returned in seconds: at
        once if the latest one `has_served` well.
        """
        if has_served and now >= self._ready_at + _SERVED_WELL_S:
            self._pause_s = 0.0
        pause_s = self._pause_s
        self._pause_s = min(2 * pause_s or _FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        self._next_at = now + pause_s
        return pause_s

    def forget_pause(self) -> None:
        """The next one that is planned is not held up by what was before."""
        self._pause_s = 0.0

    def hasten_next(self, now: float) -> None:
        """It is tried at once."""
        self._next_at = now

    def cancel_next(self) -> None:
        """None waits any more: it begins, or another one is there."""
        self._next_at = None

    def is_next_due(self, now: float) -> bool:
        """True when one waits, and is to be tried."""
        return self._next_at is not None and now >= self._next_at
