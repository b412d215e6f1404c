"""The daemon's log: one line an event, a constant message and its fields; and the jobs' output.

Not `logging`: a terminal that is paused or a pipe nobody reads must never stop the master, so a
line that can't be written at once is dropped and counted.
"""

from __future__ import annotations

import os
import select
import time

# poll() reports a pipe writable when this much fits (POSIX PIPE_BUF on Linux): such a write to a
# writable pipe can't block.
_PIECE_BYTES = 4096


class Sink:
    """Writes to a descriptor without ever waiting for its reader."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self.dropped_bytes = 0

    def write(self, data: bytes) -> None:
        """Writes what the reader has room for; the rest is counted in `dropped_bytes`."""
        for start in range(0, len(data), _PIECE_BYTES):
            piece = data[start : start + _PIECE_BYTES]
            events = self._poll.poll(0)
            if not events or events[0][1] & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
                self.dropped_bytes += len(data) - start
                return
            try:
                os.write(self._fd, piece)
            except OSError:
                self.dropped_bytes += len(data) - start
                return


class Log:
    """Events as lines: time, level, message, key=value fields. Never job arguments, no secrets."""

    def __init__(self, sink: Sink, timestamps: bool = True) -> None:
        self._sink = sink
        self._timestamps = timestamps

    def info(self, message: str, **fields: object) -> None:
        """Something in the normal life of the daemon."""
        self._line("INFO", message, fields)

    def warning(self, message: str, **fields: object) -> None:
        """Something that is handled, and that an operator may want to see."""
        self._line("WARNING", message, fields)

    def error(self, message: str, **fields: object) -> None:
        """Work was lost, or can't go on."""
        self._line("ERROR", message, fields)

    def output(self, line: bytes) -> None:
        """A line a job printed, as it is."""
        self._sink.write(line)

    def _line(self, level: str, message: str, fields: dict[str, object]) -> None:
        # journald stamps the time itself (it sets JOURNAL_STREAM): a second one would be noise.
        stamp = time.strftime("%H:%M:%S ") if self._timestamps else ""
        shown = "".join(f" {key}={_quote(value)}" for key, value in fields.items())
        self._sink.write(f"{stamp}{level} {message}{shown}\n".encode(errors="replace"))


def stderr_log() -> Log:
    """The log on standard error."""
    return Log(Sink(2), timestamps="JOURNAL_STREAM" not in os.environ)


def _quote(value: object) -> str:
    text = str(value)
    # What can't be printed may be an order to the terminal, and a job's name is anybody's text.
    is_plain = text.isprintable() and not any(c in " \"'=" for c in text)
    return text if text and is_plain else repr(text)
