"""What comes in the first moment of a start, before its master has handlers: imports take time."""

from __future__ import annotations

import signal

# SIGQUIT is left, for who has to end a start that hangs.
_HELD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def hold_early_signals() -> None:
    """Lets these wait until the master's `Loop` lets them come.

    Without handlers SIGHUP would end it, and as PID 1 it would not even hear of a SIGTERM.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
