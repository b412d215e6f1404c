"""Formats events of the log: as text for people, as JSON, or for systemd's journal.

A format makes a record from an event's level, constant text and fields, or from a job's output.
Numbers stay numbers if the format knows them; no URL keeps its password.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from functools import lru_cache
from struct import pack

from rqd.store.urls import hide_passwords

DEBUG, INFO, WARNING, ERROR = range(4)
LEVEL_NAMES = ("debug", "info", "warning", "error")
# The only field of several lines. Text and journal put it below the event, JSON in a field.
TRACEBACK = "traceback"

Fields = Mapping[str, object]

_TEXT_CHARS = 8 * 1024
_TRACEBACK_CHARS = 64 * 1024
_NOT_PLAIN = re.compile(r"""[\s"'=]""")
_COLOURS = ("\x1b[2m", "", "\x1b[33m", "\x1b[31m")
_PRIORITIES = (7, 6, 4, 3)  # syslog's
_encode = json.JSONEncoder(separators=(",", ":")).encode


class TextFormat:
    """Writes a line an event, for people: time, level, text, key=value.

    `clock` is a format of strftime, in local time; empty for a reader that has its own clock.
    `prefixes` puts a job's id before each line that it prints.
    """

    def __init__(
        self, clock: str = "%H:%M:%S ", *, colours: bool = False, prefixes: bool = False
    ) -> None:
        self.master = ""
        self._clock = clock
        self._has_colours = colours
        self._has_prefixes = prefixes

    def event(self, level: int, text: str, fields: Fields) -> bytes:
        """Returns a line, with the lines of a traceback below it."""
        name = LEVEL_NAMES[level].upper()
        if self._has_colours and _COLOURS[level]:
            name = f"{_COLOURS[level]}{name}\x1b[0m"
        line = f"{_stamp(int(time.time()), self._clock)}{name} {_sentence(text, shown(fields))}\n"
        return line.encode(errors="replace")

    def output(self, lines: bytes, fields: Fields) -> bytes:
        """Returns the lines as they are, or each behind its job's id."""
        return _prefixed(lines, fields) if self._has_prefixes else lines


class JsonFormat:
    """Writes a JSON object a line: `time` (UTC), `level`, `event`, and each field by its name."""

    def __init__(self) -> None:
        self.master = ""

    def event(self, level: int, text: str, fields: Fields) -> bytes:
        """Returns a line with an object."""
        return f"{_encode(self._record(LEVEL_NAMES[level], text, fields))}\n".encode()

    def output(self, lines: bytes, fields: Fields) -> bytes:
        """Returns an object for each printed line, with the text in `line`."""
        # Encoded once for all lines, as there may be thousands.
        start = _encode(self._record("info", "job output", fields))[:-1]
        texts = lines.decode(errors="replace").removesuffix("\n").split("\n")
        return "".join(f'{start},"line":{_encode(text)}}}\n' for text in texts).encode()

    def _record(self, level: str, event: str, fields: Fields) -> dict[str, object]:
        second, fraction = divmod(time.time(), 1)
        now = f"{_stamp(int(second), None)}.{int(fraction * 1000):03d}Z"
        record: dict[str, object] = {"time": now, "level": level, "event": event}
        return record | shown({"master": self.master, **fields})


class JournalFormat:
    """Writes records of systemd's journal: the text in MESSAGE, each field as RQD_ and its name.

    Lines that a job printed at once are one record, as the journal's queue has few places.
    """

    def __init__(self, *, prefixes: bool = False) -> None:
        self.master = ""
        self._has_prefixes = prefixes

    def event(self, level: int, text: str, fields: Fields) -> bytes:
        """Returns a datagram."""
        values = shown(fields)
        message = _sentence(text, values).encode(errors="replace")
        return self._record(message, level, text, values)

    def output(self, lines: bytes, fields: Fields) -> bytes:
        """Returns a datagram."""
        message = _prefixed(lines, fields) if self._has_prefixes else lines
        return self._record(message.removesuffix(b"\n"), INFO, "job output", shown(fields))

    def _record(self, message: bytes, level: int, event: str, values: Fields) -> bytes:
        parts = [
            _journal_field("MESSAGE", message),
            b"PRIORITY=%d\nSYSLOG_IDENTIFIER=rqd\nRQD_EVENT=" % _PRIORITIES[level],
            event.encode() + b"\n",
        ]
        if self.master and "master" not in values:
            parts.append(_journal_field("RQD_MASTER", self.master.encode()))
        for key, value in values.items():
            if key != TRACEBACK:  # it is in the message
                text = _text(value).encode(errors="replace")
                parts.append(_journal_field(f"RQD_{key.upper()}", text))
        return b"".join(parts)


Format = TextFormat | JsonFormat | JournalFormat
"""Records for programs carry the name of the `master`; text does not."""


@lru_cache(maxsize=1)
def _stamp(second: int, clock: str | None) -> str:
    """Formats a time by `clock` in local time; None for ISO 8601 in UTC, to the second."""
    if clock is None:
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
    return time.strftime(clock, time.localtime(second))


def shown(fields: Fields) -> dict[str, object]:
    """Returns the fields as numbers, texts or lists of texts, without empty ones and passwords."""
    found: dict[str, object] = {}
    for key, value in fields.items():
        kind = type(value)
        if kind is int or kind is float or kind is bool:
            found[key] = value
        elif kind is list or kind is tuple:
            found[key] = [_safe(key, str(one)) for one in value]  # type: ignore[attr-defined]  # so
        elif value is not None and (text := str(value)):
            found[key] = _safe(key, text)
    return found


def quoted(text: str) -> str:
    """Returns the text as a value in a line: quoted unless it has plain characters only."""
    # Unprintable characters may be orders to the terminal, and anybody may choose a job's name.
    is_plain = text.isprintable() and not _NOT_PLAIN.search(text)
    return text if text and is_plain else repr(text)


def _sentence(text: str, values: Fields) -> str:
    """Returns the event with its fields in a line, and a traceback in indented lines below."""
    traceback = ""
    parts = [text]
    for key, value in values.items():
        if key == TRACEBACK:
            traceback = "\n    " + _text(value).rstrip().replace("\n", "\n    ")
        else:
            parts.append(f"{key}={quoted(_text(value))}")
    return " ".join(parts) + traceback


def _safe(key: str, text: str) -> str:
    if "://" in text:
        text = hide_passwords(text)
    if key == TRACEBACK:
        return text[-_TRACEBACK_CHARS:]
    return text if len(text) <= _TEXT_CHARS else f"{text[:_TEXT_CHARS]}..."


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.10g}"
    return ",".join(value) if isinstance(value, list) else str(value)


def _prefixed(lines: bytes, fields: Fields) -> bytes:
    # A process without a job is named by its role: `worker 2`, `zygote 4711`.
    label = fields.get("job_id") or " ".join(map(str, next(iter(fields.items()), ())))
    prefix = f"{quoted(str(label)) if 'job_id' in fields else label} | ".encode(errors="replace")
    return prefix + lines.removesuffix(b"\n").replace(b"\n", b"\n" + prefix) + b"\n"


def _journal_field(name: str, value: bytes) -> bytes:
    """Encodes a field in the journal's native protocol: by length if it has several lines."""
    if b"\n" in value:
        return b"%s\n%s%s\n" % (name.encode(), pack("<Q", len(value)), value)
    return b"%s=%s\n" % (name.encode(), value)
