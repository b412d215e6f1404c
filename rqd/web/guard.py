"""Stands before every request: its host, its visitor, its origin, and the headers of its answer."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rqd.web.access import Auth, access_of

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class Seal:
    """Seals texts with a secret, so that nobody else can make them."""

    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def of(self, kind: str, text: str) -> str:
        """Returns the seal of a text; each kind of text has its own."""
        sealed = f"{kind}\n{text}".encode(errors="backslashreplace")
        return hmac.new(self.secret, sealed, hashlib.sha256).hexdigest()[:40]

    def fits(self, kind: str, text: str, given: str) -> bool:
        """True if the given seal is the text's; compares in constant time."""
        return hmac.compare_digest(self.of(kind, text).encode(), given.encode(errors="replace"))


class Guard:
    """Refuses requests that must not reach a page; adds the headers of safety to every answer."""

    def __init__(
        self, inner: ASGIApp, auth: Auth | None, read_only: bool, hosts: tuple[str, ...] | None
    ) -> None:
        """`hosts` are the names that a Host header may have; None allows every name."""
        self._inner = inner
        self._auth = auth
        self._read_only = read_only
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers an HTTP request by itself or by the application inside."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        sends = _with_headers(send)
        if self._hosts is not None and _host_of(scope) not in self._hosts:
            # A page of another site may have got its own name resolved to the loopback address.
            text = "This dashboard answers to localhost only. Open it by http://127.0.0.1:PORT/\n"
            await PlainTextResponse(text, 421)(scope, receive, sends)
            return
        access = await access_of(self._auth, scope, self._read_only)
        if access is None:
            challenge = getattr(self._auth, "challenge", None)
            headers = {"www-authenticate": challenge} if challenge else None
            refusal = PlainTextResponse(
                "Not allowed: log in.\n", 401 if challenge else 403, headers
            )
            await refusal(scope, receive, sends)
            return
        scope["rqd.access"] = access
        await self._inner(scope, receive, sends)


def is_from_here(scope: Scope) -> bool:
    """True if a request that changes something comes from a page of this site.

    Browsers send Sec-Fetch-Site; for older browsers the Origin must have our host.
    """
    headers = Headers(raw=scope["headers"])
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host", "")


def _host_of(scope: Scope) -> str | None:
    host = Headers(raw=scope["headers"]).get("host", "")
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _with_headers(send: Send) -> Send:
    async def sends(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(_HEADERS)
            if "cache-control" not in headers:
                headers["cache-control"] = "no-store"
        await send(message)

    return sends
