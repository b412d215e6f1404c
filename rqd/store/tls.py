"""Connections over TLS, which find out soon that the server speaks no TLS."""

from __future__ import annotations

import socket
from typing import Any

import redis

from rqd.model.errors import ServerUnavailableError

NO_TLS = "does not speak TLS: write redis:// in place of rediss://"
_PROBE_S = 1.0


class NoTLSError(ServerUnavailableError, redis.RedisError):
    """Raised where a Redis answers without TLS. No ConnectionError: redis-py would try again."""


class TLSConnection(redis.SSLConnection):
    """A connection over TLS. Its handshake has no more time than connecting has.

    A Redis without TLS waits for the end of a line, and answers nothing to a handshake.
    """

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> Any:
        limits_s = [s for s in (self.socket_connect_timeout, self.socket_timeout) if s is not None]
        sock.settimeout(min(limits_s, default=None))
        try:
            base: Any = super()  # redis-py left it without types
            secure = base._wrap_socket_with_ssl(sock)
        except TimeoutError:
            if _answers_in_plain(self.host, self.port):
                raise NoTLSError(f"Redis at {self.host}:{self.port} {NO_TLS}") from None
            raise
        secure.settimeout(self.socket_timeout)
        return secure


def _answers_in_plain(host: str, port: int) -> bool:
    """True if the server answers a PING without TLS, be it by an error."""
    try:
        with socket.create_connection((host, port), _PROBE_S) as plain:
            plain.sendall(b"PING\r\n")
            return plain.recv(1) in (b"+", b"-")
    except OSError:
        return False
