"""Runs a daemon from a user's process, which waits for it. `rqd.worker` uses this module.

Only this file of the daemon and host/pidfd.py are loaded into the user's process.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any

from rqd.daemon.host.pidfd import signal_at_close


def run_in_foreground(arguments: Sequence[str], secrets: Mapping[str, str]) -> int:
    """Runs `rqd start` with these arguments and waits for its end; returns its exit status.

    `secrets` are added to its environment. However the caller ends, the daemon gets a SIGTERM.
    """
    command = [sys.executable, "-m", "rqd", "start", *arguments]
    environment = {**os.environ, **secrets}
    life_read, life_write = os.pipe()
    try:
        try:
            daemon = subprocess.Popen(command, env=environment, pass_fds=[life_read])
            # Set by the parent, on the open file that both processes share: a `preexec_fn` would
            # run Python between fork and exec, in a process that may have threads.
            signal_at_close(life_read, signal.SIGTERM, daemon.pid)
        finally:
            os.close(life_read)
        return _wait(daemon)
    finally:
        os.close(life_write)


def _wait(daemon: subprocess.Popen[Any]) -> int:
    """Waits for the daemon, passing SIGTERM on. Ctrl-C reaches it directly; waiting goes on."""

    def pass_on(signum: int, _frame: FrameType | None) -> None:
        daemon.send_signal(signum)

    try:
        before = signal.signal(signal.SIGTERM, pass_on)
    except ValueError:  # not the main thread: the caller's handlers stay as they are
        return daemon.wait()
    try:
        while True:
            try:
                return daemon.wait()
            except KeyboardInterrupt:
                continue
    finally:
        signal.signal(signal.SIGTERM, before)
