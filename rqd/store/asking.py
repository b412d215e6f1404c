"""Asking masters: a command that each of them answers, and who did not answer in time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rqd.store.store import Store
    from rqd.store.views import Views


# An idle master answers within some milliseconds; one that lost its marker, with its next beat.
ANSWER_WITHIN_S = 6.0

# What a master has answered; None if it did not.
Answers = dict[str, dict[str, Any] | None]


def ask(
    store: Store,
    views: Views,
    command: Mapping[str, Any],
    masters: Iterable[str],
    timeout_s: float = ANSWER_WITHIN_S,
) -> Answers:
    """Sends a command to these masters, and waits until all have answered, or the time is over.

    `command` has what to `do`, and its arguments; it gets an id if it has none. The answers are in
    the order of `masters`. An answer with an `error` says why nothing was done. Anybody who can
    write to Redis can write answers: what is in them is text for people, of any type.
    """
    answers: Answers = dict.fromkeys(masters)
    request = command.get("id") or store.request_id()
    told = {"id": request, "answer": True, **command}
    missing = set(store.command(told, list(answers))) if answers else set()
    # Any: redis-py types each answer as bytes, text and a future at once.
    redis: Any = store.redis
    give_up_at, latest, key = monotonic() + timeout_s, b"0", store.keys.answers(request)
    while missing and (left_ms := int((give_up_at - monotonic()) * 1000)) > 0:
        block_ms = min(left_ms, views.block_slice_ms)
        for _, entries in redis.xread({key: latest}, block=block_ms) or []:
            for entry_id, fields in entries:
                latest = entry_id
                master = fields.get(b"master", b"").decode(errors="replace")
                if master in missing and (answer := _read(fields.get(b"answer", b""))) is not None:
                    answers[master] = answer
                    missing.discard(master)
    return answers


def _read(raw: bytes) -> dict[str, Any] | None:
    """None for what is no answer of a master's."""
    try:
        told = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) else None
