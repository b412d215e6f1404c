"""Decides who may see and do things in the dashboard."""

from __future__ import annotations

import base64
import binascii
import hmac
import inspect
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Literal

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers

from rqd.model.errors import ConfigurationError

Scope = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Access:
    """The rights of a visitor.

    `who` is the name in the audit stream. `actions` are the allowed actions, None for all.
    `queues` are patterns of the queues to see (`billing-*`), None for all.
    """

    who: str = "anonymous"
    actions: frozenset[str] | None = None
    queues: tuple[str, ...] | None = None

    def may(self, action: str) -> bool:
        """True if the visitor may do this action."""
        return self.actions is None or action in self.actions

    def sees(self, queue: str) -> bool:
        """True if the visitor may see this queue and its jobs."""
        return self.queues is None or is_covered(queue, self.queues)

    @property
    def sees_all(self) -> bool:
        """True if no queue is hidden from the visitor."""
        return self.queues is None


def is_covered(name: str, patterns: Iterable[str]) -> bool:
    """True if one of the patterns (`billing-*`, in the manner of fnmatch) covers the name."""
    return any(fnmatchcase(name, one) for one in patterns)


Grant = Access | Literal["read", "all"] | Collection[str] | None
Auth = Callable[[Scope], "Grant | Awaitable[Grant]"]
"""Maps a request's scope to rights: None for no access, "read", "all", or a set of actions."""


@dataclass(frozen=True, slots=True)
class Basic:
    """Accepts these names with their passwords, as HTTP's basic authentication."""

    users: Mapping[str, str]
    challenge = 'Basic realm="rqd", charset="UTF-8"'

    def __call__(self, scope: Scope) -> Access | None:
        """Returns all rights for a right password, else None."""
        name, _, password = _decoded(credentials(scope, "basic")).partition(":")
        # Compared for an unknown name, too: the time shall not tell which names there are.
        expected = self.users.get(name, "")
        is_right = hmac.compare_digest(password.encode(), expected.encode())
        return Access(who=name) if is_right and name in self.users else None


@dataclass(frozen=True, slots=True)
class Bearer:
    """Accepts this token, as `Authorization: Bearer TOKEN`."""

    token: str
    challenge = 'Bearer realm="rqd"'

    def __call__(self, scope: Scope) -> Access | None:
        """Returns all rights for the token, else None."""
        given = credentials(scope, "bearer").encode()
        return Access(who="token") if hmac.compare_digest(given, self.token.encode()) else None


async def access_of(auth: Auth | None, scope: Scope, read_only: bool) -> Access | None:
    """Returns the visitor's rights; None for no access. Without `auth` everybody has all rights.

    A callable that is no coroutine function runs in a thread, as it may ask a database.
    """
    if auth is None:
        access: Access | None = Access()
    elif inspect.iscoroutinefunction(auth):
        access = _granted(await auth(scope))
    else:
        granted = await run_in_threadpool(auth, scope)
        access = _granted(await granted if inspect.isawaitable(granted) else granted)
    return replace(access, actions=frozenset()) if access and read_only else access


def check_auth(auth: object) -> None:
    """Raises ConfigurationError unless it is None or can be called with a scope."""
    if auth is not None and not callable(auth):
        raise ConfigurationError(
            "auth: give rqd.web.access.Basic, Bearer, or a function of a scope that returns None,"
            ' "read", "all" or a set of actions'
        )


def _granted(grant: Grant) -> Access | None:
    match grant:
        case None | Access():
            return grant
        case "all":
            return Access(who="user")
        case "read":
            return Access(who="user", actions=frozenset())
        case set() | frozenset() | list() | tuple():
            return Access(who="user", actions=frozenset(grant))
    # Anything else is a mistake of the host application's: it must not open a door.
    raise ConfigurationError(
        f"auth returned {type(grant).__name__}: return None, 'read', 'all', a set of actions or an"
        " Access"
    )


def credentials(scope: Scope, scheme: str) -> str:
    """Returns what the Authorization header has for this scheme, in lower case; empty for none."""
    given, _, rest = Headers(raw=scope["headers"]).get("authorization", "").partition(" ")
    return rest.strip() if given.lower() == scheme else ""


def _decoded(credentials: str) -> str:
    try:
        return base64.b64decode(credentials, validate=True).decode()
    except (binascii.Error, ValueError):
        return ""
