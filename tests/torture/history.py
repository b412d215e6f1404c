"""A history: JSON lines, each appended whole by one write, and on the disk when `note` returns.

Several processes may append to one file. Whoever is killed between two lines leaves no torn one:
the kernel carries out a small write to a file opened with O_APPEND in one piece.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Event = dict[str, Any]


class History:
    """One file of events; `t` is when the event was noted, in seconds since 1970."""

    def __init__(self, path: Path) -> None:
        flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o644)

    def note(self, ev: str, **fields: Any) -> None:
        """Appends one event, and waits until the disk has it."""
        event = {"ev": ev, "t": round(time.time(), 6), **fields}
        os.write(self._fd, json.dumps(event).encode() + b"\n")
        os.fdatasync(self._fd)

    def note_all(self, events: Iterator[Event]) -> None:
        """Appends many events of a finished inquiry, and waits for the disk once."""
        for event in events:
            os.write(self._fd, json.dumps(event).encode() + b"\n")
        os.fdatasync(self._fd)

    def close(self) -> None:
        """No more events."""
        os.close(self._fd)


def read_histories(folder: Path) -> Iterator[Event]:
    """Every event in every history of a folder. Raises ValueError for a line that is no event."""
    for path in sorted(folder.glob("*.jsonl")):
        with path.open() as lines:
            for number, line in enumerate(lines, 1):
                try:
                    event = json.loads(line)
                    event["ev"], event.get("t")
                except (ValueError, KeyError, TypeError) as error:
                    raise ValueError(f"{path}:{number} is no event: {error}") from error
                yield event
