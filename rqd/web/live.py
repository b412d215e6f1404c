"""Live pages: one reader of a page for all its viewers, and a stream of events to each of them."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

from starlette.types import Receive, Scope, Send

from rqd.model.errors import RqdError

Render = Callable[[], str]
_EVERY_S = 1.0
_LONGEST_BACKOFF_S = 10.0
# A reader rests three times as long as it reads.
_REST = 3.0
# So many pages are read at a time. Fewer than the threads: visitors come before viewers.
_MOST_LOOKS = 2
_SEND_WITHIN_S = 10.0
_PING_S = 15.0
_MOST_VIEWERS = 500


@dataclass(eq=False)
class _View:
    """A page as some viewers see it: its latest event, by which all of them catch up."""

    render: Render
    event: str = ""
    version: int = 0
    viewers: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def show(self, name: str, data: object) -> None:
        event = f"event: {name}\ndata: {json.dumps(data)}\n\n"
        if event != self.event:
            self.event, self.version = event, self.version + 1
            changed, self.changed = self.changed, asyncio.Event()
            changed.set()


class Hub:
    """Reads each page that has viewers, once a second at most, however many they are.

    Each page has a reader of its own: a page that fails is read less and less often, and others as
    before. Nothing is read without viewers.
    """

    def __init__(self, run: Callable[[Render], object]) -> None:
        """`run` calls a function in a thread and is awaited."""
        self._run = run
        self._views: dict[object, _View] = {}
        self._readers: set[asyncio.Task[None]] = set()
        self._places = asyncio.Semaphore(_MOST_LOOKS)

    @property
    def viewers(self) -> int:
        """The number of open streams."""
        return sum(view.viewers for view in self._views.values())

    @property
    def is_full(self) -> bool:
        """True if no further viewer is served."""
        return self.viewers >= _MOST_VIEWERS

    async def serve(self, key: object, render: Render, receive: Receive, send: Send) -> None:
        """Streams a page's changes until the browser leaves or is too slow."""
        view = self._views.get(key) or self._watched(key, render)
        view.viewers += 1
        leaving = asyncio.create_task(_left(receive))
        try:
            await _stream(view, leaving, send)
        except (TimeoutError, OSError):
            pass  # it reads too slowly, or is gone: nothing is kept for it
        finally:
            leaving.cancel()
            view.viewers -= 1
            if not view.viewers and self._views.get(key) is view:
                del self._views[key]

    def _watched(self, key: object, render: Render) -> _View:
        view = self._views[key] = _View(render)
        reader = asyncio.create_task(self._read(view))
        self._readers.add(reader)  # asyncio itself keeps no task alive
        reader.add_done_callback(self._readers.discard)
        return view

    async def _read(self, view: _View) -> None:
        pause_s = _EVERY_S
        while view.viewers:
            began = monotonic()
            async with self._places:
                is_well = await self._look(view)
            took_s = monotonic() - began
            pause_s = _EVERY_S if is_well else min(pause_s * 2, _LONGEST_BACKOFF_S)
            # A look that failed has waited for Redis, and was no load on it.
            await asyncio.sleep(max(pause_s - took_s, took_s * _REST) if is_well else pause_s)

    async def _look(self, view: _View) -> bool:
        try:
            html = await self._run(view.render)  # type: ignore[misc]  # a thread pool's awaitable
        except (RqdError, OSError, ValueError) as error:
            view.show("away", str(error))
            return False
        except Exception as error:  # noqa: BLE001 - a page's mistake: its viewers must hear of it
            problem = {"message": "a live page failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(problem)
            view.show("away", "The dashboard failed at this page. Its log says more.")
            return False
        view.show("page", html)
        return True


async def _stream(view: _View, leaving: asyncio.Task[None], send: Send) -> None:
    headers = [(b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await _send(send, "retry: 2000\n\n")
    seen = 0
    while not leaving.done():
        if view.version > seen:
            seen = view.version
            await _send(send, view.event)
            continue
        waiting = asyncio.create_task(view.changed.wait())
        done, _ = await asyncio.wait(
            (waiting, leaving), timeout=_PING_S, return_when=asyncio.FIRST_COMPLETED
        )
        waiting.cancel()
        if not done:
            await _send(send, ": here\n\n")
    await send({"type": "http.response.body", "body": b""})


async def _send(send: Send, text: str) -> None:
    """Sends a piece. Raises TimeoutError if the browser does not read it in time."""
    body = text.encode(errors="backslashreplace")
    async with asyncio.timeout(_SEND_WITHIN_S):
        await send({"type": "http.response.body", "body": body, "more_body": True})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def visit(scope: Scope) -> str:
    """Returns a short name of an address and its parameters, as a key of views."""
    told = scope["path"].encode() + b"?" + scope["query_string"]
    return hashlib.sha256(told).hexdigest()
