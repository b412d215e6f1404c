"""The meaning of each signal to the master: a table and a pure decision.

| signal | does |
| --- | --- |
| TERM | graceful: no more claims, jobs finish; after the grace they are killed and put back |
| INT | as TERM; as QUIT if repeated after a second or more |
| QUIT | immediate: running jobs are killed and put back |
| TTIN, TTOU | one worker more, one fewer |
| HUP | reload: another zygote, with the code as it is now, takes over |
| USR1 | the running jobs are killed and put back; the master goes on |
| USR2, TSTP | pause: no more claims, running jobs go on |
| CONT | resume, and look at the leases: the process may have stood still |
| WINCH | nothing: a terminal changed its size |

To stop on SIGTSTP would leave jobs without a master, and their leases would run out.
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
    signal.SIGTSTP,
    signal.SIGCONT,
    signal.SIGWINCH,
    signal.SIGCHLD,
)
# A terminal's Ctrl-C can arrive twice (typed, and forwarded by a wrapper): only a later one counts.
_SECOND_INT_AFTER_S = 1.0

_PAUSES: dict[int, bool] = {signal.SIGUSR2: True, signal.SIGTSTP: True, signal.SIGCONT: False}
_WORKERS: dict[int, int] = {signal.SIGTTIN: 1, signal.SIGTTOU: -1}


class Shutdown(IntEnum):
    """The level of a shutdown, which never falls."""

    NONE = 0
    GRACEFUL = 1
    IMMEDIATE = 2


@dataclass(frozen=True, slots=True)
class Orders:
    """The orders given by the signals so far.

    `shutdown` and `interrupted_at` (the first SIGINT, monotonic seconds) last. The other fields
    belong to the latest signal alone; `pause` is False to resume, None for neither.
    """

    shutdown: Shutdown = Shutdown.NONE
    interrupted_at: float | None = None
    workers_delta: int = 0
    reload: bool = False
    kill_jobs: bool = False
    pause: bool | None = None


def obey(orders: Orders, signum: int, now: float) -> Orders:
    """Returns the orders after one more signal, at `now` in monotonic seconds."""
    level, interrupted_at = orders.shutdown, orders.interrupted_at
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
    return Orders(
        level,
        interrupted_at,
        workers_delta=_WORKERS.get(signum, 0),
        reload=signum == signal.SIGHUP,
        kill_jobs=signum == signal.SIGUSR1,
        pause=_PAUSES.get(signum),
    )
