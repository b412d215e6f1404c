"""A child process that an earlier program of this very process has started."""

from __future__ import annotations

import os
import signal
import subprocess

from rqd.daemon.host.pidfd_signals import has_ended


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
        if self.poll() is None:
            pidfd = os.pidfd_open(self.pid)
            ended = has_ended(pidfd, None if timeout is None else timeout * 1000)
            os.close(pidfd)
            if not ended and timeout is not None:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
        status = self.poll()
        assert status is not None
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
