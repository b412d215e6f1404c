"""A child process that an earlier program of this very process has started."""

from __future__ import annotations

import os
import signal
import subprocess
import time

_POLL_S = 0.005


class AdoptedProcess:
    """As subprocess.Popen has it, for a child that another image of this process forked."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """How it ended, minus the signal's number if one killed it; None while it runs."""
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # somebody else has reaped it
                pid, status = self.pid, 0
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired if it has not ended after so many seconds."""
        give_up_at = time.monotonic() + (float("inf") if timeout is None else timeout)
        while (status := self.poll()) is None:
            if timeout is not None and time.monotonic() >= give_up_at:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            # As Popen does: by its pidfd it would be seen at once, if that could be had always.
            time.sleep(_POLL_S)
        return status

    def kill(self) -> None:
        """SIGKILL; nothing if it has ended."""
        self._send(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM; nothing if it has ended."""
        self._send(signal.SIGTERM)

    def _send(self, signum: int) -> None:
        if self.poll() is None:  # unreaped: the pid is its own
            os.kill(self.pid, signum)
