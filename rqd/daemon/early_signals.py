"""What comes in the first moment of a start, before its master has handlers: imports take time."""

from __future__ import annotations

import signal

# All that a master obeys and that would end or stop the process; but SIGQUIT, for who has to end a
# start that hangs.
_HELD = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTSTP,
    signal.SIGTTIN,
    signal.SIGTTOU,
)


def hold_early_signals() -> None:
    """Lets these wait until the master's `Loop` lets them come.

    Without handlers SIGHUP would end it, and as PID 1 it would not even hear of a SIGTERM.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
