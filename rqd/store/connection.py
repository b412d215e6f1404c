"""Connections to Redis: what a URL means, the client's connection and the daemon's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry

from rqd.model.errors import ConfigurationError, ServerUnavailableError
from rqd.store.embedded import embedded_redis_url, is_embedded

DEFAULT_URL = "redis://localhost:6379"
SCHEMES = ("redis", "rediss", "unix")

# What a lost or refusing server looks like; a daemon waits for its return.
RedisGone = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.OutOfMemoryError,
    OSError,
)


def default_url() -> str:
    """`RQD_URL`, else `REDIS_URL`, else localhost:6379."""
    return os.environ.get("RQD_URL") or os.environ.get("REDIS_URL") or DEFAULT_URL


def default_namespace() -> str:
    """`RQD_NAMESPACE`, else `rqd`."""
    return os.environ.get("RQD_NAMESPACE") or "rqd"


def client_connection(target: str | redis.Redis | None) -> redis.Redis:
    """A client for user code from a URL, from another client's settings, or the default URL.

    A call waits 5 s at most for an answer and is sent again twice: every script is safe to send
    twice. Raises ConfigurationError for a URL that can't be read.
    """
    return _connect(
        target,
        socket_timeout=5.0,
        socket_connect_timeout=2.0,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 2),
    )


def daemon_connection(url: str) -> redis.Redis:
    """A connection for the daemon: no retries, half a second at most for a single wait, so that
    signals are heard while Redis is not there.
    """
    return _connect(
        url,
        socket_timeout=0.5,
        socket_connect_timeout=0.5,
        retry=Retry(NoBackoff(), 0),
    )


def hide_password(url: str) -> str:
    """The URL as it may stand in logs and tables."""
    try:
        parts = urlsplit(url)
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
    except redis.exceptions.AuthenticationError as error:
        raise ServerUnavailableError(
            f"Redis at {shown} refused the password or user ({error}): check the URL"
        ) from error
    except (redis.exceptions.ReadOnlyError, redis.exceptions.OutOfMemoryError) as error:
        raise ServerUnavailableError(f"Redis at {shown} takes no writes: {error}") from error
    except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
        if is_embedded(url):
            raise ServerUnavailableError(
                f"no embedded server runs for {url}: a daemon starts it, `rqd start --url {url}`"
            ) from error
        raise ServerUnavailableError(
            f"no Redis at {shown} ({error}): is it running, is the URL right?"
        ) from error
    except redis.exceptions.NoPermissionError as error:
        raise ServerUnavailableError(f"Redis at {shown} denies a command: {error}") from error


def _connect(target: str | redis.Redis | None, **settings: Any) -> redis.Redis:
    if target is None:
        target = default_url()
    if not isinstance(target, str):
        # The user's client is read, not used: decode_responses would break bytes.
        pool = target.connection_pool
        kept = {**pool.connection_kwargs, "decode_responses": False}
        kept.pop("retry", None)
        kept.update(retry=settings["retry"])
        return redis.Redis(
            connection_pool=redis.ConnectionPool(connection_class=pool.connection_class, **kept)
        )
    url = _check_url(target)
    try:
        return redis.Redis.from_url(
            embedded_redis_url(url) if is_embedded(url) else url,
            decode_responses=False,
            **settings,
        )
    except ValueError as error:
        raise ConfigurationError(f"URL {hide_password(target)!r}: {error}") from error


def _check_url(url: str) -> str:
    if is_embedded(url):
        return url
    try:
        parts = urlsplit(url)
        good = parts.scheme in SCHEMES and (parts.path if parts.scheme == "unix" else parts.hostname)
        _ = parts.port
    except ValueError:
        good = False
    if not good:
        raise ConfigurationError(
            f"URL {hide_password(url)!r} can't be read: write redis://host:6379/0, rediss://..,"
            " unix:///path/redis.sock, embedded: or embedded:FOLDER"
        )
    return url
