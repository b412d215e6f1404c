"""How an event of the log is written: as text for people, as JSON, or for systemd's journal.

A format makes one record of an event's level, its constant text and its fields, and of what a job
printed. Numbers stay numbers where the format knows them; no URL keeps its password.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from struct import pack
from typing import Protocol

from rqd.store.urls import hide_passwords

DEBUG, INFO, WARNING, ERROR = range(4)
LEVEL_NAMES = ("debug", "info", "warning", "error")
# The one field of several lines. Text and journal have it below the event, JSON as a field.
TRACEBACK = "traceback"

Fields = Mapping[str, object]

_TEXT_CHARS = 8 * 1024
_TRACEBACK_CHARS = 64 * 1024
_NOT_PLAIN = re.compile(r"""[\s"'=]""")
_COLOURS = ("\x1b[2m", "", "\x1b[33m", "\x1b[31m")
_PRIORITIES = (7, 6, 4, 3)  # syslog's
_encode = json.JSONEncoder(separators=(",", ":")).encode


class Format(Protocol):
    """A way to write the log. `master` is told in each record, where records are not for people."""

    master: str

    def event(self, level: int, text: str, fields: Fields) -> bytes:
        """One event."""

    def output(self, lines: bytes, fields: Fields) -> bytes:
        """Whole lines that a process printed; `fields` say which job's they are."""


class TextFormat:
    """A line an event, for people: time, level, text, key=value.

    `clock` is strftime's, in local time; empty for a reader that has its own. `prefixes` puts a
    job's id before each line that it prints.
    """

    def __init__(
        self, clock: str = "%H:%M:%S ", *, colours: bool = False, prefixes: bool = False
    ) -> None:
        self.master = ""
        self._clock = clock
        self._has_colours = colours
        self._has_prefixes = prefixes
        self._second, self._stamp = 0, ""

    def event(self, level: int, text: str, fields: Fields) -> bytes:
        """One line, and those of a traceback below it."""
        name = LEVEL_NAMES[level].upper()
        if self._has_colours and _COLOURS[level]:
            name = f"{_COLOURS[level]}{name}\x1b[0m"
        return f"{self._now()}{name} {_sentence(text, shown(fields))}\n".encode(errors="replace")

    def output(self, lines: bytes, fields: Fields) -> bytes:
        """The lines as they are, or each with its job's id."""
        return _prefixed(lines, fields) if self._has_prefixes else lines

    def _now(self) -> str:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._stamp = time.strftime(self._clock, time.localtime(second))
        return self._stamp


class JsonFormat:
    """An object a line: `time` (UTC), `level`, `event`, and the fields by their names."""

    def __init__(self) -> None:
        self.master = ""
        self._second, self._stamp = 0, ""

    def event(self, level: int, text: str, fields: Fields) -> bytes:
        """One line."""
        return f"{_encode(self._record(LEVEL_NAMES[level], text, fields))}\n".encode()

    def output(self, lines: bytes, fields: Fields) -> bytes:
        """An object for each line, which is in `line`."""
        # The same for all of them, and there may be thousands.
        start = _encode(self._record("info", "job output", fields))[:-1]
        texts = lines.decode(errors="replace").removesuffix("\n").split("\n")
        return "".join(f'{start},"line":{_encode(text)}}}\n' for text in texts).encode()

    def _record(self, level: str, event: str, fields: Fields) -> dict[str, object]:
        record: dict[str, object] = {"time": self._now(), "level": level, "event": event}
        return record | shown({"master": self.master, **fields})

    def _now(self) -> str:
        second, fraction = divmod(time.time(), 1)
        if second != self._second:
            self._second = int(second)
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._stamp}.{int(fraction * 1000):03d}Z"


class JournalFormat:
    """A record of systemd's journal: the text in MESSAGE, each field as RQD_ and its name.

    What a job printed at once is one record: the journal's queue holds only so many.
    """

    def __init__(self, *, prefixes: bool = False) -> None:
        self.master = ""
        self._has_prefixes = prefixes

    def event(self, level: int, text: str, fields: Fields) -> bytes:
        """One datagram."""
        told = shown(fields)
        message = _sentence(text, told).encode(errors="replace")
        return self._record(message, level, text, told)

    def output(self, lines: bytes, fields: Fields) -> bytes:
        """One datagram."""
        message = _prefixed(lines, fields) if self._has_prefixes else lines
        return self._record(message.removesuffix(b"\n"), INFO, "job output", shown(fields))

    def _record(self, message: bytes, level: int, event: str, told: Fields) -> bytes:
        parts = [
            _journal_field("MESSAGE", message),
            b"PRIORITY=%d\nSYSLOG_IDENTIFIER=rqd\nRQD_EVENT=" % _PRIORITIES[level],
            event.encode() + b"\n",
        ]
        if self.master and "master" not in told:
            parts.append(_journal_field("RQD_MASTER", self.master.encode()))
        for key, value in told.items():
            if key != TRACEBACK:  # it is in the message
                text = _text(value).encode(errors="replace")
                parts.append(_journal_field(f"RQD_{key.upper()}", text))
        return b"".join(parts)


def shown(fields: Fields) -> dict[str, object]:
    """The fields as they may be shown: numbers, texts, lists of texts; empty ones are left out."""
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
    """As a value in a line of text: quoted where it holds anything but plain characters."""
    # What can't be printed may be an order to the terminal, and a job's name is anybody's text.
    is_plain = text.isprintable() and not _NOT_PLAIN.search(text)
    return text if text and is_plain else repr(text)


def _sentence(text: str, told: Fields) -> str:
    """The event with its fields in one line, and a traceback in indented lines below."""
    traceback = ""
    parts = [text]
    for key, value in told.items():
        if key == TRACEBACK:
            traceback = "\n    " + _text(value).rstrip().replace("\n", "\n    ")
        else:
            parts.append(f"{key}={quoted(_text(value))}")
    return " ".join(parts) + traceback


def _safe(key: str, text: str) -> str:
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
    # A process without a job is named by what it is: `worker 2`, `zygote 4711`.
    who = fields.get("job_id") or " ".join(map(str, next(iter(fields.items()), ())))
    prefix = f"{quoted(str(who)) if 'job_id' in fields else who} | ".encode(errors="replace")
    return prefix + lines.removesuffix(b"\n").replace(b"\n", b"\n" + prefix) + b"\n"


def _journal_field(name: str, value: bytes) -> bytes:
    """As the journal's native protocol has it: by length where there is more than one line."""
    if b"\n" in value:
        return b"%s\n%s%s\n" % (name.encode(), pack("<Q", len(value)), value)
    return b"%s=%s\n" % (name.encode(), value)
