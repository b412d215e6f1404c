"""Which Redis the user's code talks to: `use_redis`, or a connection handed in."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import quote

import redis

from rqd.store.connection import client_connection, default_namespace, default_url
from rqd.store.store import Store
from rqd.store.views import Views


@dataclass(frozen=True)
class Backend:
    """One namespace in one Redis, as the classes users import see it."""

    store: Store
    url: str

    @cached_property
    def views(self) -> Views:
        """What can be read there."""
        return Views(self.store)

    @property
    def namespace(self) -> str:
        """The namespace's name."""
        return self.store.keys.namespace


class _Connections:
    """The default backend, and one for each client that was handed in."""

    def __init__(self) -> None:
        self.default: Backend | None = None
        self.by_client: weakref.WeakKeyDictionary[Any, Backend] = weakref.WeakKeyDictionary()


# Module-level on purpose: "use this Redis from here on" is a property of the process, as in RQ.
_connections = _Connections()


def use_redis(connection: str | redis.Redis | None = None, namespace: str | None = None) -> None:
    """Sets the Redis that queues and jobs use when none is handed to them.

    `connection` is a URL, a `redis.Redis` whose settings are read, or None for `RQD_URL`, then
    `REDIS_URL`, then localhost:6379; `namespace` None is `RQD_NAMESPACE` or `rqd`. Nothing is
    connected before the first use. Raises ConfigurationError for a URL that can't be read.
    """
    _connections.default = _open(connection, namespace)


def backend_for(connection: Backend | redis.Redis | str | None = None) -> Backend:
    """The backend behind what a user handed in; None is the default one."""
    if isinstance(connection, Backend):
        return connection
    if connection is None:
        if _connections.default is None:
            _connections.default = _open(None, None)
        return _connections.default
    if isinstance(connection, str):
        return _open(connection, None)
    if (known := _connections.by_client.get(connection)) is None:
        known = _connections.by_client[connection] = _open(connection, None)
    return known


def _open(connection: str | redis.Redis | None, namespace: str | None) -> Backend:
    client = client_connection(connection)
    if connection is None:
        url = default_url()
    else:
        url = connection if isinstance(connection, str) else _url_of(connection)
    return Backend(Store(client, namespace or default_namespace()), url)


def _url_of(client: redis.Redis) -> str:
    """The URL of a client's settings, for a daemon that shall use the same server."""
    settings = client.connection_pool.connection_kwargs
    user, password = settings.get("username") or "", settings.get("password") or ""
    login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user or password else ""
    database = settings.get("db") or 0
    if path := settings.get("path"):
        return f"unix://{login}{path}?db={database}"
    secure = issubclass(client.connection_pool.connection_class, redis.SSLConnection)
    host, port = settings.get("host", "localhost"), settings.get("port", 6379)
    return f"redis{'s' if secure else ''}://{login}{host}:{port}/{database}"
