"""The time limit of the job that runs in this process: an alarm, and what may put it off."""

from __future__ import annotations

import _signal
from time import monotonic

from rqd.model.errors import JobTimeoutException

TYPE_CHECKING = False  # as typing has it, whose import would be paid at every fork
if TYPE_CHECKING:
    from collections.abc import Callable

# A job's `except Exception` or a `__del__` can swallow one timeout; the next comes after this.
_REPEAT_S = 0.5
_SHORTEST_S = 0.001  # 0 would be no alarm at all


class Timer:
    """The running job's limit in seconds, 0 when none runs or it has none.

    While `is_held` the alarm waits for its next time: what the main thread does then must not be
    left half done.
    """

    __slots__ = ("_ends_at", "ask_more", "is_held", "limit_s")

    def __init__(self) -> None:
        self.limit_s = 0.0
        self.is_held = False
        self._ends_at = 0.0
        # Seconds the master has granted meanwhile; asked when the time is over, and not before.
        self.ask_more: Callable[[], float] = lambda: 0.0

    def arm(self, limit_s: float) -> None:
        """The job may run for so long from now on; not above 0 for no limit."""
        if limit_s > 0:
            self.limit_s = limit_s
            self._ends_at = monotonic() + limit_s
            _signal.setitimer(_signal.ITIMER_REAL, limit_s, _REPEAT_S)

    def disarm(self) -> None:
        """No job runs, or its end is known."""
        self.limit_s = 0.0
        _signal.setitimer(_signal.ITIMER_REAL, 0)

    def extend(self, seconds: float) -> None:
        """So much more for the job; nothing where it has no limit."""
        if self.limit_s:
            self.limit_s += seconds
            self._ends_at += seconds
            left_s = max(_SHORTEST_S, self._ends_at - monotonic())
            _signal.setitimer(_signal.ITIMER_REAL, left_s, _REPEAT_S)

    def is_put_off(self) -> bool:
        """True if the master has granted more time, which is not over yet."""
        more_s = self.ask_more()
        if more_s > 0:
            self.extend(more_s)
        return more_s > 0 and monotonic() < self._ends_at


timer = Timer()


def raise_timeout(_signum: int, _frame: object) -> None:
    """SIGALRM's handler, installed by the zygote: raises JobTimeoutException while a job runs."""
    if timer.limit_s and not timer.is_held and not timer.is_put_off():
        raise JobTimeoutException(f"the job ran longer than its timeout of {timer.limit_s:g} s")
