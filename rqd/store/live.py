"""Sends commands to masters, signed where there are keys, and reads their replies."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

from rqd.model.errors import ConfigurationError
from rqd.store.signing_keys import FILE_VARIABLE, KEY_VARIABLE

if TYPE_CHECKING:
    from rqd.model.signing import Keyring
    from rqd.store.queries import Queries
    from rqd.store.store import Store

# An idle master replies within some milliseconds; a master that lost its marker, with its next
# beat.
ANSWER_WITHIN_S = 6.0

# The replies of masters by name; None for a master that did not reply.
Replies = dict[str, dict[str, Any] | None]


@dataclass(frozen=True, slots=True)
class Sent:
    """The masters that have the command in their lists, and why others would refuse it, by name.

    A master that is gone is in neither.
    """

    reached: list[str]
    refused: dict[str, str]


def send(
    store: Store,
    command: Mapping[str, Any],
    masters: Iterable[str],
    keyring: Keyring | None = None,
) -> Sent:
    """Sends a command, which needs an `id`, to these masters.

    With keys it is signed for each master, for the boot id in its row. A master whose row says that
    it would refuse the command gets none.
    """
    rows, now_us = _look_up(store, list(masters))
    refused = {name: why for name, row in rows.items() if (why := _refusal(row, keyring))}
    rest = [name for name in rows if name not in refused]
    if keyring is None:
        return Sent(store.command(command, rest) if rest else [], refused)
    # Late: without a key nobody loads hmac.
    from rqd.model.signing import Addressee, sign_command  # noqa: PLC0415 - see above

    reached = []
    for name in rest:
        to = Addressee(store.keys.namespace, name, rows[name].boot)
        reached += store.command(sign_command(command, keyring, to, now_us), [name])
    return Sent(reached, refused)


def send_to(
    store: Store, command: Mapping[str, Any], master: str, keyring: Keyring | None = None
) -> bool:
    """Sends a command to a single master; False if it is gone.

    Raises ConfigurationError if it would refuse the command.
    """
    sent = send(store, command, [master], keyring)
    if why := sent.refused.get(master):
        raise ConfigurationError(f"master {master!r}: {why}")
    return bool(sent.reached)


def ask(
    store: Store,
    views: Queries,
    command: Mapping[str, Any],
    masters: Iterable[str],
    timeout_s: float = ANSWER_WITHIN_S,
    keyring: Keyring | None = None,
) -> Replies:
    """Sends a command to these masters, and waits until all have replied, or the time is over.

    `command` has the action under `do`, and its arguments; it gets an id if it has none. The
    replies are in the order of `masters`. A reply with an `error` says why nothing was done.
    Anybody who can write to Redis can write replies: their content is text for people, of any type.
    """
    answers: Replies = dict.fromkeys(masters)
    request = command.get("id") or store.request_id()
    message = {"id": request, "answer": True, **command}
    sent = send(store, message, answers, keyring)
    answers.update({name: {"error": why} for name, why in sent.refused.items()})
    missing = set(sent.reached)
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


@dataclass(frozen=True, slots=True)
class _Row:
    boot: str
    key_ids: frozenset[str]
    is_signed_only: bool


def _look_up(store: Store, masters: list[str]) -> tuple[dict[str, _Row], int]:
    """Returns the signing fields of these masters' rows, and Redis' time in microseconds."""
    if not masters:
        return {}, 0
    with store.redis.pipeline(transaction=False) as pipe:
        pipe.time()
        for name in masters:
            pipe.hmget(store.keys.master(name), "boot", "key_ids", "signed_only")
        time, *rows = pipe.execute(raise_on_error=False)
    if isinstance(time, Exception):
        raise time
    seconds, micros = time
    found = {name: _read_row(row) for name, row in zip(masters, rows, strict=True)}
    return found, int(seconds) * 1_000_000 + int(micros)


def _read_row(reply: Any) -> _Row:
    """Reads a row's fields; empty fields if the key holds something else."""
    fields = reply if isinstance(reply, list) else [b"", b"", b""]
    boot, key_ids, signed_only = ((raw or b"").decode(errors="replace") for raw in fields)
    return _Row(boot, frozenset(filter(None, key_ids.split(","))), signed_only == "1")


def _refusal(row: _Row, keyring: Keyring | None) -> str:
    """Returns why a master would refuse; empty if it would not."""
    variables = f"{KEY_VARIABLE} or {FILE_VARIABLE}"
    if keyring is None:
        return f"it obeys signed commands only: set {variables}" if row.is_signed_only else ""
    if row.key_ids and keyring.key_ids[0] not in row.key_ids:
        return f"it lacks the key {keyring.key_ids[0]}, which signs here: check {variables}"
    return ""


def _read(raw: bytes) -> dict[str, Any] | None:
    """Reads a reply; None for a text that is no master's reply."""
    try:
        answer = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None
