"""What a signal means to the master: a table and a pure decision, tested without a process.

| signal | does |
| --- | --- |
| TERM | graceful: no more claims, running jobs finish; at the grace's end they are put back |
| INT | as TERM; a second one a second or more later is QUIT |
| QUIT | immediate: running jobs are killed and put back |
| TTIN, TTOU | one worker more, one fewer |
| HUP | reload: another zygote, with the code as it is now, takes over |
| USR1, USR2, WINCH | nothing yet: logged, so that a habit from another server ends nothing |
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from enum import IntEnum

HANDLED = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
    signal.SIGCHLD,
)
WITHOUT_MEANING = (signal.SIGUSR1, signal.SIGUSR2)
# A terminal's Ctrl-C can arrive twice (typed, and forwarded by a wrapper): only a later one counts.
_SECOND_INT_AFTER_S = 1.0


class Shutdown(IntEnum):
    """How far a shutdown has gone; it never falls."""

    NONE = 0
    GRACEFUL = 1
    IMMEDIATE = 2


@dataclass(frozen=True, slots=True)
class Orders:
    """What the signals so far ask for: a shutdown's level, since when; and the latest one alone:
    workers to add, a reload.
    """

    shutdown: Shutdown = Shutdown.NONE
    interrupted_at: float | None = None
    workers_delta: int = 0
    reload: bool = False


def obey(orders: Orders, signum: int, now: float) -> Orders:
    """The orders after one more signal, `now` in monotonic seconds."""
    level, interrupted_at = orders.shutdown, orders.interrupted_at
    delta = 0
    if signum == signal.SIGTERM:
        level = max(level, Shutdown.GRACEFUL)
    elif signum == signal.SIGQUIT:
        level = Shutdown.IMMEDIATE
    elif signum == signal.SIGINT:
        if interrupted_at is not None and now - interrupted_at >= _SECOND_INT_AFTER_S:
            level = Shutdown.IMMEDIATE
        else:
            level = max(level, Shutdown.GRACEFUL)
            interrupted_at = now if interrupted_at is None else interrupted_at
    elif signum == signal.SIGTTIN:
        delta = 1
    elif signum == signal.SIGTTOU:
        delta = -1
    return Orders(level, interrupted_at, delta, reload=signum == signal.SIGHUP)
