"""Bounds the size of replies: a hostile or foreign server must not use up our memory or our time.

redis-py reads without bounds: a header of 10 GB, a line without an end, a byte now and then. Only
this module reaches into its parsers. It raises InvalidResponse, as they do: that ends the
connection, and is not retried.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

import redis
from redis._parsers import _AsyncRESP2Parser, _RESP2Parser
from redis._parsers.socket import SocketBuffer

# The longest string in Redis (proto-max-bulk-len), and twice the highest limit of payloads.
_MOST_BYTES = 512 * 1024 * 1024
# The longest line of a server is an error's text; the scripts' errors have a hundred bytes.
_LONGEST_LINE = 1024 * 1024
# The ids of a queue of millions, each fifty bytes here and more. A master accepts fewer: the jobs
# of a thousand workers; it sees no signal while it reads.
_MOST_LINES = 10_000_000
_MOST_LINES_OF_A_DAEMON = 500_000
# A reply must end within this time, plus a second for each megabyte.
_PATIENCE_S = 5.0
_LEAST_BYTES_PER_S = 1024 * 1024

_UNREADABLE = (
    ValueError,
    TypeError,
    LookupError,
    RecursionError,
    MemoryError,
    OverflowError,
)


def _no_reply(error: Exception) -> redis.InvalidResponse:
    what = f"{type(error).__name__}: {str(error)[:100]}"
    return redis.InvalidResponse(f"a reply that is none of Redis: {what}")


def _check_bytes(count: int) -> None:
    if not 0 <= count <= _MOST_BYTES:
        raise redis.InvalidResponse(f"a reply of {count:,} bytes; {_MOST_BYTES:,} are the most")


class _Metered:
    """A socket that gives up on a reply that is too long, or too slow."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._recv = sock.recv
        self.received = 0  # of this reply
        self._begun_at = 0.0

    def recv(self, size: int, *flags: int) -> bytes:
        """Receives bytes as a socket does. Raises redis.InvalidResponse."""
        data: bytes = self._recv(size, *flags)
        if self.received:
            self._check(len(data))
        else:
            self.received, self._begun_at = len(data), monotonic()
        return data

    def _check(self, size: int) -> None:
        self.received += size
        _check_bytes(self.received)
        taken_s = monotonic() - self._begun_at
        if taken_s > _PATIENCE_S + self.received / _LEAST_BYTES_PER_S:
            raise redis.InvalidResponse(f"a reply that has no end after {taken_s:.0f} s")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class _BoundedBuffer(SocketBuffer):
    """Bounds the buffer of redis-py's parser, which joins a line's pieces again and again."""

    lines = 0
    most_lines = _MOST_LINES

    def read(self, length: int, *args: Any, **named: Any) -> bytes:
        _check_bytes(length)
        data: bytes = super().read(length, *args, **named)
        return data

    def readline(self, *args: Any, **named: Any) -> bytes:
        self.lines += 1
        if self.lines > self.most_lines:
            raise redis.InvalidResponse(f"a reply of more than {self.most_lines:,} parts")
        line = self._buffer.readline()
        while not line.endswith(b"\r\n"):
            if len(line) > _LONGEST_LINE:
                raise redis.InvalidResponse(f"a line of more than {_LONGEST_LINE:,} bytes")
            self._read_from_socket(*args, **named)
            line += self._buffer.readline()
        return bytes(line[:-2])


class BoundedParser(_RESP2Parser):
    """A connection's `parser_class`: redis-py's own parser, within bounds."""

    buffer_class = _BoundedBuffer

    def on_connect(self, connection: Any) -> None:
        super().on_connect(connection)  # type: ignore[no-untyped-call]  # redis-py has none
        self._meter = _Metered(connection._sock)
        metered: Any = self._meter
        self._buffer = self.buffer_class(metered, self.socket_read_size, connection.socket_timeout)

    def read_response(self, *args: Any, **named: Any) -> Any:
        try:
            return super().read_response(*args, **named)
        except _UNREADABLE as error:
            raise _no_reply(error) from None
        finally:
            # The next bytes, at any later time, begin another reply, or are the end of the
            # connection.
            if self._buffer is not None:
                self._meter.received = self._buffer.lines = 0


class _DaemonsBuffer(_BoundedBuffer):
    most_lines = _MOST_LINES_OF_A_DAEMON


class DaemonsParser(BoundedParser):
    """The parser of a master, whose replies are shorter."""

    buffer_class = _DaemonsBuffer


class _MeteredStream:
    """An asyncio stream that gives up on a reply that is too long.

    Its lines have a bound already (64 KB); the caller that awaits a reply gives up on a slow reply.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.received = self.lines = 0  # of this reply

    async def read(self, size: int) -> bytes:
        """Reads bytes as a stream does. Raises redis.InvalidResponse."""
        data: bytes = await self._stream.read(size)
        self._count(len(data))
        return data

    async def readexactly(self, size: int) -> bytes:
        """Reads bytes as a stream does, but checks the size first. Raises redis.InvalidResponse."""
        self._count(size)
        data: bytes = await self._stream.readexactly(size)
        return data

    async def readline(self) -> bytes:
        """Reads a line as a stream does. Raises redis.InvalidResponse."""
        self.lines += 1
        if self.lines > _MOST_LINES:
            raise redis.InvalidResponse(f"a reply of more than {_MOST_LINES:,} parts")
        data: bytes = await self._stream.readline()
        self._count(len(data))
        return data

    def _count(self, size: int) -> None:
        self.received += max(size, 0)
        _check_bytes(min(size, 0) or self.received)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class AwaitingParser(_AsyncRESP2Parser):
    """The parser of a connection of redis.asyncio."""

    def on_connect(self, connection: Any) -> None:
        super().on_connect(connection)  # type: ignore[no-untyped-call]  # redis-py has none
        self._meter = _MeteredStream(connection._reader)
        metered: Any = self._meter
        self._stream = metered

    async def read_response(self, *args: Any, **named: Any) -> Any:
        try:
            return await super().read_response(*args, **named)
        except _UNREADABLE as error:
            raise _no_reply(error) from None
        finally:
            self._meter.received = self._meter.lines = 0
