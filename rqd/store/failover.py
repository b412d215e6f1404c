"""Finds the server that has the namespace: sentinels know a master, a cluster a slot's owner.

Both are asked at each connection. No question takes longer than a quarter of a connection's
patience. After half of the patience the other addresses wait for the next try. So a daemon's loop
does not stall on silent hosts. A connection leaves its server once the owner has changed.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from time import monotonic, sleep
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    ReadOnlyError,
    TryAgainError,
)
from redis.retry import Retry

from rqd.model.errors import ServerUnavailableError
from rqd.store.answers import answers_are_read
from rqd.store.tls import TLSConnection
from rqd.store.urls import Address

_UNKNOWN = "knows no such service"


class NoOwnerError(ServerUnavailableError, redis.ConnectionError):
    """No sentinel or node could name the owner of the namespace, or there is no owner now.

    `is_final`: asking again at once is of no use.
    """

    def __init__(self, message: str, is_final: bool = False) -> None:
        super().__init__(message)
        self.is_final = is_final


class Discovery(ABC):
    """Finds the server to connect to by asking others for it."""

    def __init__(
        self,
        addresses: Sequence[Address],
        connection_class: type[redis.Connection],
        settings: Mapping[str, Any],
        patience_s: float,
    ) -> None:
        self._addresses = list(addresses)
        self._connection_class = connection_class
        self._settings = settings
        self._patience_s = patience_s
        self._teller: Address | None = None
        self._has_found = False

    def find(self) -> Address:
        """Returns the address to connect to now. Raises NoOwnerError."""
        give_up_at = monotonic() + self._patience_s / 2
        failures: list[str] = []
        for address in list(self._addresses):
            if failures and monotonic() >= give_up_at:
                break
            try:
                with answers_are_read():
                    found = self._ask(address)
            except (redis.RedisError, OSError) as error:
                failures.append(f"{show(address)} ({error})")
                self._put_off(address)
            else:
                self._teller = address
                self._has_found = True
                return found
        raise self._nobody(failures)

    def doubt(self) -> None:
        """Notes that the latest answer was of no use: next time the others are asked first."""
        self._put_off(self._teller)

    def hear(self, code: str, text: str, at: Address) -> str:  # noqa: ARG002 - the cluster's
        """Learns the owner from an error reply of the server `at`; returns it in words."""
        self.doubt()
        return f"no master: {code} {text}"

    @abstractmethod
    def _ask(self, address: Address) -> Address:
        """Asks a sentinel or node for the server's address."""

    @abstractmethod
    def _nobody(self, failures: list[str]) -> NoOwnerError:
        """Returns the error for the case that none of the asked servers knew."""

    def _put_off(self, address: Address | None) -> None:
        # A new list: other threads may iterate over the old list.
        if address in self._addresses:
            self._addresses = [one for one in self._addresses if one != address] + [address]

    def _question(self, address: Address, *command: str) -> Any:
        share_s = self._patience_s / 4
        timeouts = {"socket_timeout": share_s, "socket_connect_timeout": share_s}
        host, port = address
        retry = Retry(NoBackoff(), 0)
        settings = {**self._settings, **timeouts, "host": host, "port": port, "retry": retry}
        connection: Any = self._connection_class(**settings)
        try:
            connection.send_command(*command)
            return connection.read_response()
        finally:
            connection.disconnect()


class Sentinels(Discovery):
    """The sentinels of a service."""

    def __init__(self, service: str, *where: Any) -> None:
        super().__init__(*where)
        self.service = service

    def _ask(self, address: Address) -> Address:
        answer = self._question(address, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)
        if answer is None:
            raise redis.ResponseError(_UNKNOWN)
        host, port = answer
        return host.decode(), int(port)

    def _nobody(self, failures: list[str]) -> NoOwnerError:
        reasons = ", ".join(failures)
        if _UNKNOWN in reasons:
            hint = f"no service {self.service!r} is known there: write the name that"
            return NoOwnerError(f"{hint} `sentinel monitor` has, after the hosts ({reasons})", True)
        hint = "are they running, is the URL right?"
        return NoOwnerError(f"no sentinel answers: {reasons}: {hint}", not self._has_found)


class Cluster(Discovery):
    """The nodes of a cluster; the namespace is in a single slot."""

    def __init__(self, *where: Any) -> None:
        super().__init__(*where)
        self._seeds = list(self._addresses)
        self._slot = 0
        self._moved_to: Address | None = None

    def belongs(self, key: str) -> None:
        """Sets the slot whose owner is wanted: this key's."""
        self._slot = key_slot(key.encode())

    def find(self) -> Address:
        """Returns the address to connect to: where MOVED sent us, or a node's answer."""
        moved_to, self._moved_to = self._moved_to, None
        return moved_to or super().find()

    def hear(self, code: str, text: str, at: Address) -> str:
        """Reads MOVED, which names the slot's owner; ASK and TRYAGAIN come while the slot moves."""
        if code == "MOVED":
            host, _, port = text.rpartition(" ")[2].rpartition(":")
            self._moved_to = (host or at[0], int(port))
            return f"the slot of its namespace moved to {show(self._moved_to)}"
        if code in ("ASK", "TRYAGAIN"):
            return "the slot of its namespace is being moved to another node"
        self.doubt()
        return f"{code} {text}"

    def _ask(self, address: Address) -> Address:
        owner: Address | None = None
        nodes: list[Address] = []
        for first, last, *servers in self._question(address, "CLUSTER", "SLOTS"):
            # A node that does not know its own address leaves the host empty.
            addresses = [((s[0] or b"").decode() or address[0], int(s[1])) for s in servers]
            nodes += (node for node in addresses if node not in nodes)
            if int(first) <= self._slot <= int(last):
                owner = addresses[0]
        if owner is None:
            raise redis.ResponseError(f"no node has slot {self._slot}")
        # The node that answered stays first; the seeds stay for the case that all nodes have moved.
        rest = [*nodes, *self._seeds]
        self._addresses = list(dict.fromkeys([address, *rest]))
        return owner

    def _nobody(self, failures: list[str]) -> NoOwnerError:
        reasons = ", ".join(failures)
        if "cluster support disabled" in reasons:
            hint = "that server has no cluster mode: write redis://host:port"
            return NoOwnerError(f"{hint} ({reasons})", True)
        hint = "is the cluster up, is the URL right?"
        return NoOwnerError(
            f"no node of the cluster answers: {reasons}: {hint}", not self._has_found
        )


def show(address: Address) -> str:
    """Returns host:port, with brackets around an IPv6 address."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


T = TypeVar("T")

# The errors that say that another server has the namespace, or none has it now.
_ELSEWHERE = {
    MovedError: "MOVED",
    AskError: "ASK",
    TryAgainError: "TRYAGAIN",
    ClusterDownError: "CLUSTERDOWN",
    ReadOnlyError: "READONLY",
}
_LEAST_WAIT_S = 0.05


class _Roaming(redis.Connection):
    """The common part of both kinds of connection. `patience_s` is for the whole of connecting."""

    def __init__(self, *, directory: Discovery, patience_s: float, **settings: Any) -> None:
        base: Any = super()  # redis-py left most methods of its connections without types
        base.__init__(**settings, redis_connect_func=_shake_hands)
        self._directory = directory
        self._patience_s = patience_s
        self.connect_by = 0.0

    # redis-py's sentinel connections override connect() instead, which its versions call in
    # different places; all of them go through this method.
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
        """Returns the rest of the patience, and a little."""
        return max(_LEAST_WAIT_S, self.connect_by - monotonic())

    def read_response(self, *args: Any, **named: Any) -> Any:
        """Reads a reply as redis-py does. Raises NoOwnerError if another server is the owner."""
        try:
            return super().read_response(*args, **named)
        except redis.ResponseError as error:
            code, text = _read_code(error)
            if not code:
                raise
            reason = self._directory.hear(code, text, (self.host, self.port))
            self.disconnect()  # type: ignore[no-untyped-call]  # redis-py's
            raise NoOwnerError(reason) from error


class RoamingConnection(_Roaming):
    """A connection over TCP."""


class RoamingTLSConnection(_Roaming, TLSConnection):
    """A connection over TLS."""


def _read_code(error: redis.ResponseError) -> tuple[str, str]:
    """Returns the code of an error in _ELSEWHERE, and its text; "" for any other."""
    text = str(error)
    for kind, code in _ELSEWHERE.items():
        if isinstance(error, kind):
            return code, text
    # An older redis-py knows the cluster's errors in its cluster client only.
    code, _, rest = text.partition(" ")
    return (code, rest) if code in _ELSEWHERE.values() else ("", text)


def _shake_hands(connection: Any) -> None:
    """Logs in and sets up the connection, within the rest of the patience."""
    connection.on_connect()
    connection._sock.settimeout(connection.socket_timeout)


class RetryFor(Retry):
    """Tries again for so many seconds: as long as a failover takes, or the move of a small slot."""

    def __init__(self, seconds: float) -> None:
        # OSError for older versions of redis-py, which raise it unchanged where nobody listens.
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
        """Retries as redis-py does. Its loops are nested: only the outermost tries again."""
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
