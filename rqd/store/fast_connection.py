"""Connections that a client keeps for its scripts: a round trip with little around it.

redis-py's pool, its checks before each command and its packing of each argument cost more than the
round trip itself. All but the ordinary call is left to redis-py here too: connecting, login,
retries, every answer but an enqueue's, and every error.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Sequence
from functools import lru_cache, partial
from time import monotonic
from typing import Any

import redis

from rqd.store.tls import TLSConnection

# A server or a firewall closes connections that are idle for long: so they are checked before use.
_FRESH_S = 1.0
# Larger texts are sent by themselves: to join them with the rest would cost a copy.
_LARGE_BYTES = 8 * 1024
_KINDS = (redis.Connection, redis.UnixDomainSocketConnection, redis.SSLConnection, TLSConnection)
# The answer of an enqueue: its time, in microseconds.
_instant = re.compile(rb"\$16\r\n(\d{16})\r\n").fullmatch
_INSTANT_BYTES = len(b"$16\r\n1732559999123456\r\n")


def can_hold(pool: redis.ConnectionPool) -> bool:
    """True for connections to a fixed server, with a login that never changes.

    Other connections choose their server with each command, or are renewed by their pool.
    """
    settings = pool.connection_kwargs
    has_own_ways = {"credential_provider", "encoding", "encoding_errors"} & settings.keys()
    return pool.connection_class in _KINDS and not has_own_ways


def open_connection(pool: redis.ConnectionPool) -> Any:
    """Opens a connection with the pool's settings, outside the pool.

    Not by its `make_connection`, which counts all connections ever made, and makes no more after a
    hundred: a single outage would be enough. Raises the errors of redis-py.
    """
    connection = pool.connection_class(**pool.connection_kwargs)
    connection.connect()
    return connection


class FastConnections:
    """Connections outside a pool, with its settings: as many as threads send at a time."""

    def __init__(self, pool: redis.ConnectionPool) -> None:
        self._pool = pool
        # Over TLS the socket's bytes are not the protocol's.
        self._is_bare = not issubclass(pool.connection_class, redis.SSLConnection)
        self._idle: list[tuple[Any, float]] = []
        self._pid = os.getpid()

    def ask(self, command: Sequence[Any]) -> Any:
        """Returns the answer to an EVALSHA; sends it again as redis-py's settings say.

        Raises the errors of redis-py.
        """
        connection = self._take()
        try:
            packed = _packed(command) or connection.pack_command(*command)
            answer = connection.retry.call_with_retry(
                partial(self._exchange, connection, packed), lambda _: connection.disconnect()
            )
        except redis.ResponseError:
            self._idle.append((connection, monotonic()))
            raise
        except BaseException:
            # Even for an interrupt: the next command would read the answer to come.
            connection.disconnect()
            raise
        self._idle.append((connection, monotonic()))
        return answer

    def _take(self) -> Any:  # redis-py left most of its connections without types
        """Returns a connection that nobody else has."""
        if self._pid != os.getpid():
            # These belong to the parent, which goes on using them.
            self._idle, self._pid = [], os.getpid()
        try:
            connection, used_at = self._idle.pop()
        except IndexError:
            return open_connection(self._pool)
        if monotonic() - used_at > _FRESH_S and _is_stale(connection):
            connection.disconnect()
            connection.connect()
        return connection

    def _exchange(self, connection: Any, packed: Sequence[bytes]) -> Any:
        if not self._is_bare:
            connection.send_packed_command(packed)
            return connection.read_response()
        _send(connection, packed)
        return _instant_answered(connection) or connection.read_response()


def _send(connection: Any, packed: Sequence[bytes]) -> None:
    """Sends a command. The kernel mostly accepts all of it at once; redis-py asks beforehand."""
    if connection._sock is not None and len(packed) == 1 and not connection.health_check_interval:
        try:
            sent = os.write(connection._sock.fileno(), packed[0])
        except OSError:
            sent = 0  # redis-py meets it, too, and has a name for it
        if sent == len(packed[0]):
            return
        packed = [packed[0][sent:]]
    connection.send_packed_command(packed)


def _instant_answered(connection: Any) -> bytes | None:
    """Reads an answer that is an instant; None for any other, which stays unread."""
    # Touching redis-py's inside here saves its parser, half of its remaining cost.
    sock: socket.socket = connection._sock
    try:
        seen = sock.recv(_INSTANT_BYTES, socket.MSG_PEEK)
    except TimeoutError:
        connection.disconnect()
        raise redis.TimeoutError("Timeout reading from socket") from None
    except OSError:
        return None  # redis-py meets the error, too, and has a name for it
    if (instant := _instant(seen)) is None:
        return None
    os.read(sock.fileno(), len(seen))  # the bytes are there: no wait
    return instant[1]


def _is_stale(connection: Any) -> bool:
    try:
        return bool(connection.can_read())
    except (redis.ConnectionError, redis.TimeoutError, OSError):
        return True


def _packed(command: Sequence[Any]) -> list[bytes] | None:
    """Packs a command for its socket; None for an argument that redis-py refuses."""
    pieces: list[bytes] = []
    small = [_head(len(command), *command[:4])]
    for argument in command[4:]:
        if type(argument) is str:
            text = argument.encode()
        elif type(argument) is bytes:
            text = argument
        elif type(argument) is int:
            text = b"%d" % argument
        else:
            return None
        if len(text) > _LARGE_BYTES:
            pieces += (b"".join((*small, b"$%d\r\n" % len(text))), text)
            small = [b"\r\n"]
        else:
            small += (_size(len(text)), text, b"\r\n")
    pieces.append(b"".join(small))
    return pieces


@lru_cache(maxsize=1024)
def _size(size_bytes: int) -> bytes:
    """Returns the bytes before a text of this size; the texts of a producer have few sizes."""
    return b"$%d\r\n" % size_bytes


@lru_cache(maxsize=256)
def _head(count: int, *arguments: str | int) -> bytes:
    """Returns the bytes that begin all calls of a script with so many arguments."""
    texts = [str(argument).encode() for argument in arguments]
    return b"*%d\r\n" % count + b"".join(b"$%d\r\n%b\r\n" % (len(text), text) for text in texts)
