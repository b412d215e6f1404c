"""A turn's outcomes and free workers on their way into `turn.lua`: packed in one string, as the
client library spends more on an argument than the server on a job.

How is in texts.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from rqd.store.exchange import Settlement, Turn
from rqd.store.packing import INLINE_LIMIT_BYTES
from rqd.store.texts import packed_list, packed_text

_WITH_RESULT = ("finish", "repeat")
# A turn keeps the server for some 10 ms: so many outcomes, and so many free workers. The end of a
# job that makes others, or lets others go on, counts for several.
MOST_A_TURN = 256
_COSTLY_TERMS = ('"callbacks"', '"limit"')
_COSTLY_WEIGHT = 8


def turn_argument(turn: Turn) -> tuple[bytes, dict[str, bytes]]:
    """The string, and the results to be staged by their names: those that are too large for it."""
    settlements: list[bytes] = []
    staged: dict[str, bytes] = {}
    for one in turn.settlements:
        name, result = "", one.result if one.decision in _WITH_RESULT else None
        if is_staged(one):
            # The same in each turn that brings this outcome: what was refused leaves no second one.
            name = f"{one.token}:{one.id}"
            staged[name], result = one.result, None
        settlements.append(_settlement(one, name, result))
    workers = [_texts((number, turn.pids.get(number, 0))) for number in turn.free_workers]
    workers += [_texts((number, "")) for number in turn.ahead]
    parts = (b"".join(settlements), b"".join(workers), _texts(turn.busy))
    return b"".join(map(packed_text, parts)), staged


def within_a_turn(terms: Iterable[str]) -> int:
    """How many of the jobs with these terms have their outcomes in one turn; at least one."""
    fitting, weight = 0, 0
    for one in terms:
        is_costly = one and any(name in one for name in _COSTLY_TERMS)
        weight += _COSTLY_WEIGHT if is_costly else 1
        if weight > MOST_A_TURN:
            break
        fitting += 1
    return fitting


def is_staged(one: Settlement) -> bool:
    """True if its result is too large for the script, and has to be in Redis before."""
    return one.decision in _WITH_RESULT and len(one.result) > INLINE_LIMIT_BYTES


def _settlement(one: Settlement, staged_as: str, result: bytes | None) -> bytes:
    told = (one.id, one.token, one.worker, one.decision, one.delay_us, staged_as)
    fields: list[bytes] = []
    for name, value in one.fields:
        fields += (_name(name), _text(value))
    if result is not None:
        fields += (_name("result"), _text(result))
    return packed_text(packed_list([*map(_text, told), *fields]))


@cache
def _name(name: str) -> bytes:
    """The fields of an outcome have few names."""
    return _text(name)


def _texts(values: Iterable[object]) -> bytes:
    return b"".join(map(_text, values))


def _text(value: object) -> bytes:
    if type(value) is bytes:
        return packed_text(value)
    text = str(value)
    # A lone surrogate of a job's message must not keep its outcome from Redis.
    return packed_text(text.encode() if text.isascii() else text.encode(errors="replace"))
