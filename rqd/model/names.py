"""Checks names, and reads durations and sizes."""

from __future__ import annotations

import re

from rqd.model.errors import ConfigurationError, InvalidNameError

_JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,255}\Z")
# A queue's name becomes part of a key and of a process title: no braces (they would move the key
# to another slot of a Cluster), no white space, no comma (the CLI's separator).
_NAME = re.compile(r"[^\s{},\x00-\x1f\x7f]{1,128}\Z")
# Each of these, after a queue's name, is the key of an index of the queue.
_INDEXES = ("started", "scheduled", "deferred", "finished", "failed", "canceled", "limited")
_LONGEST_S = 10**10
_LONGEST_KEY_CHARS = 256
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d|w|)\Z")
_SIZE = re.compile(r"(\d{1,12})([KMG]?)\Z", re.ASCII)
_UNIT_BYTES = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}
_UNIT_S = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}


def check_job_id(job_id: str, what: str = "job id") -> str:
    """Returns the id; raises ConfigurationError unless it has only letters, digits, `_` and `-`."""
    if not isinstance(job_id, str) or not _JOB_ID.match(job_id):
        raise ConfigurationError(
            f"{what} {job_id!r} may have letters, digits, '_' and '-' only, 255 at most"
        )
    return job_id


def is_job_id(job_id: str) -> bool:
    """False for a text that can't be a job's id, so that nobody need look for it.

    Raises ConfigurationError for a value that is no text.
    """
    if not isinstance(job_id, str):
        raise ConfigurationError(f"a job id is a text, not {job_id!r}")
    return bool(_JOB_ID.match(job_id))


def check_name(name: str, what: str) -> str:
    """Returns the name of a queue, namespace or master.

    Raises InvalidNameError if it can't be a name.
    """
    if not isinstance(name, str) or not _NAME.match(name) or not _is_text(name):
        raise InvalidNameError(
            f"{what} {name!r} must be 1 to 128 characters without spaces, commas or braces"
        )
    return name


def check_queue_name(name: str) -> str:
    """Returns the name of a queue; raises InvalidNameError if it can't be a queue's name."""
    check_name(name, "queue name")
    if name.rpartition(":")[2] in _INDEXES and ":" in name:
        raise InvalidNameError(
            f"queue name {name!r} ends as the keys of rqd's own indexes do: write another word"
            f" than {name.rpartition(':')[2]!r} after the last colon"
        )
    return name


def is_queue_name(name: str) -> bool:
    """False for a text that can't be a queue's name."""
    try:
        check_queue_name(name)
    except InvalidNameError:
        return False
    return True


def check_key(key: str, what: str) -> str:
    """Returns the key of a limit or of a unique job. Raises InvalidNameError for an unfit key."""
    if not isinstance(key, str) or not 1 <= len(key) <= _LONGEST_KEY_CHARS or not key.isprintable():
        raise InvalidNameError(
            f"{what} {key!r} must be 1 to {_LONGEST_KEY_CHARS} printable characters"
        )
    return key


def parse_duration_s(value: float | str | None, what: str) -> float | None:
    """The seconds of `90`, `"90"`, `"1h"`, `"23m"`, `"30s"`, `"2d"`; -1 (no limit) stays -1.

    None stays None: the caller's default holds. Raises ConfigurationError otherwise.
    """
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        if value == -1 or 0 <= value < _LONGEST_S:
            return float(value)
    elif isinstance(value, str):
        if value.strip() == "-1":
            return -1.0
        match = _DURATION.match(value.strip().lower())
        if match and (seconds := float(match[1]) * _UNIT_S[match[2]]) < _LONGEST_S:
            return seconds
    raise ConfigurationError(
        f"{what} {value!r} is no duration: write seconds, or '30s', '23m', '1h', '2d'"
    )


def parse_size_bytes(text: str, what: str) -> int:
    """The bytes of `65536`, `"64K"`, `"16M"`, `"1G"`. Raises ConfigurationError otherwise."""
    match = _SIZE.match(text.strip().upper())
    if not match:
        raise ConfigurationError(f"{what} {text!r} is no size: write bytes, or 64K, 16M, 1G")
    return int(match[1]) * _UNIT_BYTES[match[2]]


def _is_text(name: str) -> bool:
    """False for a text without UTF-8, such as a shell's argument in another encoding."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def module_of(func_name: str) -> str:
    """Returns a function's module, guessed from its name: a part with a capital is a class."""
    *names, _ = func_name.split(".")
    while len(names) > 1 and names[-1][:1].isupper():
        names.pop()
    return ".".join(names)
