"""Reads the URLs of rqd: a single server, a service that sentinels watch, or a cluster."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from rqd.model.errors import ConfigurationError
from rqd.store.embedded import embedded_redis_url, is_embedded

DEFAULT_URL = "redis://localhost:6379"

Address = tuple[str, int]

_PLAIN = ("redis", "rediss", "unix")
_PASSWORD_IN_QUERY = re.compile(r"((?:^|&)(?:sentinel_|ssl_)?password=)[^&]*")
# A password with a / # or ? that was not encoded leaves the URL without a clear end.
_PASSWORD_BEFORE_AT = re.compile(r"\A([^:/?#]*://[^:/?#@]*:).*@", re.DOTALL)
# A URL in a text, without the marks around it.
_URL_IN_TEXT = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")
_END_OF_HOSTS = re.compile(r"[/?#]")
_ENCODE = (
    "write %2F, %3F, %23, %5B and %5D for each /, ?, #, [ and ] of its password, and %40 for an @"
    " behind its hosts"
)
_PORT = {"sentinel": 26379, "cluster": 6379}
# Files that redis-py reads at each connect; checked at once, so that a typing error is reported.
_FILES = ("ssl_certfile", "ssl_keyfile", "ssl_ca_certs", "ssl_ca_path")


@dataclass(frozen=True, slots=True)
class Target:
    """A URL, read: `plain` is the URL for redis-py, with the login and all settings.

    Where `kind` is `sentinel` or `cluster`, `addresses` are the servers that know the right server.
    """

    plain: str
    kind: str = ""
    addresses: tuple[Address, ...] = ()
    service: str = ""
    sentinel_settings: dict[str, str] = field(default_factory=dict)


def default_url() -> str:
    """Returns `RQD_URL`, else `REDIS_URL`, else localhost:6379."""
    return os.environ.get("RQD_URL") or os.environ.get("REDIS_URL") or DEFAULT_URL


def default_namespace() -> str:
    """Returns `RQD_NAMESPACE`, else `rqd`."""
    return os.environ.get("RQD_NAMESPACE") or "rqd"


def read_url(url: str) -> Target:
    """Reads a URL. Raises ConfigurationError, in a single line, for an unreadable URL."""
    if is_embedded(url):
        return Target(embedded_redis_url(url))
    try:
        parts = _split(url)
        form = _form_of(parts)
    except ValueError:
        raise _no_url(url) from None
    if form is None:
        raise _no_url(url)
    query = _read_query(url, parts.query)
    if not form and parts.hostname:
        _check_host(url, parts.hostname)
    return _read_topology(url, parts, form, query) if form else Target(url)


def _split(url: str) -> SplitResult:
    """Splits a URL as urlsplit does, with several hosts, too.

    Python since 3.11.12 raises ValueError for a host in brackets beside others: so it does not see
    the hosts.
    """
    scheme, _, rest = url.partition("://")
    if "+" not in scheme:
        return urlsplit(url)
    hosts = _END_OF_HOSTS.split(rest, 1)[0]
    return urlsplit(f"{scheme}://{rest[len(hosts) :]}")._replace(netloc=hosts)


def _form_of(parts: SplitResult) -> str | None:
    """Returns `sentinel`, `cluster`, "" for a single server; None for others. Raises ValueError."""
    if {"[", "]"} & set(parts.netloc.rpartition("@")[0]):
        raise ValueError("a bracket in the login")  # as Python since 3.11.4 does by itself
    scheme, _, kind = parts.scheme.partition("+")
    if kind:
        return kind if scheme in ("redis", "rediss") and kind in _PORT else None
    wanted = parts.path if scheme == "unix" else parts.hostname
    _ = parts.port
    if parts.scheme in ("redis", "rediss"):
        # redis-py uses database 0 where this is no number, and reports nothing.
        int(parts.path.strip("/") or 0)
    return "" if parts.scheme in _PLAIN and wanted else None


def _read_topology(url: str, parts: SplitResult, kind: str, query: dict[str, str]) -> Target:
    login, at, hosts = parts.netloc.rpartition("@")
    addresses = tuple(_read_address(url, host, _PORT[kind]) for host in hosts.split(","))
    path = unquote(parts.path.strip("/"))
    service, sentinel_settings = "", {}
    if kind == "sentinel":
        if not path or "/" in path:
            raise unreadable(url, f"name the service: redis+sentinel://{hosts}/SERVICE")
        service, path = path, ""
        sentinel_settings = {
            name.removeprefix("sentinel_"): query.pop(name)
            for name in ("sentinel_username", "sentinel_password")
            if name in query
        }
    elif path not in ("", "0") or query.get("db", "0") != "0":
        raise unreadable(url, "a cluster has one database, 0")
    scheme = parts.scheme.partition("+")[0]
    host, port = addresses[0]
    shown = f"[{host}]" if ":" in host else host
    plain = urlunsplit((scheme, f"{login}{at}{shown}:{port}", path, urlencode(query), ""))
    return Target(plain, kind, addresses, service, sentinel_settings)


def hide_password(url: str) -> str:
    """Returns the URL for logs and tables, without its password."""
    try:
        parts = _split(url)
        if parts.query:
            # redis-py reads a password there too.
            hidden = _PASSWORD_IN_QUERY.sub(r"\1***", parts.query)
            if hidden != parts.query:
                return hide_password(urlunsplit(parts._replace(query=hidden)))
        if parts.password is None or _has_late_at(parts):
            return _PASSWORD_BEFORE_AT.sub(r"\1***@", url)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:***@{host}"))
    except ValueError:
        return "(unreadable URL)"


def hide_passwords(text: str) -> str:
    """Returns the text for logs, with no password in any URL."""
    if "://" not in text:
        return text
    return _URL_IN_TEXT.sub(lambda url: hide_password(url[0]), text)


def unreadable(url: str, why: object) -> ConfigurationError:
    """Returns the error for a bad URL. `why` may quote a part of a password that is not encoded."""
    try:
        may_be_quoted = not _has_late_at(_split(url))
    except ValueError:
        may_be_quoted = False
    return ConfigurationError(f"URL {hide_password(url)!r}: {why if may_be_quoted else _ENCODE}")


def _read_query(url: str, text: str) -> dict[str, str]:
    query = dict(parse_qsl(text))
    for name in _FILES:
        if name in query and not os.path.exists(query[name]):
            raise unreadable(url, f"{name}: there is no {query[name]}")
    return query


def _read_address(url: str, text: str, port: int) -> Address:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port or port
    except ValueError:
        host = None
    if not host:
        raise unreadable(url, f"{text!r} is no host:port")
    _check_host(url, host)
    return host, port


def _check_host(url: str, host: str) -> None:
    """Raises ConfigurationError for a name that no look-up accepts: it would raise UnicodeError."""
    try:
        host.encode("idna")
    except UnicodeError:
        raise unreadable(
            url, f"host {host!r}: between its dots are 1 to 63 characters each"
        ) from None


def _no_url(url: str) -> ConfigurationError:
    return ConfigurationError(
        f"URL {hide_password(url)!r} can't be read: write redis://host:6379/0, rediss://..,"
        " unix:///path/redis.sock, redis+sentinel://host:26379,host/SERVICE,"
        " redis+cluster://host:6379,host, embedded: or embedded:FOLDER"
    )


def _has_late_at(parts: SplitResult) -> bool:
    """True for an @ behind the hosts: most often the end of a password that is not encoded."""
    return "@" in f"{parts.path}{parts.query}{parts.fragment}"
