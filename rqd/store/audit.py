"""Writes and reads the audit stream: the actions of operators in the dashboard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rqd.model.numbers import EXACT
from rqd.store.messages import read_text
from rqd.store.store import Store

_MOST_ENTRIES = 10_000
_MOST_CHARS = 500


@dataclass(frozen=True, slots=True)
class Deed:
    """An operator's action: the person, the action, its target and its result, all as texts."""

    who: str
    action: str
    target: str
    result: str


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """A deed as it stands in the stream; `at_us` is Redis' clock (us), `id` its place."""

    id: str
    at_us: int
    deed: Deed


def write_deed(store: Store, deed: Deed) -> None:
    """Adds a deed; each of its texts keeps its first 500 characters."""
    texts = (deed.who, deed.action, deed.target, deed.result)
    told = (text[:_MOST_CHARS].encode(errors="backslashreplace") for text in texts)
    store.audit(_MOST_ENTRIES, *told)


def read_audit(store: Store, before: str | None, count: int) -> list[AuditEntry]:
    """Returns entries, latest first; `before` is the id of the entry before them, None at first.

    Raises ValueError for a `before` that is no id.
    """
    last = "+" if before is None else f"({_entry_id(before)}"
    redis: Any = store.redis
    found = redis.xrevrange(store.keys.audit, max=last, count=count)
    return [_read(raw, fields) for raw, fields in found]


def _entry_id(text: str) -> str:
    ms, _, number = text.partition("-")
    if not (ms.isdecimal() and number.isdecimal() and len(text) < 40):
        raise ValueError(f"{text[:40]!r} is no entry of the audit stream")
    return text


def _read(raw: bytes, fields: dict[bytes, bytes]) -> AuditEntry:
    by_name = {read_text(name): read_text(value)[:_MOST_CHARS] for name, value in fields.items()}
    entry_id = read_text(raw)
    ms = entry_id.partition("-")[0]
    at_us = int(ms) * 1000 if ms.isdecimal() and len(ms) < 16 else 0
    deed = Deed(*(by_name.get(name, "") for name in ("who", "action", "target", "result")))
    return AuditEntry(entry_id, min(at_us, EXACT - 1), deed)
