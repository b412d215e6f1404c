"""Waits for a signal to stop, for a process that is a loop of its own, such as a bridge."""

from __future__ import annotations

import signal

_STOPPING = {signal.SIGTERM, signal.SIGINT}


class StopSignals:
    """Blocks SIGTERM and SIGINT from now on; `wait` is where they are received.

    So none of them cuts a turn of the loop in two.
    """

    def __init__(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)

    def wait(self, seconds: float) -> bool:
        """Returns True as soon as one has come; False after `seconds`."""
        return signal.sigtimedwait(_STOPPING, seconds) is not None
