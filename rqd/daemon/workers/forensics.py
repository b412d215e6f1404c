"""Finds the cause of a death: from a wait status, from the last lines that a process wrote."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from rqd.model.outcome import Crashed

TAIL_BYTES = 64 * 1024
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


@dataclass(slots=True)
class Tail:
    """The last 64 KiB that a process wrote, and its whole lines as they come."""

    _kept: bytearray = field(default_factory=bytearray)
    _line: bytes = b""
    total_bytes: int = 0  # written since the last `take`

    def feed(self, data: bytes) -> bytes:
        """Keeps the data's end; returns the lines it completes (a line of over 64 KiB in parts)."""
        self._kept += data
        self.total_bytes += len(data)
        if len(self._kept) > TAIL_BYTES:
            del self._kept[:-TAIL_BYTES]
        whole, newline, rest = (self._line + data).rpartition(b"\n")
        if len(rest) > TAIL_BYTES:
            self._line = b""
            return whole + newline + rest + b"\n"
        self._line = rest
        return whole + newline

    def since(self, offset: int) -> tuple[int, bytes]:
        """Returns the kept output from byte `offset` on, behind the byte at which it begins."""
        first = self.total_bytes - len(self._kept)
        start = max(offset, first)
        return start, bytes(self._kept[start - first :])

    def take(self) -> tuple[bytes, int, bytes]:
        """Returns the tail, the bytes written in all, and the line that was still open; resets."""
        kept, total_bytes = bytes(self._kept), self.total_bytes
        open_line = self._line + b"\n" if self._line else b""
        self._kept.clear()
        self._line = b""
        self.total_bytes = 0
        return kept, total_bytes, open_line
