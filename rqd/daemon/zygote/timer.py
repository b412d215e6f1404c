"""Ends the job that runs in this process: by an alarm at its time limit, or an order to stop."""

from __future__ import annotations

import faulthandler
import sys
from _signal import ITIMER_REAL, setitimer
from time import monotonic

from rqd.model.errors import JobStoppedException, JobTimeoutException

TYPE_CHECKING = False  # in place of typing's, whose import every fork would pay for
if TYPE_CHECKING:
    from collections.abc import Callable

# A job's `except Exception` or a `__del__` can swallow one timeout; the next comes after this.
_REPEAT_S = 0.5
_SHORTEST_S = 0.001  # 0 would be no alarm at all


class Timer:
    """The running job's time limit, `limit_s` in seconds: 0 without a job or a limit.

    While `is_held` an alarm is skipped until its next repeat, and an order waits for `let_go`: the
    main thread must not be interrupted half way.
    """

    __slots__ = (
        *("_ends_at", "_has_shown_threads", "ask_more", "is_held", "is_to_stop", "limit_s"),
        *("runs", "stack_fd"),
    )

    def __init__(self) -> None:
        self.limit_s = 0.0
        self.is_held = False
        self.runs = False
        self.is_to_stop = False  # an order to stop came, and was not raised yet
        self.stack_fd = -1  # where the stacks of other threads go at the timeout; -1 for nowhere
        self._ends_at = 0.0
        self._has_shown_threads = False
        # Returns the seconds that the master has granted meanwhile; called when the time is over.
        self.ask_more: Callable[[], float] = lambda: 0.0

    def arm(self, limit_s: float) -> None:
        """Sets the limit of a job that begins now; 0 or less for no limit.

        Raises JobStoppedException if an order to stop came before.
        """
        self.runs = True
        self.stop_if_told()
        if limit_s > 0:
            self.limit_s = limit_s
            self._has_shown_threads = False
            self._ends_at = monotonic() + limit_s
            setitimer(ITIMER_REAL, limit_s, _REPEAT_S)

    def disarm(self) -> None:
        """Ends the limit: no job runs, or its end is known."""
        self.runs = False
        self.limit_s = 0.0
        setitimer(ITIMER_REAL, 0)

    def extend(self, seconds: float) -> None:
        """Adds seconds to the job's limit; does nothing if it has no limit."""
        if self.limit_s:
            self.limit_s += seconds
            self._ends_at += seconds
            left_s = max(_SHORTEST_S, self._ends_at - monotonic())
            setitimer(ITIMER_REAL, left_s, _REPEAT_S)

    def is_put_off(self) -> bool:
        """True if the master has granted more time, and that is not over yet."""
        more_s = self.ask_more()
        if more_s > 0:
            self.extend(more_s)
        return more_s > 0 and monotonic() < self._ends_at

    def show_threads(self) -> None:
        """Writes the stacks of all threads at a job's first alarm, if there are several threads.

        The timeout itself has only the main thread's traceback.
        """
        if self.stack_fd < 0 or self._has_shown_threads or len(sys._current_frames()) < 2:
            return
        self._has_shown_threads = True
        try:
            faulthandler.dump_traceback(self.stack_fd)
        except (OSError, ValueError, RuntimeError):
            pass  # the job has closed the file, which is not its own

    def let_go(self) -> None:
        """Ends `is_held`. Raises JobStoppedException if an order has come meanwhile."""
        self.is_held = False
        self.stop_if_told()

    def stop_if_told(self) -> None:
        """Raises JobStoppedException in a running job, if an order to stop came, once."""
        if self.is_to_stop and self.runs and not self.is_held:
            self.is_to_stop = False
            raise JobStoppedException("the job was told to stop")


timer = Timer()


def raise_timeout(_signum: int, _frame: object) -> None:
    """SIGALRM's handler, installed by the zygote: raises JobTimeoutException while a job runs."""
    if timer.limit_s and not timer.is_held and not timer.is_put_off():
        timer.show_threads()
        raise JobTimeoutException(f"the job ran longer than its timeout of {timer.limit_s:g} s")


def raise_cpu_limit(_signum: int, _frame: object) -> None:
    """CPU_SIGNAL's handler, installed by the zygote: raises JobTimeoutException in a running job.

    The master sends the signal again if the job goes on.
    """
    if timer.runs and not timer.is_held:
        raise JobTimeoutException("the job's cpu time is over")


def raise_stop(_signum: int, _frame: object) -> None:
    """STOP_SIGNAL's handler, installed by the zygote: raises JobStoppedException in the job.

    If the job has not begun, it is raised as it begins. The master sends this child no other job
    after the signal.
    """
    timer.is_to_stop = True
    timer.stop_if_told()
