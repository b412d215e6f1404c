"""Connections that look up their server each time they connect, and leave it when it has changed.

Redis-py's own clients for this keep pools and tables for many nodes. A namespace is always on one,
so one connection that knows whom to ask is enough; it serves commands, pipelines and the daemon's
conversations alike. What says "not here, not now" becomes a lost connection: whoever bears one
connects again, to the right server, and sends the same once more, which every script allows.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from time import monotonic, sleep
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    ReadOnlyError,
    TryAgainError,
)
from redis.retry import Retry

from rqd.store.directory import Directory, NoOwnerError

T = TypeVar("T")

# What says that another server has the namespace, or none has it now.
_ELSEWHERE = {
    MovedError: "MOVED",
    AskError: "ASK",
    TryAgainError: "TRYAGAIN",
    ClusterDownError: "CLUSTERDOWN",
    ReadOnlyError: "READONLY",
}
_LEAST_WAIT_S = 0.05


class _Roaming(redis.Connection):
    """What both kinds of connection have in common. `patience_s` is for the whole of connecting."""

    def __init__(self, *, directory: Directory, patience_s: float, **settings: Any) -> None:
        base: Any = super()  # redis-py left most methods of its connections without types
        base.__init__(**settings, redis_connect_func=_shake_hands)
        self._directory = directory
        self._patience_s = patience_s
        self.connect_by = 0.0

    # redis-py's sentinel connections override connect() instead, which its versions call in
    # different places; this is the one through which all go.
    def _connect(self) -> Any:
        self.connect_by = monotonic() + self._patience_s
        self.host, self.port = self._directory.find()
        usual_s = self.socket_timeout
        # For TLS' handshake, too.
        self.socket_connect_timeout = self.socket_timeout = self.left_s()
        try:
            base: Any = super()
            sock = base._connect()
        except OSError:
            self._directory.doubt()
            raise
        finally:
            self.socket_timeout = usual_s
        sock.settimeout(self.left_s())
        return sock

    def left_s(self) -> float:
        """What is left of the patience, and a little."""
        return max(_LEAST_WAIT_S, self.connect_by - monotonic())

    def read_response(self, *args: Any, **named: Any) -> Any:
        """As in redis-py. Raises NoOwnerError where another server has the namespace."""
        try:
            return super().read_response(*args, **named)
        except redis.ResponseError as error:
            code, text = _read_code(error)
            if not code:
                raise
            told = self._directory.hear(code, text, (self.host, self.port))
            self.disconnect()  # type: ignore[no-untyped-call]  # redis-py's
            raise NoOwnerError(told) from error


class RoamingConnection(_Roaming):
    """Over TCP."""


class RoamingTLSConnection(_Roaming, redis.SSLConnection):
    """Over TLS."""


def _read_code(error: redis.ResponseError) -> tuple[str, str]:
    """The code of an error of these kinds, and its text; "" for any other."""
    text = str(error)
    for kind, code in _ELSEWHERE.items():
        if isinstance(error, kind):
            return code, text
    # An older redis-py knows the cluster's errors in its cluster client only.
    code, _, rest = text.partition(" ")
    return (code, rest) if code in _ELSEWHERE.values() else ("", text)


def _shake_hands(connection: Any) -> None:
    """Login and the rest, within what is left of the patience."""
    connection.on_connect()
    connection._sock.settimeout(connection.socket_timeout)


class Patience(Retry):
    """Tries again for so many seconds: as long as a failover takes, or the move of a small slot."""

    def __init__(self, seconds: float) -> None:
        # OSError for older versions of redis-py, which raise it as it is where nobody listens.
        again = (redis.ConnectionError, redis.TimeoutError, OSError)
        super().__init__(NoBackoff(), -1, supported_errors=again)
        self._seconds = seconds
        self._is_trying = False

    def call_with_retry(
        self,
        do: Callable[[], T],
        fail: Callable[..., Any],
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,
    ) -> T:
        """As in redis-py, whose loops stand in one another: only the outermost tries again."""
        if self._is_trying:
            return do()
        self._is_trying = True
        try:
            return self._try(do, fail, is_retryable, with_failure_count)
        finally:
            self._is_trying = False

    def _try(
        self,
        do: Callable[[], T],
        fail: Callable[..., Any],
        is_retryable: Callable[[Exception], bool] | None,
        with_failure_count: bool,
    ) -> T:
        give_up_at = monotonic() + self._seconds
        pause_s, failures = 0.02, 0
        while True:
            try:
                return do()
            except self._supported_errors as error:
                failures += 1
                if is_retryable and not is_retryable(error):
                    raise
                fail(error, failures) if with_failure_count else fail(error)
                if getattr(error, "is_final", False) or monotonic() + pause_s >= give_up_at:
                    raise
            sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(0.4, pause_s * 2)
