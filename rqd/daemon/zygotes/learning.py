"""Learnt preloading: which modules zygotes import because jobs' processes had to, each by itself.

A module is learnt by what it costs. Once its imports have taken its jobs long enough, a zygote that
has it boots beside the one that serves, as for a reload. That zygote serves only if the module was
imported without an error, and left no thread and no connection behind; else the module is refused,
and stays so. A pure decision: nothing here starts or ends a process.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

# The imports of a module have cost its jobs so much before it is learnt: one import of a large
# application, or a few dozen of a small module.
WORTH_S = 0.02
# Modules of jobs that begin together are learnt together.
_GATHER_S = 0.05
# Between two such boots, and how many there are: each costs an import of the whole application.
_FIRST_PAUSE_S, _TIMES = 2.0, 4
_MOST_BOOTS = 8


class Learning:
    """What was learnt in this daemon's life, what is being tried, and when to try more."""

    def __init__(self, *, is_on: bool = True, hints: Iterable[str] = ()) -> None:
        """`hints` are tried with the first boot: what a caller's process had imported."""
        self.is_on = is_on
        self.learnt: tuple[str, ...] = ()
        self.trying: tuple[str, ...] = tuple(hints)  # in the zygote that boots
        self.refused: dict[str, str] = {}  # with the reasons
        self._costs: dict[str, float] = {}
        self._wanted: dict[str, None] = {}
        self._boots_left = _MOST_BOOTS
        self._pause_s = _FIRST_PAUSE_S
        self._begin_at = -math.inf  # the next boot comes no earlier

    @property
    def modules(self) -> tuple[str, ...]:
        """What a zygote that is started now imports besides --preload."""
        return (*self.learnt, *self.trying)

    def note_import(self, module: str, seconds: float, now: float) -> bool:
        """A job's process has imported its module; False if that can't be learnt."""
        if not self.is_on or module in self.refused or not self._boots_left:
            return False
        if module not in self.modules and module not in self._wanted:
            cost = self._costs[module] = self._costs.get(module, 0.0) + seconds
            if cost >= WORTH_S:
                self._want([module], now)
        return True

    def next_due(self) -> float:
        """When a zygote is to boot with more; infinity if nothing is wanted."""
        return self._begin_at if self._wanted and self._boots_left else math.inf

    def begin(self, now: float) -> None:
        """A zygote boots with all that is wanted."""
        self.trying, self._wanted = tuple(self._wanted), {}
        self._boots_left -= 1
        self._begin_at = now + self._pause_s
        self._pause_s *= _TIMES

    def accept(self) -> tuple[str, ...]:
        """The zygote serves; returns the modules that are new."""
        new, self.trying = self.trying, ()
        self.learnt += new
        return new

    def put_off(self, now: float) -> None:
        """The boot was ended for another reason: what it tried is tried again."""
        trying, self.trying = self.trying, ()
        self._want(trying, now)

    def refuse(self, reasons: dict[str, str]) -> None:
        """These modules are never learnt again."""
        self.refused |= reasons
        self.learnt = tuple(one for one in self.learnt if one not in reasons)
        self.trying = tuple(one for one in self.trying if one not in reasons)

    def forget(self) -> None:
        """Starts from nothing, as with new code: only what was refused stays so."""
        self.learnt = self.trying = ()
        self._wanted.clear()
        self._costs.clear()

    def _want(self, modules: Iterable[str], now: float) -> None:
        self._begin_at = max(self._begin_at, now + _GATHER_S)
        self._wanted |= dict.fromkeys(modules)
