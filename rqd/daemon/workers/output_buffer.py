"""Splits the output of a slot by job.

A reused child prints the mark of a prefetched job before the job's output (see `protocol.mark_of`):
the master reads the output of several jobs in one piece, and late.
"""

from __future__ import annotations

from dataclasses import dataclass


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
