"""The Redis that the user's code talks to: `use_redis`, or a connection handed in."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from rqd.model.current import current
from rqd.model.errors import ConfigurationError
from rqd.store.keys import Keys
from rqd.store.signing_keys import keyring_of
from rqd.store.urls import default_namespace, default_url, hide_password, read_url

if TYPE_CHECKING:
    from rqd.model.signing import Keyring
    from rqd.store.aio import AsyncStore
    from rqd.store.connection import Client
    from rqd.store.queries import Queries
    from rqd.store.store import Store


class Backend:
    """A namespace in a Redis, behind the classes that users import.

    redis-py is loaded at the first use of `store`. So a job's module may import rqd and name its
    Redis, without the quarter of a second that loading costs in each child.
    """

    def __init__(
        self,
        store: Store | None,
        url: str,
        keyring: Keyring | None = None,
        namespace: str | None = None,
    ) -> None:
        """With `store` None, a store for the URL and the namespace is opened at its first use.

        With a `keyring`, everything written is signed and everything read is checked.
        """
        if store is not None:
            self.store = store
        self._keys = Keys(namespace or default_namespace()) if store is None else store.keys
        self.url = url
        self.keyring = keyring

    @cached_property
    def store(self) -> Store:
        """The commands that change the namespace. Loads redis-py at its first use."""
        from rqd.store.connection import client_connection  # noqa: PLC0415 - loads redis-py
        from rqd.store.store import Store  # noqa: PLC0415 - as above

        return Store(client_connection(self.url), self.namespace)

    @cached_property
    def views(self) -> Queries:
        """The queries that read the namespace. Loads redis-py at its first use."""
        from rqd.store.queries import Queries  # noqa: PLC0415 - loads redis-py

        return Queries(self.store)

    @cached_property
    def awaiting(self) -> AsyncStore:
        """The store for asyncio. Raises ConfigurationError for Sentinel and Cluster."""
        from rqd.store.aio import AsyncStore  # noqa: PLC0415 - loads asyncio, for who uses it

        return AsyncStore(self.store)

    @cached_property
    def unnamed_crons(self) -> dict[str, str]:
        """Versions, by name, of the cron entries that this process named after their functions."""
        return {}

    @property
    def namespace(self) -> str:
        """The namespace's name."""
        return self._keys.namespace

    @property
    def redis(self) -> Client:
        """A client of this Redis, for the user's own keys; it answers in bytes."""
        return self.store.redis

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Backend) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    def __repr__(self) -> str:
        return f"<Backend {self.namespace} at {hide_password(self.url)}>"

    @property
    def _identity(self) -> tuple[object, ...]:
        return self.url, self.namespace, self.keyring

    if not TYPE_CHECKING:  # or type checkers would find no mistyped name

        def __getattr__(self, name: str) -> Any:
            """Looks the name up in `redis`: RQ's `queue.connection` is a client (`.ping()`)."""
            if name.startswith("_"):  # `copy` and others look for these before there is a store
                raise AttributeError(name)
            return getattr(self.redis, name)


if TYPE_CHECKING:
    Connection = Backend | Client | str | None
    """What `connection=` takes everywhere; None is what `use_redis` set."""
else:
    Connection = Any  # a client's class is redis-py's


class _Connections:
    """The default backend, and a backend for each client or URL that was handed in."""

    def __init__(self) -> None:
        self.default: Backend | None = None
        self.by_url: dict[tuple[str, str], Backend] = {}
        self.by_client: weakref.WeakKeyDictionary[Any, Backend] = weakref.WeakKeyDictionary()


# Module-level on purpose: "use this Redis from here on" is a property of the process, as in RQ.
_connections = _Connections()


def use_redis(
    connection: Connection = None,
    namespace: str | None = None,
    signing_keys: Sequence[str] | None = None,
) -> None:
    """Sets the Redis that queues and jobs use without a `connection=`.

    `connection` is a URL, a `redis.Redis` whose settings are read, or None for `RQD_URL`, then
    `REDIS_URL`, then localhost:6379. A queue's `connection` is used as it is. `namespace` None is
    `RQD_NAMESPACE` or `rqd`. The first of `signing_keys` signs, all verify; None is
    `RQD_SIGNING_KEY`, then `RQD_SIGNING_KEY_FILE`; an empty list is no keys. Nothing is connected
    before the first use.

    Raises ConfigurationError for an unreadable URL, an unusable client or an invalid key.
    """
    if isinstance(connection, Backend):
        if namespace is not None or signing_keys is not None:
            raise ConfigurationError(
                "connection: a queue's has its own: leave out namespace= and signing_keys="
            )
        _connections.default = connection
        return
    _connections.default = _open(connection, namespace, signing_keys)


def backend_for(connection: Backend | Client | str | None = None) -> Backend:
    """Returns the backend behind a `connection=` of the user's; None is the default backend."""
    if isinstance(connection, Backend):
        return connection
    if connection is None:
        if _connections.default is None:
            _connections.default = _open(None, None)
        return _connections.default
    if isinstance(connection, str):
        key = (connection, default_namespace())
        if (opened := _connections.by_url.get(key)) is None:
            opened = _connections.by_url[key] = _open(connection, None)
        return opened
    try:
        known = _connections.by_client.get(connection)
    except TypeError:  # a number, a dict: opening it raises the error that names the mistake
        known = None
    if known is None:
        known = _connections.by_client[connection] = _open(connection, None)
    return known


@contextmanager
def using(backend: Backend | None) -> Iterator[None]:
    """Makes it the default backend inside the block, as in a daemon's child.

    None: the default is opened at its first use there.
    """
    before, _connections.default = _connections.default, backend
    try:
        yield
    finally:
        _connections.default = before


def own_keyring() -> Keyring | None:
    """Returns this process's keys: its daemon's in a job, else the environment's; None if unset."""
    return current().keyring or keyring_of(os.environ)


def _open(
    connection: str | Client | None,
    namespace: str | None,
    signing_keys: Sequence[str] | None = None,
) -> Backend:
    keyring = own_keyring() if signing_keys is None else _keyring(signing_keys)
    if connection is None or isinstance(connection, str):
        url = default_url() if connection is None else connection
        read_url(url)  # raises here for a bad URL, not at its first use
        return Backend(None, url, keyring, namespace)
    from rqd.store.connection import client_connection, url_of  # noqa: PLC0415 - redis-py is there
    from rqd.store.store import Store  # noqa: PLC0415 - as above

    store = Store(client_connection(connection), namespace or default_namespace())
    return Backend(store, url_of(connection), keyring)


def _keyring(signing_keys: Sequence[str]) -> Keyring | None:
    if not signing_keys:
        return None
    from rqd.model.signing import Keyring  # noqa: PLC0415 - loads hmac, which only keys need

    return Keyring(signing_keys)
