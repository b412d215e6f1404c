"""The frame of pages and actions: a page is a function of a Look that returns plain data.

The frame makes three of each page: `/queues` is HTML, `/queues.json` the same data as JSON, and
`/queues.live` its changes as server-sent events.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import inf
from time import monotonic
from typing import Any, TypeVar, cast

from rqd.client.connection import Backend
from rqd.client.snapshot import Seen, snapshot
from rqd.model.errors import NoSuchJobError, RqdError
from rqd.web.access import Access

_MOST_CHARS = 200_000
_MOST_ITEMS = 2_000
_MOST_KEPT = 100
T = TypeVar("T")


class Kept:
    """Values that are dear to read, each kept for some seconds, for all visitors."""

    def __init__(self) -> None:
        self._values: dict[object, tuple[float, Any]] = {}

    def value(self, key: object, seconds: float, read: Callable[[], T]) -> T:
        """Returns the value of the key; calls `read` if there is none, or it is too old."""
        now = monotonic()
        read_at, found = self._values.get(key, (-inf, None))
        if now - read_at < seconds:
            return cast(T, found)
        made = read()
        # Two threads may both read it: the later value stays.
        latest = list(self._values.items())[-_MOST_KEPT:]
        self._values = dict(latest) | {key: (now, made)}
        return made


@dataclass(frozen=True)
class Look:
    """A visitor's look at a page: the namespace, the rights, the parameters, the redactor."""

    backend: Backend
    access: Access
    asked: Mapping[str, str]
    redact: Callable[[str], str]
    kept: Kept = field(default_factory=Kept)

    def param(self, name: str, default: str = "") -> str:
        """Returns a parameter of the address or the form; its first 500 characters."""
        return self.asked.get(name, default)[:500]

    @cached_property
    def seen(self) -> Seen:
        """The queues, masters and workers that the visitor may see."""
        found = snapshot(self.backend.views)
        if self.access.sees_all:
            return found
        sees = self.access.sees
        masters = [row | {"queues": list(filter(sees, row["queues"]))} for row in found.masters]
        return Seen(
            [row for row in found.queues if sees(row["name"])],
            [row for row in masters if row["queues"]],
            [row for row in found.workers if row.get("queue") and sees(row["queue"])],
            found.now_us,
        )

    def check_sees(self, queue: str, what: str) -> None:
        """Raises NotHereError for a queue that is hidden from the visitor."""
        if not self.access.sees(queue):
            raise NotHereError(f"there is no {what}")


class NotHereError(NoSuchJobError):
    """Nothing has this name, or the visitor may not see it."""


class BadRequestError(RqdError):
    """The address or the form has a value that cannot be used."""


Data = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    """A page: its path, its template, the function of its data, its title and its key after `g`."""

    path: str
    template: str
    data: Callable[[Look], Data]
    title: str
    key: str
    in_menu: bool
    is_live: bool


@dataclass(frozen=True, slots=True)
class Action:
    """An action: its name, its target's parameter, and the function, which returns its result."""

    name: str
    target: str
    do: Callable[[Look], str]


PAGES: dict[str, Page] = {}
ACTIONS: dict[str, Action] = {}


def page(
    path: str, title: str, *, key: str = "", in_menu: bool = True, live: bool = True
) -> Callable[[Callable[[Look], Data]], Callable[[Look], Data]]:
    """Registers a function as the page at `/path`, with the template `path.html`."""

    def register(data: Callable[[Look], Data]) -> Callable[[Look], Data]:
        PAGES[path] = Page(path, f"{path}.html", data, title, key, in_menu, live)
        return data

    return register


def action(name: str, target: str) -> Callable[[Callable[[Look], str]], Callable[[Look], str]]:
    """Registers a function as the action at `POST /do/name`; `target` is a form's field."""

    def register(do: Callable[[Look], str]) -> Callable[[Look], str]:
        ACTIONS[name] = Action(name, target, do)
        return do

    return register


def bounded(value: Any) -> Any:
    """Returns plain data with its texts and lists cut: whoever writes to Redis may fill them."""
    match value:
        case str() if len(value) > _MOST_CHARS:
            return f"{value[:_MOST_CHARS]} .. (cut: {len(value):,} characters)"
        case dict():
            return {bounded(key): bounded(inner) for key, inner in value.items()}
        case list() | tuple():
            return [bounded(inner) for inner in value[:_MOST_ITEMS]]
    return value
