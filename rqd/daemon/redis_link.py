"""The master's connections to Redis: one that acts, one that waits; and what to do without them.

Nothing here blocks for longer than the daemon's socket timeout. While Redis is gone, calls are
refused at once until the backoff's time is over; jobs run on, and what they end with waits.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import redis

from rqd.daemon.log import Log
from rqd.store.connection import RedisGone, daemon_connection, hide_password
from rqd.store.store import Store

T = TypeVar("T")

_FIRST_BACKOFF_S = 0.05
_LONGEST_BACKOFF_S = 1.0
# The waiter's read is renewed this often, so that a connection that died in silence is found.
_WAIT_S = 30
_WAIT_OVERDUE_S = 35.0


class Refused(Exception):
    """Redis can never carry this call out: a key is of a wrong type, a script failed."""


class RedisLink:
    """A store, with the knowledge of whether Redis answers."""

    def __init__(self, url: str, namespace: str, log: Log) -> None:
        self.store = Store(daemon_connection(url), namespace)
        self.waiter = Waiter(self.store)
        self.is_up = True
        self.retry_at = 0.0
        self._url = hide_password(url)
        self._log = log
        self._backoff_s = _FIRST_BACKOFF_S
        self._lost_at = 0.0

    def attempt(self, call: Callable[[], T], now: float) -> T | None:
        """The call's answer; None if Redis is gone, or its next try is not due yet.

        A call that failed may have been carried out: send the same request again. Raises
        Refused if Redis is there and can never carry it out.
        """
        if now < self.retry_at:
            return None
        try:
            answer = call()
        except (*RedisGone, redis.RedisError) as error:
            if _is_refusal(error):
                raise Refused(str(error)) from error
            self.lose(error, now)
            return None
        if not self.is_up:
            self.is_up = True
            self._log.info("redis is back", url=self._url, gone_s=f"{now - self._lost_at:.1f}")
        self._backoff_s = _FIRST_BACKOFF_S
        return answer

    def pause(self, pause_s: float, now: float) -> None:
        """Redis is there, but what it said had better not be asked again at once."""
        self.retry_at = now + pause_s

    def lose(self, error: Exception, now: float) -> None:
        """Redis failed to answer: no call goes out until the backoff's time is over."""
        if self.is_up:
            self.is_up = False
            self._lost_at = now
            self._log.warning("redis is gone, jobs run on", url=self._url, error=error)
        # Jitter: masters that lost one server together shall not come back together.
        self.retry_at = now + self._backoff_s * random.uniform(0.5, 1.0)
        self._backoff_s = min(_LONGEST_BACKOFF_S, self._backoff_s * 2)
        self.store.redis.connection_pool.disconnect()


class Waiter:
    """A connection that blocks in BZPOPMIN on wake markers, its socket in the loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._connection: Any = None  # redis-py's connection classes share no public type
        self._keys: tuple[str, ...] = ()
        self._armed_at = 0.0
        self.is_armed = False

    @property
    def fd(self) -> int | None:
        """The socket to watch. redis-py has no public way to it: this is the one place."""
        sock = getattr(self._connection, "_sock", None)
        return None if sock is None else int(sock.fileno())

    @property
    def hears_queues(self) -> bool:
        """True when the wait in force covers queues' markers too, not only the master's own."""
        return self.is_armed and len(self._keys) > 1

    def arm(self, master: str, queues: Sequence[str], now: float) -> None:
        """Starts to wait for the master's own marker, and for those of `queues`."""
        keys = self._store.keys
        connection = self._connection
        if connection is None:
            connection = self._connection = self._store.redis.connection_pool.make_connection()
            connection.connect()
        self._keys = (keys.wake_master(master), *map(keys.wake_queue, queues))
        connection.send_command("BZPOPMIN", *self._keys, _WAIT_S)
        self._armed_at = now
        self.is_armed = True

    def is_overdue(self, now: float) -> bool:
        """True when the server should have answered long ago: the connection is dead."""
        return self.is_armed and now - self._armed_at > _WAIT_OVERDUE_S

    def read(self) -> tuple[str, str] | None:
        """(`queue` name or "" for the master's own marker, its text); None for the wait's end.

        Raises what redis-py raises when the connection is gone.
        """
        assert self._connection is not None
        self.is_armed = False
        answer = self._connection.read_response()
        if answer is None:
            return None
        key, member = answer[0].decode(), answer[1].decode()
        queue = "" if key == self._keys[0] else key.removeprefix(self._store.keys.wake_queue(""))
        return queue, member

    def close(self) -> None:
        """Drops the connection."""
        self.is_armed = False
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None


def _is_refusal(error: Exception) -> bool:
    """False for errors that pass: those have a code of their own (MISCONF, BUSY, TRYAGAIN, ..)."""
    if not isinstance(error, redis.ResponseError) or isinstance(error, RedisGone):
        return False
    code = str(error).split(" ", 1)[0]
    return code == "WRONGTYPE" or not code.isupper()
