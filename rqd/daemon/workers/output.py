"""Reads the output of children from the pipe of each slot, logs it, and keeps its end."""

from __future__ import annotations

import os

from rqd.daemon.event_loop import Loop
from rqd.daemon.log.log import Log, about
from rqd.daemon.workers.worker import Attempt, Worker

_READ_BYTES = 65536
_LAST_READS = 16


class Outputs:
    """The output pipes of all slots. A pipe outlives its children, but not their zygote."""

    def __init__(self, loop: Loop, log: Log) -> None:
        self._loop = loop
        self._log = log
        self._by_fd: dict[int, Worker] = {}
        self._fds: dict[int, list[int]] = {}  # by worker; several zygotes have one during a reload

    def watch(self, fd: int, worker: Worker) -> None:
        """Reads this pipe from now on, as the output of this worker."""
        self._by_fd[fd] = worker
        self._fds.setdefault(worker.number, []).append(fd)
        self._loop.watch_once(fd)

    def forget(self, fd: int) -> None:
        """Stops reading this pipe."""
        self._loop.forget(fd)
        if worker := self._by_fd.pop(fd, None):
            self._fds[worker.number].remove(fd)

    def hear(self, fd: int) -> None:
        """Reads a piece, if the descriptor is one of these pipes."""
        if (worker := self._by_fd.get(fd)) is not None:
            self._read(worker, fd, worker.attempt)
            if not worker.is_quiet:
                self._loop.watch_again(fd)

    def listen(self, worker: Worker) -> None:
        """Reads a piece of each pipe of a worker; watches for more unless the worker is quiet."""
        for fd in self._fds.get(worker.number, ()):
            self.hear(fd)

    def take(self, worker: Worker, attempt: Attempt | None) -> tuple[bytes, int]:
        """Ends the output of an attempt; returns its last 64 KiB, and its size in bytes.

        `run`: the attempt that printed it, None for output between jobs.
        """
        for fd in self._fds.get(worker.number, ()):
            # Not for ever: a process that the job has left running may write faster than we read.
            for _ in range(_LAST_READS):
                if not self._read(worker, fd, attempt):
                    break
        tail, output_bytes, open_line = worker.tail.take()
        if open_line:
            self._log_lines(open_line, worker, attempt)
        return tail, output_bytes

    def _read(self, worker: Worker, fd: int, attempt: Attempt | None) -> bool:
        """Reads a piece of this attempt's output; True if there may be more."""
        data, mark = b"", attempt.mark if attempt is not None else b""
        if not worker.segments.has_whole(mark):
            try:
                data = os.read(fd, _READ_BYTES)
            except BlockingIOError:
                pass
        told = worker.segments.feed(data, mark)
        if told and (lines := worker.tail.feed(told)):
            self._log_lines(lines, worker, attempt)
        return len(data) == _READ_BYTES

    def _log_lines(self, lines: bytes, worker: Worker, attempt: Attempt | None) -> None:
        job = about(attempt.claim) if attempt is not None else {}
        self._log.output(lines, **job, worker=worker.number)
