"""Answers a request to Django by an ASGI application, streams included, on either kind of server.

On an ASGI server the application runs on the request's loop. On a WSGI server it runs on a loop in
a thread of its own: a stream outlives the loop that Django makes for an asynchronous view.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterator
from functools import cache
from threading import Thread
from typing import Any, TypeVar

from django.core.handlers.asgi import ASGIRequest
from django.http import StreamingHttpResponse

T = TypeVar("T")


async def answer(app: Any, request: Any, prefix: str, more: dict[str, Any]) -> Any:
    """Returns the application's answer, as if it were mounted at `prefix`.

    `more` is added to its scope.
    """
    scope = _scope(request) | {"root_path": prefix} | more
    exchange = _Exchange(app, scope, request.body)
    if isinstance(request, ASGIRequest):
        status, headers = await exchange.begin()
        return _response(exchange.body(), status, headers)
    status, headers = await asyncio.wrap_future(_submit(exchange.begin()))
    return _response(_blocking(exchange.body()), status, headers)


class _Exchange:
    """One request to the application, and its answer."""

    def __init__(self, app: Any, scope: dict[str, Any], body: bytes) -> None:
        self._app = app
        self._scope = scope
        self._requests = [{"type": "http.request", "body": body, "more_body": False}]
        self._answers: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(maxsize=1)
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Starts the application; returns the status and the headers of its answer."""
        self._task = asyncio.create_task(self._run())
        first = await self._answers.get()
        if first is None:
            await self._task  # raises its error
            raise RuntimeError("the application ended without an answer")
        return first["status"], first["headers"]

    async def body(self) -> AsyncGenerator[bytes, None]:
        """Yields the answer's body; ends the application when the client has left."""
        try:
            while (part := await self._answers.get()) is not None:
                yield part.get("body", b"")
                if not part.get("more_body"):
                    return
        finally:
            if self._task is not None:
                self._task.cancel()

    async def _run(self) -> None:
        try:
            await self._app(self._scope, self._receive, self._answers.put)
        finally:
            await self._answers.put(None)

    async def _receive(self) -> dict[str, Any]:
        if self._requests:
            return self._requests.pop()
        await asyncio.Event().wait()  # until the task is canceled
        raise AssertionError


def _scope(request: Any) -> dict[str, Any]:
    """Returns the request as ASGI has it; Django has read it in its own form."""
    headers = [(name.lower().encode(), value.encode()) for name, value in request.headers.items()]
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.scheme,
        "path": request.path,
        "query_string": request.META.get("QUERY_STRING", "").encode(),
        "headers": headers,
        "client": (request.META.get("REMOTE_ADDR", ""), 0),
        "server": (request.META.get("SERVER_NAME", ""), 0),
    }


def _response(body: Any, status: int, headers: list[tuple[bytes, bytes]]) -> Any:
    response = StreamingHttpResponse(body, status=status)
    del response.headers["Content-Type"]
    for name, value in headers:
        response.headers[name.decode("latin-1")] = value.decode("latin-1")
    return response


def _blocking(body: AsyncGenerator[bytes, None]) -> Iterator[bytes]:
    try:
        while True:
            try:
                yield _submit(_next(body)).result()
            except StopAsyncIteration:
                return
    finally:
        _submit(body.aclose()).result()


async def _next(body: AsyncGenerator[bytes, None]) -> bytes:
    return await anext(body)


def _submit(coroutine: Coroutine[Any, Any, T]) -> Any:
    return asyncio.run_coroutine_threadsafe(coroutine, _loop())


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    Thread(target=loop.run_forever, name="rqd dashboard", daemon=True).start()
    return loop
