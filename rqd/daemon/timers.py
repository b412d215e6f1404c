"""The master's timers: when each of its parts has work next, in a table.

A part sets its timer where its own state changes. So nothing is asked in each pass of the loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import IntEnum


class Needs(IntEnum):
    """The condition under which a timer may run; the index of its gate."""

    NOTHING = 0
    REDIS = 1
    BETWEEN_TURNS = 2  # Redis, and no turn under way


# The moment from which timers with each condition may run: see `RedisLink.gates`.
Gates = tuple[float, float, float]
OPEN: Gates = (-math.inf, -math.inf, -math.inf)


class Timer:
    """A part's next moment of work, in monotonic seconds; infinity for never."""

    __slots__ = ("at", "needs", "run")

    def __init__(
        self,
        run: Callable[[float], None] = lambda _now: None,
        needs: Needs = Needs.NOTHING,
        at: float = math.inf,
    ) -> None:
        self.run = run
        self.needs = needs
        self.at = at

    def set(self, at: float) -> None:
        """Makes it due at `at`, even if it was due earlier."""
        self.at = at

    def hasten(self, at: float) -> None:
        """Makes it due at `at`, unless it is due earlier."""
        self.at = min(self.at, at)

    def clear(self) -> None:
        """Makes it never due."""
        self.at = math.inf


class Timers:
    """All timers of a master, which run in the order in which they were made."""

    def __init__(self) -> None:
        self._timers: list[Timer] = []

    def timer(
        self,
        run: Callable[[float], None],
        needs: Needs = Needs.NOTHING,
        at: float = math.inf,
    ) -> Timer:
        """Makes a timer that calls `run` with the time once it is due; `run` sets it again."""
        timer = Timer(run, needs, at)
        self._timers.append(timer)
        return timer

    def next_at(self, gates: Gates) -> float:
        """Returns the moment at which the first timer is due; infinity for none."""
        next_at = math.inf
        for timer in self._timers:  # unrolled: it is asked in each pass of the loop
            if timer.at < next_at:
                next_at = min(next_at, max(timer.at, gates[timer.needs]))
        return next_at

    def run_due(self, now: float, gates: Gates) -> None:
        """Runs the timers that are due, each once."""
        for timer in self._timers:
            if now >= timer.at and now >= gates[timer.needs]:
                timer.at = math.inf
                timer.run(now)
