"""Reads wait statuses, and the state of processes from /proc."""

from __future__ import annotations

import os

from rqd.model.outcome import Crashed

_STATES = {
    "T": "was stopped by a signal",
    "t": "is stopped by a debugger",
    "D": "waits for a device",
    "Z": "is dead",
    "X": "is dead",
}


def crash_from_status(status: int) -> Crashed:
    """The crash behind a wait status (as `os.wait4` gives it)."""
    if os.WIFSIGNALED(status):
        return Crashed(signal=os.WTERMSIG(status), core_dumped=os.WCOREDUMP(status))
    return Crashed(exit_status=os.WEXITSTATUS(status))


def catches(pid: int, signum: int) -> bool:
    """True if a process has a handler for this signal; after an exec it has none."""
    try:
        with open(f"/proc/{pid}/status", "rb") as status:
            for line in status:
                if line.startswith(b"SigCgt:"):
                    return bool(int(line.split()[1], 16) >> (signum - 1) & 1)
    except (OSError, ValueError):
        return False
    return False


def process_state(pid: int) -> str:
    """The state of a process by the kernel, in words: `runs, or waits`, `was stopped by a signal`.

    "is gone" if there is no such process.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            letter = stat.read().rpartition(b") ")[2][:1].decode()
    except OSError:
        return "is gone"
    return _STATES.get(letter, "runs, or waits")
