"""The output of a slot, kept in memory: its end, its whole lines, and its parts by job.

A reused child prints the mark of a prefetched job before the job's output (see `protocol.mark_of`):
the master reads the output of several jobs in one piece, and late.
"""

from __future__ import annotations

from dataclasses import dataclass, field

TAIL_BYTES = 64 * 1024


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


@dataclass(slots=True)
class OutputSplitter:
    """Output that belongs to later jobs, and the marks that are still to come."""

    _marks: tuple[bytes, ...] = ()
    _rest: bytes = b""

    def expect(self, mark: bytes) -> None:
        """Notes that the job with this mark was given to the child, behind the others."""
        self._marks += (mark,)

    def forget(self, mark: bytes) -> None:
        """Notes that the job with this mark was taken back."""
        self._marks = tuple(other for other in self._marks if other != mark)

    def clear(self) -> None:
        """Resets it for a new child, which has no jobs yet."""
        self._marks = ()
        self._rest = b""

    def has_whole(self, mark: bytes) -> bool:
        """True if all output of the job with this mark is there, as the next job's has begun."""
        following = self._marks[1:] if mark in self._marks[:1] else self._marks
        return bool(following) and following[0] in self._rest

    def feed(self, data: bytes, mark: bytes) -> bytes:
        """Adds output; returns the bytes of the job with this mark, and keeps the later jobs'."""
        data, self._rest, passed = self._rest + data, b"", b""
        if mark in self._marks:
            self._marks = self._marks[self._marks.index(mark) :]  # drops ended jobs' marks
        while self._marks and (at := data.find(self._marks[0])) >= 0:
            if self._marks[0] != mark:
                self._rest = data[at:]
                return passed + data[:at]
            passed += data[:at]  # printed by processes that the job before has left running
            data = data[at + len(mark) :]
            self._marks = self._marks[1:]
        kept = _begun(self._marks[0], data) if self._marks else 0
        self._rest = data[len(data) - kept :]
        return passed + data[: len(data) - kept]


def _begun(mark: bytes, data: bytes) -> int:
    """How many bytes of the mark's beginning the data ends with."""
    longest = min(len(mark) - 1, len(data))
    return next((size for size in range(longest, 0, -1) if data.endswith(mark[:size])), 0)
