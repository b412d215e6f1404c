"""Connections to Redis, for clients and daemons: to a fixed server or the namespace's owner."""

from __future__ import annotations

import inspect
import ssl
from typing import Any
from urllib.parse import quote, urlencode

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool

from rqd.model.errors import ConfigurationError
from rqd.store.answers import answers_are_read as answers_are_read
from rqd.store.client import PlainClient
from rqd.store.errors import RedisGone as RedisGone
from rqd.store.errors import is_foreign_key as is_foreign_key
from rqd.store.errors import is_full as is_full
from rqd.store.errors import is_refusal as is_refusal
from rqd.store.errors import translate_errors as translate_errors
from rqd.store.failover import (
    Cluster,
    Discovery,
    RetryFor,
    RoamingConnection,
    RoamingTLSConnection,
    Sentinels,
    show,
)
from rqd.store.fast_connection import FastConnections, can_hold
from rqd.store.keys import Keys
from rqd.store.replies import BoundedParser, DaemonsParser
from rqd.store.tls import TLSConnection
from rqd.store.urls import Target, default_url, read_url, unreadable
from rqd.store.urls import hide_password as hide_password

# The layers above know redis-py's client and errors by these names: only store imports redis.
Client = redis.Redis | redis.RedisCluster
RedisError = redis.RedisError

_CLIENT_WAITS = {"socket_timeout": 5.0, "socket_connect_timeout": 2.0}
_DAEMON_WAIT_S = 0.5
_HASTY_WAIT_S = 0.2
# Somebody waits before a screen: with an answer that never comes this is less than two seconds.
_PROMPT_WAIT_S = 1.5
# A failover is over by then, or takes longer than a caller wants to wait.
_CLIENT_PATIENCE_S = 6.0

# redis-py 8 refuses the hundred-and-first call at a time, as if the server were gone: a thread or
# task that waits for a job holds a connection. A URL may limit them.
_AS_MANY_AS_NEEDED: dict[str, Any] = {"max_connections": 2**31 - 1}

# The settings read from a user's client, besides its socket_ and ssl_ settings.
_KEPT_SETTINGS = {
    "host",
    "port",
    "db",
    "path",
    "username",
    "password",
    "credential_provider",
    "client_name",
    "health_check_interval",
}
# The TLS settings of a user's client that go into a URL unchanged.
_TLS_IN_URL = (
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_ca_certs",
    "ssl_ca_path",
    "ssl_password",
)

# The library's name is not sent to the server: it costs two commands at each connect.
_TAKEN = inspect.signature(redis.connection.AbstractConnection.__init__).parameters
_ANONYMOUS: dict[str, None] = dict.fromkeys(
    ["driver_info"] if "driver_info" in _TAKEN else {"lib_name", "lib_version"} & _TAKEN.keys()
)
# Settings that no URL or client may change: answers in bytes and of RESP2's shapes, within bounds.
_OURS = {
    "decode_responses": False,
    "protocol": 2,
    "parser_class": BoundedParser,
    **_ANONYMOUS,
}


def url_of(client: Client) -> str:
    """Returns the URL of a client's settings, for a daemon that shall use the same server."""
    settings, is_secure = _settings_of(client)
    user, password = settings.get("username") or "", settings.get("password") or ""
    login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user or password else ""
    query = _tls_in_url(settings) if is_secure else {}
    database = settings.get("db") or 0
    scheme = "rediss" if is_secure else "redis"
    if isinstance(client, redis.RedisCluster):
        hosts = ",".join(show((node.host, node.port)) for node in _nodes_of(client))
        return _with_query(f"{scheme}+cluster://{login}{hosts}", query)
    pool = client.connection_pool
    if isinstance(pool, SentinelConnectionPool):
        query |= {"db": str(database)} if database else {}
        addresses, theirs = _sentinels_of(pool)
        for name in ("username", "password"):
            if theirs.get(name):
                query[f"sentinel_{name}"] = theirs[name]
        hosts = ",".join(map(show, addresses))
        service = quote(pool.service_name, safe="")
        return _with_query(f"{scheme}+sentinel://{login}{hosts}/{service}", query)
    if path := settings.get("path"):
        return f"unix://{login}{quote(path)}?db={database}"
    address = show((settings.get("host", "localhost"), settings.get("port", 6379)))
    return _with_query(f"{scheme}://{login}{address}/{database}", query)


def client_connection(target: str | Client | None) -> redis.Redis:
    """Makes a client for user code from a URL, from another client's settings, or the default URL.

    A call waits 5 s at most for an answer, or as long as the URL or client says. It is sent again
    twice, or for some seconds where sentinels or a cluster may name another server. Every script is
    safe to send twice.

    Raises ConfigurationError for an unreadable URL, and for a value that is neither a URL nor a
    client.
    """
    if target is None or isinstance(target, str):
        url = default_url() if target is None else target
        read = _read(url)
        pool = _pool_of_url(read)
        pool.connection_kwargs.update({**_CLIENT_WAITS, **pool.connection_kwargs})
    else:
        _check_client(target)
        url = url_of(target)
        read, pool = _pool_like(target)
        if read.kind:
            pool.connection_kwargs.update({**_CLIENT_WAITS, **pool.connection_kwargs})
    # Named here for older versions of redis-py, which retry nothing otherwise.
    again = [redis.ConnectionError, redis.TimeoutError]
    if not read.kind:
        retry = Retry(ExponentialBackoff(cap=0.5, base=0.05), 2)
        return _plain_client(url, pool, retry=retry, retry_on_error=again)
    patience_s = pool.connection_kwargs["socket_connect_timeout"] or 2.0
    retry = RetryFor(_CLIENT_PATIENCE_S)
    return _plain_client(url, _roaming(read, pool, patience_s), retry=retry, retry_on_error=again)


def prompt_connection(target: str | Client | None) -> redis.Redis:
    """Makes a client as `client_connection` does, which gives up a silent server within 2 s.

    A lost connection is opened again once. Sentinels and clusters get the client's time to name
    another server. Raises ConfigurationError.
    """
    client = client_connection(target)
    settings = client.connection_pool.connection_kwargs
    for name in ("socket_timeout", "socket_connect_timeout"):
        settings[name] = min(settings.get(name) or _PROMPT_WAIT_S, _PROMPT_WAIT_S)
    if "directory" not in settings:
        lost = (redis.ConnectionError,)
        settings.update(retry=Retry(NoBackoff(), 1, lost), retry_on_error=[])
    return client


def hasty_connection(url: str) -> redis.Redis:
    """Makes a client for calls that are worth no wait: it gives up after a fifth of a second."""
    client = daemon_connection(url)
    waits = {"socket_timeout": _HASTY_WAIT_S, "socket_connect_timeout": _HASTY_WAIT_S}
    client.connection_pool.connection_kwargs.update(waits)
    return client


def daemon_connection(url: str) -> redis.Redis:
    """Makes a client for the daemon: no retries, half a second at most for a single wait.

    The URL can't change that: the daemon must see signals while Redis is not there.
    """
    read = _read(url)
    pool = _pool_of_url(read)
    waits = {"socket_timeout": _DAEMON_WAIT_S, "socket_connect_timeout": _DAEMON_WAIT_S}
    pool.connection_kwargs.update(waits)
    if read.kind:
        pool = _roaming(read, pool, _DAEMON_WAIT_S)
    return _client(pool, retry=Retry(NoBackoff(), 0), parser_class=DaemonsParser)


def moves_with_a_slot(connection: redis.Redis, keys: Keys) -> bool:
    """True if a cluster has these keys; from then on the connection goes to their slot's owner."""
    directory = connection.connection_pool.connection_kwargs.get("directory")
    if not isinstance(directory, Cluster):
        return False
    directory.belongs(keys.queues)
    return True


def _read(url: str) -> Target:
    try:
        return read_url(url)
    except ConfigurationError:
        raise
    except ValueError as error:
        raise unreadable(url, error) from error


def _check_client(given: object) -> None:
    """Raises ConfigurationError unless the value is a client.

    Only its attributes count: another library's client may do.
    """
    if isinstance(given, redis.RedisCluster):
        return
    pool: Any = getattr(given, "connection_pool", None)
    connects = getattr(pool, "connection_class", None)  # the attribute of a mock is no class
    if not isinstance(connects, type) or inspect.iscoroutinefunction(pool.disconnect):
        kind = type(given)
        raise ConfigurationError(
            f"connection: a {kind.__module__}.{kind.__qualname__} is no connection: write a URL,"
            " or pass a redis.Redis (to rqd.aio, too)"
        )
    if connects.__module__.partition(".")[0] == "fakeredis":
        # Many tests of RQ's users pass it in, and its error for a script explains nothing.
        raise ConfigurationError(
            "connection: fakeredis can't run rqd's scripts: in tests use the server that"
            " rqd.testing.embedded_server() gives, or pytest's fixture rqd_queue"
        )


def _plain_client(url: str, pool: redis.ConnectionPool, **settings: Any) -> PlainClient:
    _settle(pool, settings)
    client = PlainClient(connection_pool=pool)
    client.url = url
    if can_hold(pool):
        client.held = FastConnections(pool)
    return client


def _client(pool: redis.ConnectionPool, **settings: Any) -> redis.Redis:
    _settle(pool, settings)
    return redis.Redis(connection_pool=pool)


def _settle(pool: redis.ConnectionPool, settings: dict[str, Any]) -> None:
    # Last, so that no URL or client can cause answers as text in place of bytes, or other shapes.
    pool.connection_kwargs.update({**_OURS, **settings})


def _pool_of_url(target: Target) -> redis.ConnectionPool:
    try:
        # As `from_url`, where a `protocol` in the URL would override ours.
        read = redis.connection.parse_url(target.plain)
        pool = redis.ConnectionPool(**{**_AS_MANY_AS_NEEDED, **read, "protocol": 2})
        _be_strict(pool)
        pool.connection_class(**pool.connection_kwargs)  # connects nowhere yet
    except (ValueError, TypeError, redis.RedisError) as error:
        reason = str(error).rpartition("__init__() ")[2]
        raise unreadable(target.plain, reason) from error
    return pool


def _be_strict(pool: redis.ConnectionPool) -> None:
    """Checks what older redis-py leaves out: a certificate's name, and that TLS is spoken."""
    settings = pool.connection_kwargs
    if issubclass(pool.connection_class, redis.SSLConnection):
        pool.connection_class = TLSConnection
        is_checked = settings.get("ssl_cert_reqs", "required") != "none"
        settings.setdefault("ssl_check_hostname", is_checked)


def _pool_like(client: Client) -> tuple[Target, redis.ConnectionPool]:
    """Makes a pool to the same server with the same login, without the client's other settings."""
    theirs, is_secure = _settings_of(client)
    kept = {
        name: value
        for name, value in theirs.items()
        if name in _KEPT_SETTINGS or name.startswith(("socket_", "ssl_"))
    }
    if isinstance(client, redis.RedisCluster):
        nodes = tuple((node.host, int(node.port)) for node in _nodes_of(client))
        target = Target("", "cluster", nodes)
    elif isinstance(client.connection_pool, SentinelConnectionPool):
        pool = client.connection_pool
        if not pool.is_master:
            raise ConfigurationError("a client of slave_for() can't write: pass master_for()")
        addresses, settings = _sentinels_of(pool)
        login = {name: settings[name] for name in ("username", "password") if settings.get(name)}
        target = Target("", "sentinel", addresses, pool.service_name, login)
    else:
        connection_class = client.connection_pool.connection_class
        return Target(""), redis.ConnectionPool(
            connection_class=connection_class, protocol=2, **_AS_MANY_AS_NEEDED, **kept
        )
    plain: type[redis.Connection] = TLSConnection if is_secure else redis.Connection
    return target, redis.ConnectionPool(
        connection_class=plain, protocol=2, **_AS_MANY_AS_NEEDED, **kept
    )


def _roaming(target: Target, pool: redis.ConnectionPool, patience_s: float) -> redis.ConnectionPool:
    """Makes a pool whose connections look up their server by the target's sentinels or nodes."""
    settings = dict(pool.connection_kwargs)
    settings.pop("retry", None)
    asking = {name: value for name, value in settings.items() if name not in ("db", "client_name")}
    if target.kind == "sentinel":
        # Sentinels have a login of their own.
        for name in ("username", "password", "credential_provider"):
            asking.pop(name, None)
        asking |= target.sentinel_settings
    asking |= _OURS
    where = (target.addresses, pool.connection_class, asking, patience_s)
    directory: Discovery
    directory = Sentinels(target.service, *where) if target.service else Cluster(*where)
    is_secure = issubclass(pool.connection_class, redis.SSLConnection)
    roaming = RoamingTLSConnection if is_secure else RoamingConnection
    settings |= {"directory": directory, "patience_s": patience_s}
    settings["max_connections"] = pool.max_connections
    return redis.ConnectionPool(connection_class=roaming, **settings)


def _settings_of(client: Client) -> tuple[dict[str, Any], bool]:
    """Returns the settings of a client's connections, and whether they use TLS."""
    if isinstance(client, redis.RedisCluster):
        settings = dict(client.nodes_manager.connection_kwargs)
        return settings, bool(settings.get("ssl"))
    pool = client.connection_pool
    return pool.connection_kwargs, issubclass(pool.connection_class, redis.SSLConnection)


def _tls_in_url(settings: dict[str, Any]) -> dict[str, str]:
    query = {name: str(settings[name]) for name in _TLS_IN_URL if settings.get(name)}
    # redis-py accepts the name as well as the number.
    if settings.get("ssl_cert_reqs", "required") in ("none", ssl.CERT_NONE, None):
        query["ssl_cert_reqs"] = "none"
    elif settings.get("ssl_check_hostname") is False:
        query["ssl_check_hostname"] = "0"
    return query


def _with_query(url: str, query: dict[str, str]) -> str:
    return f"{url}?{urlencode(query)}" if query else url


def _nodes_of(client: redis.RedisCluster) -> list[Any]:
    return list(client.nodes_manager.startup_nodes.values())


def _sentinels_of(
    pool: SentinelConnectionPool,
) -> tuple[tuple[tuple[str, int], ...], dict[str, Any]]:
    """Returns the addresses of a pool's sentinels, and the settings of its connections to them."""
    asked = [one.connection_pool.connection_kwargs for one in pool.sentinel_manager.sentinels]
    addresses = tuple((one.get("host", "localhost"), int(one.get("port", 26379))) for one in asked)
    return addresses, asked[0]
