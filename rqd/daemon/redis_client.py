"""The master's connection to Redis: one pending command, and retries after a loss."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from rqd.daemon.event_loop import Loop
from rqd.daemon.log.log import Log
from rqd.daemon.timers import Gates
from rqd.store.connection import (
    RedisError,
    RedisGone,
    answers_are_read,
    daemon_connection,
    hide_password,
    is_foreign_key,
    is_full,
    is_refusal,
)
from rqd.store.fast_connection import open_connection
from rqd.store.store import Store

T = TypeVar("T")

_FIRST_BACKOFF_S = 0.05
# Half a second of silence at most, then this pause: outcomes are recorded within a second after
# Redis is back.
_LONGEST_BACKOFF_S = 0.4
# A refused call is tried again after the first; the same refusal is logged again after the second.
REFUSED_PAUSE_S = 1.0
_REPEATED_LOG_S = 10.0
_MOST_REASONS = 8  # logged for one outage
_ANSWER_S = 0.5
# The waiter's read is renewed this often, so that a connection that died in silence is found.
_WAIT_S = 30
_WAIT_OVERDUE_S = 35.0


class Refused(Exception):
    """Redis can't carry this call out: a key is of a wrong type, a script failed, it is full.

    `will_pass`: Redis did nothing, and the same call succeeds once that key is gone or there is
    memory.
    """

    def __init__(self, why: str, will_pass: bool = False) -> None:
        super().__init__(why)
        self.will_pass = will_pass


class RedisLink:
    """A store that knows if Redis answers, and when to try again."""

    def __init__(self, url: str, namespace: str, loop: Loop, log: Log) -> None:
        self.store = Store(daemon_connection(url), namespace)
        self.turns = PendingCommand(self.store, loop, _ANSWER_S)
        self.waiter = WakeListener(self.store, loop)
        self.is_up = True
        self.retry_at = 0.0
        self._url = hide_password(url)
        self._log = log
        self._backoff_s = _FIRST_BACKOFF_S
        self._lost_at = 0.0
        self._reasons: set[str] = set()  # the reasons logged in this outage
        self._logged: dict[str, float] = {}

    def try_call(self, call: Callable[[], T], now: float) -> T | None:
        """Returns the call's answer; None if Redis is gone, refuses it, or is not to be tried yet.

        A call that failed may have been carried out: send the same request again.
        """
        if now < self.retry_at:
            return None
        try:
            with answers_are_read():
                answer = call()
        except (*RedisGone, RedisError) as error:
            try:
                self.failed(error, now)
            except Refused as refusal:
                self.log_rejection("redis refuses a call", refusal, now)
            return None
        self.succeeded(now)
        return answer

    def log_rejection(self, message: str, refusal: Refused, now: float, **fields: object) -> None:
        """Logs a refusal; repeats the same refusal only after ten seconds."""
        told = f"{message} {refusal}"
        if now >= self._logged.get(told, now):
            self._logged = {text: at for text, at in self._logged.items() if at > now}
            self._logged[told] = now + _REPEATED_LOG_S
            self._log.error(message, **fields, error=refusal)

    def gates(self) -> Gates:
        """Returns the moments from which timers may run that need Redis, or a pause of turns."""
        turns_end_at = math.inf if self.turns.is_under_way else self.retry_at
        return -math.inf, self.retry_at, turns_end_at

    def next_try(self, now: float) -> float:
        """Returns when to repeat a call that has just failed."""
        return self.retry_at if self.retry_at > now else now + REFUSED_PAUSE_S

    def succeeded(self, now: float) -> None:
        """Notes that Redis has answered: an outage is over."""
        if not self.is_up:
            self.is_up = True
            self._log.info("redis is back", url=self._url, gone_s=round(now - self._lost_at, 1))
        self._backoff_s = _FIRST_BACKOFF_S

    def failed(self, error: Exception, now: float) -> None:
        """Notes that Redis is gone: closes all connections, and the backoff begins.

        Raises Refused instead if Redis is there, but can't carry out the call.
        """
        if is_refusal(error) or is_full(error):
            raise Refused(str(error), is_foreign_key(error) or is_full(error)) from error
        if self.is_up:
            self.is_up = False
            self._lost_at = now
            self._reasons = {str(error)}
            self._log.warning("redis is gone, jobs run on", url=self._url, error=error)
        elif str(error) not in self._reasons and len(self._reasons) < _MOST_REASONS:
            # The first error often says only that connections were closed. This error says why: a
            # new password, a move, an end.
            self._reasons.add(str(error))
            self._log.warning("redis is still gone", url=self._url, error=error)
        # Jitter: masters that lost one server together shall not come back together.
        self.retry_at = now + self._backoff_s * random.uniform(0.5, 1.0)
        self._backoff_s = min(_LONGEST_BACKOFF_S, self._backoff_s * 2)
        self.store.redis.connection_pool.disconnect()
        self.turns.close()
        self.waiter.close()

    def close(self) -> None:
        """Drops all connections."""
        self.turns.close()
        self.waiter.close()
        self.store.redis.connection_pool.disconnect()


class WakeListener:
    """Blocks in BZPOPMIN on wake markers."""

    def __init__(self, store: Store, loop: Loop) -> None:
        self._keys = store.keys
        self._conversation = PendingCommand(store, loop, _WAIT_OVERDUE_S)
        self._awaited: tuple[str, ...] = ()
        self.close = self._conversation.close
        self.has_answer = self._conversation.has_answer
        self.overdue_at = self._conversation.overdue_at

    @property
    def is_armed(self) -> bool:
        """True while it waits."""
        return self._conversation.is_under_way

    @property
    def listens_to_queues(self) -> bool:
        """True if the current wait covers queues' markers too, not only the master's own."""
        return self.is_armed and len(self._awaited) > 1

    def arm(self, master: str, queues: Sequence[str], now: float) -> None:
        """Starts to wait for the master's own marker, and for the markers of `queues`."""
        self._awaited = (self._keys.wake_master(master), *map(self._keys.wake_queue, queues))
        self._conversation.ask(now, "BZPOPMIN", *self._awaited, _WAIT_S)

    def read(self) -> tuple[str, str] | None:
        """Returns a queue's name ("" for the master's own marker) and the marker's text.

        None if the wait ended without a marker. Raises redis-py's errors if the connection is gone.
        """
        answer = self._conversation.answer()
        if answer is None:
            return None
        # Anybody may have written anything there.
        key, member = answer[0].decode(), answer[1].decode(errors="replace")
        is_own = key == self._awaited[0]
        return "" if is_own else key.removeprefix(self._keys.wake_queue("")), member


class PendingCommand:
    """A connection with one pending command. An error in sending is raised, and closes it."""

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
        """True from a command to its answer."""
        return self._asked_at is not None

    def connect(self) -> None:
        """Opens a connection, if there is none."""
        if self._connection is not None:
            return
        connection = open_connection(self._store.redis.connection_pool)
        self._connection = connection
        # redis-py has no public way to its socket.
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
        # The bytes may be TLS' own, such as a session ticket: then there is no answer to read.
        is_answer = self._can_read()
        if self._asked_at is None:
            if is_answer:
                self.close()  # ended by the server between two commands; it would stay readable
            return False
        return is_answer

    def overdue_at(self) -> float:
        """Returns when the answer is overdue; infinity while none is awaited."""
        return float("inf") if self._asked_at is None else self._asked_at + self._patience_s

    def answer(self) -> Any:
        """Reads the answer. Raises redis-py's errors: an error reply, a lost connection."""
        self._asked_at = None
        return self._connection.read_response()

    def _can_read(self) -> bool:
        try:
            return bool(self._connection.can_read(timeout=0))
        except RedisGone:
            return True  # its end: reading the answer raises it

    def close(self) -> None:
        """Drops the connection, with any pending command."""
        self._asked_at = None
        if self._connection is not None:
            self._loop.forget(self._fd)
            self._connection.disconnect()
            self._connection, self._fd = None, -1
