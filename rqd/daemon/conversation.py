"""A connection to Redis with one command under way, its socket in the loop.

The loop goes on while Redis works: jobs end and signals are heard in the meantime.
"""

from __future__ import annotations

from typing import Any

from rqd.daemon.loop import Loop
from rqd.store.connection import RedisGone
from rqd.store.held import connected_beside
from rqd.store.store import Store


class Conversation:
    """Asks one thing at a time. Errors of the connection are raised, and close it."""

    def __init__(self, store: Store, loop: Loop, patience_s: float) -> None:
        self._store = store
        self._loop = loop
        self._patience_s = patience_s
        self._connection: Any = None  # redis-py's connection classes share no public type
        self._fd = -1
        self._is_secure = False
        self._asked_at: float | None = None

    @property
    def is_under_way(self) -> bool:
        """True from a question to its answer."""
        return self._asked_at is not None

    def connect(self) -> None:
        """Makes a connection, if there is none."""
        if self._connection is not None:
            return
        connection = connected_beside(self._store.redis.connection_pool)
        self._connection = connection
        # redis-py has no public way to its socket: this is the one place that takes it.
        self._fd = connection._sock.fileno()
        self._is_secure = hasattr(connection._sock, "pending")
        self._loop.watch(self._fd)

    def ask(self, now: float, *command: Any) -> None:
        """Sends a command, over a new connection if there is none."""
        self.connect()
        try:
            self._connection.send_command(*command)
        except BaseException:
            self.close()
            raise
        self._asked_at = now

    def has_answer(self, ready: set[int]) -> bool:
        """True if the answer, or the connection's end, is there to be read."""
        if self._fd not in ready:
            return False
        if self._asked_at is not None and not self._is_secure:
            return True
        # What came may be TLS' own business, such as a session ticket: nothing to be read then.
        is_answer = self._can_read()
        if self._asked_at is None:
            if is_answer:
                self.close()  # ended by the server between two questions; it would stay readable
            return False
        return is_answer

    def overdue_at(self) -> float:
        """When the answer should have come at the latest; infinity while none is awaited."""
        return float("inf") if self._asked_at is None else self._asked_at + self._patience_s

    def answer(self) -> Any:
        """Reads the answer. Raises what redis-py raises: an error reply, a lost connection."""
        self._asked_at = None
        return self._connection.read_response()

    def _can_read(self) -> bool:
        try:
            return bool(self._connection.can_read(timeout=0))
        except RedisGone:
            return True  # its end, which the answer's reader will hear of

    def close(self) -> None:
        """Drops the connection, whatever is under way on it."""
        self._asked_at = None
        if self._connection is not None:
            self._loop.forget(self._fd)
            self._connection.disconnect()
            self._connection, self._fd = None, -1
