"""Blocks signals at the start, until the master has handlers: its imports take time.

So do the imports of signals.py, which this module therefore stands apart from.
"""

from __future__ import annotations

import signal

# All signals that a master obeys and that would end or stop the process by default. SIGQUIT is
# left out, so that it can end a start that hangs.
_HELD = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2),
    *(signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU),
)


def hold_early_signals() -> None:
    """Blocks the signals that a master obeys, until its `Loop` unblocks them.

    Without handlers SIGHUP would end the process, and PID 1 would never receive a SIGTERM.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
