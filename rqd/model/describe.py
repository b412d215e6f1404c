"""A call in words, for people who look at a job. Only producers need it; no child imports it."""

from __future__ import annotations

from reprlib import Repr
from typing import Any

_ARGUMENT_LIMIT_CHARS = 80
_CALL_LIMIT_CHARS = 1000
_PLAIN = (int, float, bool, type(None))


def describe_call(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Returns the call as typed, cut to a readable length: `tasks.multiply(20, 40)`."""
    if not args and not kwargs:
        return f"{name}()"[:_CALL_LIMIT_CHARS]
    shown = [_shorten(value) for value in args]
    shown += [f"{key}={_shorten(value)}" for key, value in kwargs.items()]
    return f"{name}({', '.join(shown)})"[:_CALL_LIMIT_CHARS]


def _shorten(value: Any) -> str:
    kind = type(value)
    if kind in _PLAIN:
        return repr(value)
    try:
        # Never the repr of the whole value: for 60 MB it costs more than the rest of an enqueue.
        if kind in (str, bytes, bytearray):
            shown = repr(value[: _ARGUMENT_LIMIT_CHARS + 1])
        elif kind in (list, tuple, dict, set, frozenset):
            shown = _few.repr(value)
        else:
            shown = repr(value)
    except Exception:  # noqa: BLE001 - a user's __repr__ raises what it likes; a label must not
        shown = f"<{kind.__name__}>"
    if "\n" in shown:  # as the repr of a pandas table has
        shown = " ".join(shown.split())
    if len(shown) <= _ARGUMENT_LIMIT_CHARS:
        return shown
    return shown[: _ARGUMENT_LIMIT_CHARS - 3] + "..."


_few = Repr()
_few.maxlevel, _few.maxother, _few.maxstring = 3, _ARGUMENT_LIMIT_CHARS, _ARGUMENT_LIMIT_CHARS
_few.maxlist = _few.maxtuple = _few.maxdict = _few.maxset = _few.maxfrozenset = 20
