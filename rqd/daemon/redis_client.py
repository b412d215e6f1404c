"""The master's connection to Redis: one pending command, and retries after a loss."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

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


class Marker(NamedTuple):
    """A wake marker: its queue, empty for the master's own marker, and its text."""

    queue: str
    text: str


LOST_MARKER = Marker("", "")


class RedisLink:
    """A store that knows if Redis answers, and when to try again."""

    def __init__(self, url: str, namespace: str, loop: Loop, log: Log) -> None:
        self.store = Store(daemon_connection(url), namespace)
        self.turns = PendingCommand(self.store, loop, _ANSWER_S)
        self.wake_listener = WakeListener(self, loop)
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
        try:
            return self.call(call, now)
        except Refused as refusal:
            self.log_rejection("redis refuses a call", refusal, now)
            return None

    def call(self, call: Callable[[], T], now: float) -> T | None:
        """As `try_call`, but raises Refused if Redis is there and can't carry out the call."""
        if now < self.retry_at:
            return None
        try:
            with answers_are_read():
                answer = call()
        except (*RedisGone, RedisError) as error:
            self.failed(error, now)
            return None
        self.succeeded(now)
        return answer

    def log_rejection(self, message: str, refusal: Refused, now: float, **fields: object) -> None:
        """Logs a refusal; repeats the same refusal only after ten seconds."""
        line = f"{message} {refusal}"
        if now >= self._logged.get(line, now):
            self._logged = {text: at for text, at in self._logged.items() if at > now}
            self._logged[line] = now + _REPEATED_LOG_S
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
        self.wake_listener.close()

    def close(self) -> None:
        """Drops all connections."""
        self.turns.close()
        self.wake_listener.close()
        self.store.redis.connection_pool.disconnect()


class WakeListener:
    """Blocks in BZPOPMIN on wake markers."""

    def __init__(self, link: RedisLink, loop: Loop) -> None:
        self._link = link
        self._command = PendingCommand(link.store, loop, _WAIT_OVERDUE_S)
        self._awaited: tuple[str, ...] = ()
        self._refused_until = 0.0  # after a refused wait, the next begins then
        self.close = self._command.close

    @property
    def is_listening(self) -> bool:
        """True from the beginning of a wait to its end."""
        return self._command.is_under_way

    @property
    def ignores_queues(self) -> bool:
        """True while it waits for the master's own marker only, not for the queues' markers."""
        return self.is_listening and len(self._awaited) == 1

    def next_at(self) -> float:
        """Returns when the next wait may begin, as no marker wakes us until then; inf for none."""
        return math.inf if self.is_listening else self._refused_until

    def listen(self, master: str, queues: Sequence[str], now: float) -> None:
        """Starts to wait for the master's own marker, and for the markers of `queues`."""
        if self.is_listening or now < max(self._link.retry_at, self._refused_until):
            return
        keys = self._link.store.keys
        self._awaited = (keys.wake_master(master), *map(keys.wake_queue, queues))
        try:
            self._command.ask(now, "BZPOPMIN", *self._awaited, _WAIT_S)
        except (*RedisGone, RedisError) as error:
            self._lose(error, now)

    def read(self, ready: set[int], now: float) -> Marker | None:
        """Returns the marker that came; None without one.

        `LOST_MARKER` if the wait has failed or is overdue, as a marker may be lost with it.
        """
        if not self._command.has_answer(ready):
            if now < self._command.overdue_at:
                return None
            self.close()
            return LOST_MARKER
        try:
            with answers_are_read():
                return self._parse(self._command.answer())
        except (*RedisGone, RedisError) as error:
            self._lose(error, now)
            return LOST_MARKER

    def pass_on(self, queue: str, now: float) -> None:
        """Writes the marker of a queue again, for another master."""
        key, redis = self._link.store.keys.wake_queue(queue), self._link.store.redis
        self._link.try_call(lambda: redis.zadd(key, {"look": 0}), now)

    def _parse(self, answer: Any) -> Marker | None:
        if answer is None:
            return None
        # Anybody may have written anything there.
        key, text = answer[0].decode(), answer[1].decode(errors="replace")
        if key == self._awaited[0]:
            return Marker("", text)
        return Marker(key.removeprefix(self._link.store.keys.wake_queue("")), text)

    def _lose(self, error: Exception, now: float) -> None:
        self.close()
        try:
            self._link.failed(error, now)
        except Refused as refusal:
            self._refused_until = now + REFUSED_PAUSE_S
            self._link.log_rejection("redis refuses to wake us", refusal, now)


class PendingCommand:
    """A connection with one pending command. An error in sending is raised, and closes it."""

    def __init__(self, store: Store, loop: Loop, patience_s: float) -> None:
        self._store = store
        self._loop = loop
        self._patience_s = patience_s
        self._connection: Any = None  # redis-py's connection classes share no public type
        self._fd = -1
        self._is_secure = False
        # Attributes, not properties: the master asks for them several times a pass.
        self.is_under_way = False  # from a command to its answer
        self.overdue_at = math.inf  # the time by which its answer is overdue

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
        self.is_under_way, self.overdue_at = True, now + self._patience_s

    def has_answer(self, ready: set[int]) -> bool:
        """True if the answer, or the connection's end, is there to be read."""
        if self._fd not in ready:
            return False
        if self.is_under_way and not self._is_secure:
            return True
        # The bytes may be TLS' own, such as a session ticket: then there is no answer to read.
        is_answer = self._can_read()
        if not self.is_under_way:
            if is_answer:
                self.close()  # ended by the server between two commands; it would stay readable
            return False
        return is_answer

    def answer(self) -> Any:
        """Reads the answer. Raises redis-py's errors: an error reply, a lost connection."""
        self.is_under_way, self.overdue_at = False, math.inf
        return self._connection.read_response()

    def _can_read(self) -> bool:
        try:
            return bool(self._connection.can_read(timeout=0))
        except RedisGone:
            return True  # its end: reading the answer raises it

    def close(self) -> None:
        """Drops the connection, with any pending command."""
        self.is_under_way, self.overdue_at = False, math.inf
        if self._connection is not None:
            self._loop.forget(self._fd)
            self._connection.disconnect()
            self._connection, self._fd = None, -1
