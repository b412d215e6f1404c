"""The output of a place, cut where one job's ends and that of the next one begins.

A child that goes on to its next job by itself writes that one's mark into the pipe before (see
`frames.mark_of`): its master reads both in one piece, and late.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class OutputSplitter:
    """What has come, and the marks that are still to come."""

    _marks: tuple[bytes, ...] = ()
    _rest: bytes = b""

    def expect(self, mark: bytes) -> None:
        """The job with this mark was given to the child behind the others."""
        self._marks += (mark,)

    def forget(self, mark: bytes) -> None:
        """It was taken back."""
        self._marks = tuple(other for other in self._marks if other != mark)

    def clear(self) -> None:
        """Another child is there, which has no jobs yet."""
        self._marks = ()
        self._rest = b""

    def has_whole(self, mark: bytes) -> bool:
        """True if all of this job's output is there, as that of the next one has begun."""
        following = self._marks[1:] if mark in self._marks[:1] else self._marks
        return bool(following) and following[0] in self._rest

    def feed(self, data: bytes, mark: bytes) -> bytes:
        """What came of the output of the job with this mark; what is the next ones' is kept."""
        data, self._rest, passed = self._rest + data, b"", b""
        if mark in self._marks:
            self._marks = self._marks[self._marks.index(mark) :]  # not of jobs that are over
        while self._marks and (at := data.find(self._marks[0])) >= 0:
            if self._marks[0] != mark:
                self._rest = data[at:]
                return passed + data[:at]
            passed += data[:at]  # of what the job before has left running
            data = data[at + len(mark) :]
            self._marks = self._marks[1:]
        kept = _begun(self._marks[0], data) if self._marks else 0
        self._rest = data[len(data) - kept :]
        return passed + data[: len(data) - kept]


def _begun(mark: bytes, data: bytes) -> int:
    """How many bytes of the mark's beginning the data ends with."""
    longest = min(len(mark) - 1, len(data))
    return next((size for size in range(longest, 0, -1) if data.endswith(mark[:size])), 0)
