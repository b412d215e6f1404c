"""Starting programs that die with the campaign, and finding what came of them.

No `preexec_fn`: the campaign has threads. The kernel sends the program's group SIGKILL when the
campaign's end of a pipe closes, whatever the campaign died of.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from fcntl import F_SETFL, F_SETOWN, F_SETSIG, fcntl
from pathlib import Path


class Launched:
    """A program in a session of its own."""

    def __init__(
        self, command: Sequence[str], folder: Path, log: Path, env: Mapping[str, str]
    ) -> None:
        life_read, self._life_write = os.pipe()
        try:
            with log.open("ab") as output:
                self.process = subprocess.Popen(
                    command,
                    cwd=folder,
                    env=dict(env),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=[life_read],
                    start_new_session=True,
                )
            _die_with(life_read, self.process.pid)
        finally:
            os.close(life_read)
        self.folder = folder
        self.log = log

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def signal(self, signum: int) -> None:
        """Sends a signal; nothing if it has ended."""
        self.process.send_signal(signum)

    def wait(self, timeout_s: float | None = None) -> int:
        """Its return code. Raises subprocess.TimeoutExpired."""
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        """Ends it at once, if it has not ended; returns when it is gone."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Lets go of it, once it has ended."""
        os.close(self._life_write)


def _die_with(life_read: int, pid: int) -> None:
    fcntl(life_read, F_SETSIG, signal.SIGKILL)
    try:
        fcntl(life_read, F_SETOWN, -pid)
    except ProcessLookupError:
        return  # it has ended already
    fcntl(life_read, F_SETFL, os.O_ASYNC | os.O_NONBLOCK)


def processes_in(folder: Path) -> list[int]:
    """The living processes whose working folder this is.

    Every descendant of a program inherits it, whatever its session, group, title or parent. A
    zombie has none: it is dead.
    """
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if os.readlink(f"/proc/{entry}/cwd") == str(folder):
                    found.append(int(entry))
            except OSError:
                continue
    return found


def title_of(pid: int) -> str:
    """What `ps` shows of a process; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode()
    except (OSError, UnicodeDecodeError):
        return ""
