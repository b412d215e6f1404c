"""The boots of zygotes: the time that each may take, and the pause before the next boot."""

from __future__ import annotations

import math
from dataclasses import dataclass

# The pauses before a zygote is replaced that was itself a replacement a moment ago.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 30.0
# A zygote that has served for so long is replaced at once. The cause of its end does not end every
# zygote as it boots.
_SERVED_WELL_S = 5.0
# The time that a zygote may take to boot: a minute, or so many times the time of the boot before,
# if that is longer. Before the first boot that time is unknown. Then the limit is longer than any
# application needs whose import ends at all.
_SHORTEST_LIMIT_S, _LIMIT_TIMES = 60.0, 10
_FIRST_LIMIT_S = 600.0


@dataclass(frozen=True, slots=True)
class Boot:
    """An import of the application that is under way. Instants are monotonic seconds."""

    since: float
    ready_by: float


class Boots:
    """The boots under way, by pid, and the time of the next boot, if a boot is planned."""

    def __init__(self) -> None:
        self._under_way: dict[int, Boot] = {}
        self._next_at: float | None = None
        self._pause_s = 0.0  # before the next boot
        self._ready_at = -math.inf
        self.took_s: float | None = None  # the latest boot; None before the first

    def __contains__(self, pid: int) -> bool:
        """True while the zygote with this pid boots, and is not given up."""
        return pid in self._under_way

    def begin(self, pid: int, now: float) -> None:
        """Notes that a zygote was started."""
        if self.took_s is None:
            limit_s = _FIRST_LIMIT_S
        else:
            limit_s = max(_SHORTEST_LIMIT_S, _LIMIT_TIMES * self.took_s)
        self._under_way[pid] = Boot(now, now + limit_s)

    def end(self, pid: int, now: float) -> None:
        """Notes that a zygote is ready, and the time that it took."""
        self._ready_at, self.took_s = now, now - self._under_way.pop(pid).since

    def give_up(self, pid: int) -> None:
        """Gives up a boot: the zygote will not serve, even if it reports that it is ready.

        Does nothing if no such zygote boots.
        """
        self._under_way.pop(pid, None)

    def give_up_overdue(self, now: float) -> list[tuple[int, float]]:
        """Gives up the boots that have taken too long; returns their pids, and seconds so far."""
        overdue = [pid for pid, boot in self._under_way.items() if now >= boot.ready_by]
        return [(pid, now - self._under_way.pop(pid).since) for pid in overdue]

    def next_due(self) -> float:
        """The next moment at which a boot is overdue or the next boot is due; or infinity."""
        due = [boot.ready_by for boot in self._under_way.values()]
        if self._next_at is not None:
            due.append(self._next_at)
        return min(due, default=math.inf)

    def plan_next(self, now: float, *, has_served: bool = False) -> float:
        """Plans the next boot after a pause that grows each time; returns the pause in seconds.

        No pause if the latest zygote `has_served`, and for long enough.
        """
        if has_served and now >= self._ready_at + _SERVED_WELL_S:
            self._pause_s = 0.0
        pause_s = self._pause_s
        self._pause_s = min(2 * pause_s or _FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        self._next_at = now + pause_s
        return pause_s

    def forget_pause(self) -> None:
        """Starts the pauses from the beginning: the next boot that is planned has none."""
        self._pause_s = 0.0

    def hasten_next(self, now: float) -> None:
        """Makes the next boot due now."""
        self._next_at = now

    def cancel_next(self) -> None:
        """Cancels the planned boot: it begins now, or another zygote serves."""
        self._next_at = None

    def is_next_due(self, now: float) -> bool:
        """True if a boot is planned and its time has come."""
        return self._next_at is not None and now >= self._next_at
