"""Learns which modules are worth preloading: modules that jobs' processes had to import themselves.

A module is learnt by its cost: the time that its imports have cost its jobs. Above a limit a zygote
that preloads it boots beside the serving zygote, as for a reload. That zygote serves only if the
import raised no error, and left no thread and no connection. Otherwise the module is refused, and
stays so. A pure decision: nothing here starts or ends a process.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from rqd.daemon.zygotes.events import Unforkable

# The imports of a module have cost its jobs so much before it is learnt: one import of a large
# application, or a few dozen of a small module.
WORTH_S = 0.02
# Modules of jobs that begin together are learnt together.
_GATHER_S = 0.05
# The pause between two such boots, its growth, and their number in a daemon's life: each costs an
# import of the whole application.
_FIRST_PAUSE_S, _TIMES = 2.0, 4
_MOST_BOOTS = 8


class Learning:
    """The modules learnt in this daemon's life, the modules on trial, and the next boot's time."""

    def __init__(self, *, is_on: bool = True, hints: Iterable[str] = ()) -> None:
        """`hints` are tried with the first boot: modules that a caller's process had imported."""
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
        """The modules that a zygote started now imports besides --preload."""
        return (*self.learnt, *self.trying)

    def note_import(self, module: str, seconds: float, now: float) -> bool:
        """Notes the seconds that a job's process took to import its module.

        False if the module can't be learnt.
        """
        if not self.is_on or module in self.refused or not self._boots_left:
            return False
        if module not in self.modules and module not in self._wanted:
            cost = self._costs[module] = self._costs.get(module, 0.0) + seconds
            if cost >= WORTH_S:
                self._want([module], now)
        return True

    def next_due(self) -> float:
        """The moment at which a zygote is to boot with more modules; infinity for never."""
        return self._begin_at if self._wanted and self._boots_left else math.inf

    def begin(self, now: float) -> None:
        """Puts all wanted modules on trial in a zygote that boots now."""
        self.trying, self._wanted = tuple(self._wanted), {}
        self._boots_left -= 1
        self._begin_at = now + self._pause_s
        self._pause_s *= _TIMES

    def accept(self) -> tuple[str, ...]:
        """Notes that the zygote with the modules on trial serves; returns these modules."""
        new, self.trying = self.trying, ()
        self.learnt += new
        return new

    def unfit(self, unforkable: Iterable[Unforkable]) -> dict[str, str]:
        """The reasons against preloading learnt modules, by module; empty if all may be."""
        return {
            of.module: of.error
            or f"it leaves threads or connections: {of.threads or of.connections}"
            for of in unforkable
            if of.module in self.modules
        }

    def put_off(self, now: float) -> None:
        """Wants the modules on trial again later, as their boot was ended for another reason."""
        trying, self.trying = self.trying, ()
        self._want(trying, now)

    def refuse(self, reasons: dict[str, str]) -> None:
        """Drops these modules for good, each with its reason."""
        self.refused |= reasons
        self.learnt = tuple(one for one in self.learnt if one not in reasons)
        self.trying = tuple(one for one in self.trying if one not in reasons)

    def forget(self) -> None:
        """Forgets all modules and costs, as with new code. Refused modules stay refused."""
        self.learnt = self.trying = ()
        self._wanted.clear()
        self._costs.clear()

    def _want(self, modules: Iterable[str], now: float) -> None:
        self._begin_at = max(self._begin_at, now + _GATHER_S)
        self._wanted |= dict.fromkeys(modules)
