"""Connections to Redis: what a URL means, the client's connection and the daemon's."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry

from rqd.model.errors import ConfigurationError, ServerUnavailableError
from rqd.store.embedded import embedded_redis_url, is_embedded

NOT_OURS = "choose another --namespace, or delete that key"
DEFAULT_URL = "redis://localhost:6379"
SCHEMES = ("redis", "rediss", "unix")

# The names by which the layers above know redis-py's client and errors: only store imports redis.
Client = redis.Redis
RedisError = redis.RedisError

# What a lost or refusing server looks like; a daemon waits for its return.
RedisGone = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.OutOfMemoryError,
    OSError,
)

_PASSWORD_IN_QUERY = re.compile(r"((?:^|&)password=)[^&]*")

# What is read from a user's client, besides its socket_ and ssl_ settings.
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


def url_of(client: redis.Redis) -> str:
    """The URL of a client's settings, for a daemon that shall use the same server."""
    settings = client.connection_pool.connection_kwargs
    user, password = settings.get("username") or "", settings.get("password") or ""
    login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user or password else ""
    database = settings.get("db") or 0
    if path := settings.get("path"):
        return f"unix://{login}{quote(path)}?db={database}"
    secure = issubclass(client.connection_pool.connection_class, redis.SSLConnection)
    host, port = settings.get("host", "localhost"), settings.get("port", 6379)
    host = f"[{host}]" if ":" in host else host
    return f"redis{'s' if secure else ''}://{login}{host}:{port}/{database}"


def is_refusal(error: Exception) -> bool:
    """True if Redis can never carry the call out: a key is of a wrong type, a script failed.

    Errors that pass have a code of their own: MISCONF, BUSY, TRYAGAIN and the like.
    """
    if not isinstance(error, redis.ResponseError) or isinstance(error, RedisGone):
        return False
    code = str(error).split(" ", 1)[0]
    return code == "WRONGTYPE" or not code.isupper()


def is_foreign_key(error: Exception) -> bool:
    """True if a script found, before its first write, a key that holds something else."""
    return str(error).startswith("WRONGTYPE") and "holds something" in str(error)


def default_url() -> str:
    """`RQD_URL`, else `REDIS_URL`, else localhost:6379."""
    return os.environ.get("RQD_URL") or os.environ.get("REDIS_URL") or DEFAULT_URL


def default_namespace() -> str:
    """`RQD_NAMESPACE`, else `rqd`."""
    return os.environ.get("RQD_NAMESPACE") or "rqd"


def client_connection(target: str | redis.Redis | None) -> redis.Redis:
    """A client for user code from a URL, from another client's settings, or the default URL.

    A call waits 5 s at most for an answer, or as long as the URL or client says, and is sent again
    twice: every script is safe to send twice. Raises ConfigurationError for a URL that can't be
    read.
    """
    retry = Retry(ExponentialBackoff(cap=0.5, base=0.05), 2)
    if target is not None and not isinstance(target, str):
        return _client(_pool_like(target), retry=retry)
    pool = _pool_of_url(default_url() if target is None else target)
    waits = {"socket_timeout": 5.0, "socket_connect_timeout": 2.0}
    return _client(pool, **{**waits, **pool.connection_kwargs, "retry": retry})


def daemon_connection(url: str) -> redis.Redis:
    """A connection for the daemon: no retries, half a second at most for a single wait, whatever
    the URL says, so that signals are heard while Redis is not there.
    """
    return _client(
        _pool_of_url(url),
        socket_timeout=0.5,
        socket_connect_timeout=0.5,
        retry=Retry(NoBackoff(), 0),
    )


def hide_password(url: str) -> str:
    """The URL as it may stand in logs and tables."""
    try:
        parts = urlsplit(url)
        if parts.query:
            # redis-py reads a password there too.
            hidden = _PASSWORD_IN_QUERY.sub(r"\1***", parts.query)
            if hidden != parts.query:
                return hide_password(urlunsplit(parts._replace(query=hidden)))
        if parts.password is None:
            return url
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:***@{host}"))
    except ValueError:
        return "(unreadable URL)"


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Turns redis-py's errors into one line with what to do: ServerUnavailableError."""
    shown = hide_password(url)
    try:
        yield
    except BrokenPipeError:
        raise  # our own output's reader has gone; redis-py has its own error for a lost server
    except redis.exceptions.AuthenticationError as error:
        raise ServerUnavailableError(_refused_login(shown, error)) from error
    except (redis.exceptions.ReadOnlyError, redis.exceptions.OutOfMemoryError) as error:
        raise ServerUnavailableError(f"Redis at {shown} takes no writes: {error}") from error
    except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
        if is_embedded(url):
            raise ServerUnavailableError(
                f"no embedded server runs at {url} (`rqd start --url {url}` starts one)"
            ) from error
        raise ServerUnavailableError(
            f"no Redis at {shown} ({error}): is it running, is the URL right?"
        ) from error
    except redis.exceptions.NoPermissionError as error:
        raise ServerUnavailableError(f"Redis at {shown} denies a command: {error}") from error
    except redis.exceptions.ResponseError as error:
        if str(error).startswith("WRONGTYPE"):
            raise ConfigurationError(f"{_foreign_key(error)}: {NOT_OURS}") from error
        # What a server that wants a password says to a command of more than ten arguments.
        if "unauthenticated" not in str(error):
            raise
        raise ServerUnavailableError(_refused_login(shown, error)) from error


def _foreign_key(error: Exception) -> str:
    """The script's own words name the key; a plain command's don't."""
    return str(error) if is_foreign_key(error) else "a key of this namespace holds something else"


def _refused_login(shown_url: str, error: Exception) -> str:
    return f"Redis at {shown_url} refused the password or user ({error}): check the URL"


def _client(pool: redis.ConnectionPool, **settings: Any) -> redis.Redis:
    # Last, so that no URL or client hands out text where bytes are meant, or other shapes.
    pool.connection_kwargs.update(settings, decode_responses=False, protocol=2)
    return redis.Redis(connection_pool=pool)


def _pool_of_url(target: str) -> redis.ConnectionPool:
    url = _check_url(target)
    try:
        address = embedded_redis_url(url) if is_embedded(url) else url
        return redis.ConnectionPool.from_url(address, protocol=2)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"URL {hide_password(target)!r}: {error}") from error


def _pool_like(client: redis.Redis) -> redis.ConnectionPool:
    """A pool to the same server with the same login, and none of the client's other habits."""
    theirs = client.connection_pool
    kept = {
        name: value
        for name, value in theirs.connection_kwargs.items()
        if name in _KEPT_SETTINGS or name.startswith(("socket_", "ssl_"))
    }
    return redis.ConnectionPool(connection_class=theirs.connection_class, protocol=2, **kept)


def _check_url(url: str) -> str:
    if is_embedded(url):
        return url
    try:
        parts = urlsplit(url)
        wanted = parts.path if parts.scheme == "unix" else parts.hostname
        good = parts.scheme in SCHEMES and bool(wanted)
        _ = parts.port
    except ValueError:
        good = False
    if not good:
        raise ConfigurationError(
            f"URL {hide_password(url)!r} can't be read: write redis://host:6379/0, rediss://..,"
            " unix:///path/redis.sock, embedded: or embedded:FOLDER"
        )
    return url
