"""Reads the body of an enqueue: a call in JSON with its options."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NoReturn

from rqd.model.errors import ConfigurationError, InvalidCallError
from rqd.model.names import check_queue_name, parse_duration_s
from rqd.model.retry import Retry

MOST_BYTES = 1024 * 1024
_FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+\Z")
_LONGEST_NAME = 500
_RETRY = {"max", "interval", "backoff", "longest", "jitter"}
# The options of `Queue.enqueue` that mean the same in JSON, and the types of their values.
_PLAIN: dict[str, tuple[type, ...]] = {
    "job_timeout": (int, float, str),
    "ttl": (int, float, str),
    "result_ttl": (int, float, str),
    "failure_ttl": (int, float, str),
    "description": (str,),
    "meta": (dict,),
    "priority": (int,),
    "at_front": (bool,),
    "max_memory": (int, str),
    "max_cpu": (int, float, str),
}
FIELDS = ("function", "queue", "args", "kwargs", "at", "delay", "retry", *_PLAIN)


class BodyError(InvalidCallError):
    """The body of a request can't be used."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call to enqueue.

    `values` and `named` are the arguments by position and by name. `at` is an instant with its
    zone, `delay` a duration; both are None for now. `options` are options of `Queue.enqueue`.
    `fingerprint` differs for bodies that say something else.
    """

    function: str
    queue: str
    values: list[Any]
    named: dict[str, Any]
    at: datetime | None
    delay: timedelta | None
    fingerprint: str
    options: dict[str, Any] = field(default_factory=dict)


def read_call(body: bytes) -> Call:
    """Reads a body. Raises BodyError with a line that says what to write."""
    fields = read_object(body)
    if unknown := sorted(fields.keys() - set(FIELDS)):
        raise BodyError(f"{unknown[0][:60]!r} is no field: write some of {', '.join(FIELDS)}")
    function, queue = _text(fields, "function"), _text(fields, "queue")
    if len(function) > _LONGEST_NAME or not _FUNCTION.match(function):
        raise BodyError(f"function {function[:60]!r}: write its dotted name, as shop.tasks.send")
    _rightly(check_queue_name, queue)
    args, kwargs = fields.get("args", []), fields.get("kwargs", {})
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise BodyError("args: write a list; kwargs: write an object")
    at, delay = _at(fields.get("at")), _delay(fields.get("delay"))
    if at and delay is not None:
        raise BodyError("at and delay: write one of the two")
    return Call(function, queue, args, kwargs, at, delay, _fingerprint(fields), _options(fields))


def read_object(body: bytes) -> dict[str, Any]:
    """Reads a body that is an object of JSON. Raises BodyError."""
    try:
        found = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise BodyError(f"the body is no JSON: {str(error)[:100]}") from error
    if not isinstance(found, dict):
        raise BodyError("the body is no object of JSON: write {..}")
    return found


def _options(fields: dict[str, Any]) -> dict[str, Any]:
    options = {}
    for name, types in _PLAIN.items():
        value = fields.get(name)
        if value is None:
            continue
        # True is an int to Python, and none to whoever writes JSON.
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise BodyError(f"{name}: {json.dumps(value)[:60]} can't be used for it")
        options[name] = value
    if (retry := fields.get("retry")) is not None:
        options["retry"] = _retry(retry)
    return options


def _retry(value: Any) -> Retry:
    if isinstance(value, int) and not isinstance(value, bool):
        value = {"max": value}
    if not isinstance(value, dict) or "max" not in value or value.keys() - _RETRY:
        raise BodyError(f"retry: write a number, or an object of {', '.join(sorted(_RETRY))}")
    found: Retry = _rightly(lambda given: Retry(**given), value)
    return found


def _at(value: Any) -> datetime | None:
    if value is None:
        return None
    try:
        at = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        at = None
    if at is None or at.tzinfo is None:
        raise BodyError("at: write an instant with its zone, as 2030-01-31T08:00:00Z")
    return at


def _delay(value: Any) -> timedelta | None:
    if value is None:
        return None
    seconds = None
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        seconds = _rightly(lambda given: parse_duration_s(given, "delay"), value)
    if seconds is None or not 0 <= seconds < 36_500 * 86_400:
        raise BodyError('delay: write seconds, or a duration such as "10m"')
    return timedelta(seconds=seconds)


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise BodyError(f"{name}: write a text")
    return value


def _rightly(read: Callable[[Any], Any], value: Any) -> Any:
    try:
        return read(value)
    except (ConfigurationError, TypeError, OverflowError) as error:
        raise BodyError(str(error)) from error


def _fingerprint(fields: dict[str, Any]) -> str:
    told = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(told.encode()).hexdigest()


def _no_number(name: str) -> NoReturn:
    raise BodyError(f"{name} is no number of JSON")
