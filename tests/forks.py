"""The `rqd` command in forks of a process that has it imported (tests/fork_server.py)."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from tests.fork_server import LARGEST_BYTES

ROOT = Path(__file__).parent.parent
_one_stem = threading.Lock()


def is_for_python(env: Iterable[str]) -> bool:
    """Whether one of these variables is read by Python at its start: no fork would heed it."""
    return any(name.startswith(("PYTHON", "LC_", "LANG")) for name in env)


class Fork:
    """A command that runs with `env` and nothing else of the environment; asked as a Popen is.

    Whatever happens, it dies with pytest and after `limit_s`.
    """

    def __init__(
        self,
        arguments: Iterable[str],
        env: Mapping[str, str],
        folder: Path,
        *,
        out: int,
        err: int,
        limit_s: float,
        own_session: bool = False,
    ) -> None:
        asked = json.dumps(
            {
                "arguments": [*arguments],
                "env": dict(env),
                "folder": str(folder),
                "limit_s": limit_s,
                "own_session": own_session,
            }
        ).encode()
        assert len(asked) < LARGEST_BYTES
        self.returncode: int | None = None
        self._told, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its, _one_stem:
            socket.send_fds(_stem()[0], [asked], [out, err, its.fileno()])
        pid, fds, _, _ = socket.recv_fds(self._told, 100, 1)
        assert pid, "the stem is gone"
        self.pid, self._pidfd = int(pid), fds[0]

    def poll(self) -> int | None:
        """As Popen's: None while it runs."""
        return self.wait() if self.returncode is None and self._has_ended() else self.returncode

    def wait(self) -> int:
        """As Popen's, but that its own limit ends it."""
        if self.returncode is None:
            self.returncode = int(self._told.recv(100))
            self._told.recv(1)  # the end: its watcher has reaped it
            self._told.close()
            os.close(self._pidfd)
        return self.returncode

    def send_signal(self, signum: int) -> None:
        """As Popen's: nothing if it has ended."""
        if self.poll() is None:
            try:
                signal.pidfd_send_signal(self._pidfd, signum)
            except ProcessLookupError:
                return

    def kill(self) -> None:
        """As Popen's."""
        self.send_signal(signal.SIGKILL)

    def _has_ended(self) -> bool:
        return bool(select.select([self._told], [], [], 0)[0])


@cache
def _stem() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """The door to this run's stem, which ends when pytest has; and its process.

    It sees that by the door: the kernel's word would come at the end of the thread that asks first.
    """
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        stem = subprocess.Popen(
            [sys.executable, "-m", "tests.fork_server", str(its.fileno())],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            pass_fds=[its.fileno()],
        )
    return ours, stem
