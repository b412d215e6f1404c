"""The dashboard as an ASGI application: routes, errors, and the forms' way to actions."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, urlencode

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

import rqd
from rqd.client.connection import Backend, own_keyring
from rqd.integrations.prometheus import CONTENT_TYPE, exposition
from rqd.model.errors import (
    ConfigurationError,
    InvalidJobOperation,
    NoSuchJobError,
    RqdError,
    ServerUnavailableError,
)
from rqd.model.filter import Filter
from rqd.store.audit import Deed, write_deed
from rqd.store.connection import prompt_connection, translate_errors
from rqd.store.store import Store
from rqd.store.urls import default_namespace, default_url
from rqd.web import actions as actions  # registers them
from rqd.web import bulk as bulk  # as above
from rqd.web import job as job  # as above
from rqd.web import masters as masters  # as above
from rqd.web import operators as operators  # as above
from rqd.web import pages as pages  # as above
from rqd.web.access import Access, Auth, check_auth
from rqd.web.api.routes import api
from rqd.web.api.tokens import Tokens
from rqd.web.frame import ACTIONS, PAGES, Action, BadRequestError, Data, Kept, Look, Page, bounded
from rqd.web.guard import Guard, Seal, is_from_here
from rqd.web.jobs import words_of
from rqd.web.live import Hub, visit
from rqd.web.redact import hide_secrets
from rqd.web.render import FOLDER, environment
from rqd.web.threads import Threads

# So many looks at Redis at a time, each with a connection; and so many actions, of which some wait
# for masters.
_MOST_THREADS = 4
_MOST_FORM_FIELDS, _MOST_FORM_BYTES = 50, 100_000
_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (NoSuchJobError, 404),
    (BadRequestError, 400),
    (InvalidJobOperation, 409),
    (ConfigurationError, 400),
    (ServerUnavailableError, 503),
)
_MENU = (
    *("overview", "queues", "jobs", "failures", "running", "hosts", "cron", "limits", "audit"),
)
T = TypeVar("T")


def app(
    url: str | None = None,
    namespace: str | None = None,
    *,
    auth: Auth | None = None,
    read_only: bool = False,
    redact: Callable[[str], str] = hide_secrets,
    hosts: tuple[str, ...] | None = None,
    secret: bytes | None = None,
    api_tokens: Tokens | str | Path | None = None,
) -> ASGIApp:
    """Makes the dashboard of a namespace as an ASGI application, to serve or to mount.

    `url` and `namespace` None are RQD_URL and RQD_NAMESPACE, or their defaults. `auth` is Basic,
    Bearer or a function of the scope; None lets everybody in: mount it behind your own login then.
    `read_only` leaves out all actions. `redact` changes every text of a job before it is shown.
    `hosts` limits the names in Host headers, None allows all. Processes that serve the same
    dashboard need the same `secret`; None makes one. `api_tokens`, or the file of them, are for the
    HTTP API below /api/v1, for which `auth` does not count; None refuses it. Raises
    ConfigurationError.
    """
    check_auth(auth)
    tokens = Tokens.read(api_tokens) if isinstance(api_tokens, str | Path) else api_tokens
    target = url or default_url()
    store = Store(prompt_connection(target), namespace or default_namespace())
    backend = Backend(store, target, own_keyring())
    site = _Site(backend, redact, Seal(secret) if secret else Seal())
    guard = Guard(site.application(read_only), auth, read_only, hosts)
    # Its requests carry a token each, so nothing of the guard's is for them.
    routes = [Mount("/api/v1", api(backend, tokens, redact, read_only)), Mount("/", guard)]
    return Starlette(routes=routes)


class _Site:
    """The pages and actions of a namespace."""

    def __init__(self, backend: Backend, redact: Callable[[str], str], seal: Seal) -> None:
        self._backend = backend
        self._redact = redact
        self._seal = seal
        self._templates = environment()
        self._kept = Kept()
        self._threads = Threads({"look": _MOST_THREADS, "act": _MOST_THREADS})
        self._hub = Hub(self._in_thread)

    def application(self, read_only: bool) -> Starlette:
        """Returns the routes as an application; without any action if it is read-only."""
        routes: list[Any] = []
        for one in PAGES.values():
            path = f"/{one.path}"
            routes += [Route(f"{path}.json", self._as_json(one)), Route(path, self._as_html(one))]
            if one.is_live:
                routes.append(Route(f"{path}.live", _Live(self, one)))
        routes.append(Route("/", self._as_html(PAGES["overview"])))
        routes.append(Route("/metrics", self._metrics))
        if not read_only:
            routes += [
                Route(f"/do/{one.name}", self._as_form(one), methods=["POST"])
                for one in ACTIONS.values()
            ]
        routes.append(Mount("/static", _Static(directory=FOLDER / "static")))
        missing = {404: self._not_found, Exception: self._failed}
        return Starlette(routes=routes, exception_handlers=missing)

    def look(self, asked: Mapping[str, str], access: Access) -> Look:
        """Makes a visitor's look with these parameters."""
        return Look(self._backend, access, asked, self._redact, self._kept)

    def data(self, one: Page, look: Look) -> Data:
        """Reads a page's data. Blocks. Raises RqdError."""
        with translate_errors(self._backend.url):
            return {name: bounded(value) for name, value in one.data(look).items()}

    def html(self, one: Page, request: Request, data: Data, template: str = "") -> str:
        """Renders a page's data. `template` is another template than the page's."""
        access: Access = request.scope["rqd.access"]
        said = request.query_params.get("said", "")
        is_ours = self._seal.fits("said", said, request.query_params.get("seal", ""))
        return self._templates.get_template(template or one.template).render(
            data,
            page=one,
            pages=[PAGES[path] for path in _MENU],
            root=request.scope.get("root_path", ""),
            # The title and the address of the site that it is mounted in.
            around=request.scope.get("rqd.around"),
            **_addresses(request),
            access=access,
            may=access.may,
            token=self._seal.of("form", access.who),
            said=said if is_ours else "",
            namespace=self._backend.namespace,
            version=rqd.__version__,
            path_of=_query,
            words_of=_words,
        )

    async def _metrics(self, request: Request) -> Response:
        """Answers a scrape of Prometheus, for visitors that may see all queues."""
        if not request.scope["rqd.access"].sees_all:
            return Response("The metrics are of all queues: you may not see them.\n", 403)
        text = await self._in_thread(lambda: exposition(self._backend))
        return Response(text, media_type=CONTENT_TYPE)

    async def _in_thread(self, work: Callable[[], T], kind: str = "look") -> T:
        return await self._threads.run(work, kind)

    def _as_html(self, one: Page) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            look = self.look(request.query_params, request.scope["rqd.access"])

            def render() -> str:
                return self.html(one, request, self.data(one, look))

            try:
                return HTMLResponse(_bytes(await self._in_thread(render)))
            except RqdError as error:
                return self._error(request, error, one)

        return answer

    def _as_json(self, one: Page) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            look = self.look(request.query_params, request.scope["rqd.access"])
            try:
                data = await self._in_thread(lambda: self.data(one, look))
            except RqdError as error:
                return _json({"error": str(error)}, _status(error))
            return _json(data)

        return answer

    def _as_form(self, one: Action) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            access: Access = request.scope["rqd.access"]
            if not is_from_here(request.scope):
                return self._refusal(request, "this form comes from another site")
            asked = await _form(request)
            if not self._seal.fits("form", access.who, asked.get("token", "")):
                return self._refusal(request, "this form is too old: load its page again")
            if not access.may(one.name):
                return self._refusal(request, f"you may not {one.name.replace('-', ' ')}")
            look = self.look(asked, access)
            try:
                said = await self._in_thread(lambda: self._do(one, look), "act")
            except RqdError as error:
                return self._error(request, error, PAGES["overview"])
            return self._back(request, asked.get("back", ""), said)

        return answer

    def _do(self, one: Action, look: Look) -> str:
        """Does an action and notes it with its result, also if it was refused."""
        deed = Deed(look.access.who, one.name, look.param(one.target), "")
        with translate_errors(self._backend.url):
            try:
                said = one.do(look)
            except ServerUnavailableError:
                raise
            except RqdError as error:
                write_deed(self._backend.store, _with_result(deed, f"refused: {error}"))
                raise
            write_deed(self._backend.store, _with_result(deed, said))
        return said

    def _back(self, request: Request, back: str, said: str) -> Response:
        root = request.scope.get("root_path", "")
        path, _, query = back.partition("?")
        known = path.removeprefix(f"{root}/") in PAGES or path == f"{root}/"
        where = back if known else f"{root}/"
        mark = "&" if query and known else "?"
        told = urlencode({"said": said, "seal": self._seal.of("said", said)})
        return RedirectResponse(f"{where}{mark}{told}", 303)

    def _refusal(self, request: Request, why: str) -> Response:
        return self._page_of_error(request, f"Refused: {why}.", 403, PAGES["overview"])

    def _error(self, request: Request, error: Exception, one: Page) -> Response:
        return self._page_of_error(request, str(error), _status(error), one)

    async def _not_found(self, request: Request, _: Exception) -> Response:
        if request.url.path.endswith(".json"):
            return _json({"error": "there is no such page"}, 404)
        return self._page_of_error(request, "There is no such page.", 404, PAGES["overview"])

    async def _failed(self, request: Request, error: Exception) -> Response:
        text = f"The dashboard failed at this page: {type(error).__name__}. Its log says more."
        return self._page_of_error(request, text, 500, PAGES["overview"])

    def _page_of_error(self, request: Request, text: str, status: int, one: Page) -> Response:
        data = {"error": bounded(text), "status": status}
        return HTMLResponse(_bytes(self.html(one, request, data, "error.html")), status)


class _Live:
    """The stream of a page's changes."""

    def __init__(self, site: _Site, page: Page) -> None:
        self._site = site
        self._page = page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        access: Access = scope["rqd.access"]
        hub = self._site._hub
        if hub.is_full:
            await Response("Too many viewers.\n", 503)(scope, receive, send)
            return
        look = (request.query_params, access)

        def render() -> str:
            data = self._site.data(self._page, self._site.look(*look))
            return self._site.html(self._page, request, data)

        await hub.serve((visit(scope), access), render, receive, send)


class _Static(StaticFiles):
    """The script, the styles and the libraries; their addresses change with their content."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["cache-control"] = "public, max-age=86400"
        return response


async def _form(request: Request) -> dict[str, str]:
    """Returns the fields of an URL-encoded form; none of a form that is too large."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _MOST_FORM_BYTES:
            return {}
    try:
        return dict(parse_qsl(body.decode(), max_num_fields=_MOST_FORM_FIELDS))
    except ValueError:
        return {}


def _addresses(request: Request) -> dict[str, str]:
    """Returns the page's address, without the message of the last action, and its live address."""
    kept = [
        (name, value)
        for name, value in request.query_params.multi_items()
        if name not in ("said", "seal")
    ]
    path, root = request.scope["path"].removesuffix(".live"), request.scope.get("root_path", "")
    path = path if root and path.startswith(root) else f"{root}{path}"
    query = f"?{urlencode(kept)}" if kept else ""
    live = f"{path}overview" if path.endswith("/") else path
    return {
        "here": f"{quote(path)}{query}",
        "here_live": f"{quote(live)}.live{query}",
        "here_query": query,
    }


def _query(path: str, **params: object) -> str:
    """Returns a path with parameters; leaves out empty ones."""
    given = {name: str(value) for name, value in params.items() if value not in (None, "")}
    encoded = {name: value.encode(errors="replace") for name, value in given.items()}
    return f"{path}?{urlencode(encoded)}" if encoded else path


def _words(queue: str = "", function: str = "") -> str:
    """Returns the words of a filter; empty for texts that no filter has: others wrote them."""
    try:
        return words_of(Filter(queue=(queue,) if queue else (), function=function))
    except RqdError:
        return ""


def _with_result(deed: Deed, result: str) -> Deed:
    return Deed(deed.who, deed.action, deed.target, result)


def _status(error: Exception) -> int:
    return next((code for kind, code in _STATUS if isinstance(error, kind)), 502)


def _bytes(html: str) -> bytes:
    return html.encode(errors="backslashreplace")


def _json(data: object, status: int = 200) -> Response:
    return Response(json.dumps(data, indent=2) + "\n", status, media_type="application/json")
