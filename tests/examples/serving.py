"""An example as its reader runs it: a web server, a daemon, and a client without a browser."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2

from tests.daemons import ROOT
from tests.processes import bound_to_pytest, found_first
from tests.waiting import eventually

START_S = 15.0
STOP_S = 15.0
LIMIT_S = 55.0
PASSWORD = "open sesame"
MODULES = {"uvicorn": "uvicorn", "waitress-serve": "waitress"}

# A daemon preloads it: the test says when an item has been fetched, by a line in the pipe.
HELD = """
import inspect
import os

import shop

CENTS = {"tea": 450, "milk": 120, "cake": 390}


def held(item):
    line = ""
    while not line:  # an end without a line is that of the item before
        with open(os.environ["SHELF"]) as shelf:
            line = shelf.readline()
    return CENTS[item]


async def held_async(item):
    return held(item)


shop.fetch = held_async if inspect.iscoroutinefunction(shop.fetch) else held
"""


@dataclass(frozen=True, slots=True)
class Event:
    """A server-sent event."""

    name: str
    data: Any


class Site:
    """An example's web server in a subprocess, on a free port of the loopback address.

    It answers when the constructor returns. Leaving the block ends it.
    """

    def __init__(self, example: str, folder: Path, url: str, target: str = "") -> None:
        """Serves by the command of the example's README; `target` is another application.

        The log and the module of `target` are in `folder`.
        """
        self._log = folder / "site.log"
        port = _free_port()
        own = {"RQD_URL": url, "SHOP_PASSWORD": PASSWORD, "SHOP_SECRET": "s" * 32}
        program, *arguments = command_of(example, "uvicorn", "waitress-serve")
        if target:
            arguments = [target if ":" in one else one for one in arguments if one != "--factory"]
        with self._log.open("wb") as out:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", MODULES[program]),
                    *(one.replace("8000", str(port)) for one in arguments),
                ],
                cwd=ROOT / "examples" / example,
                env={**os.environ, **found_first(folder), **own},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                preexec_fn=bound_to_pytest(LIMIT_S),
            )
        self.client = httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=20)
        try:
            eventually(lambda: self._ended() or self._answers(port), START_S, self.log)
            assert not self._ended(), self.log()
        except BaseException:
            self._kill()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._kill()

    def stop(self) -> None:
        """Ends the server by SIGTERM. Raises TimeoutExpired if it does not end."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(STOP_S)

    def log(self) -> str:
        """Returns what the server has printed so far."""
        return self._log.read_text(errors="replace")

    def order(self, *items: str) -> str:
        """Orders these items, and returns the path of the order's job."""
        answer = self.client.post("/orders", json={"items": [*items]})
        assert answer.status_code == 202, answer.text
        path: str = answer.headers["location"]
        assert path == f"/jobs/{answer.json()['id']}"
        return path

    def ended(self, path: str) -> dict[str, Any]:
        """Polls a job until its end, and returns its last answer."""

        def look() -> dict[str, Any] | None:
            answer = self.client.get(path)
            assert answer.status_code == 200, answer.text
            shown: dict[str, Any] = answer.json()
            return shown if shown["status"] in ("finished", "failed") else None

        return eventually(look, 20.0) or {}

    def _ended(self) -> bool:
        return self.process.poll() is not None

    def _answers(self, port: int) -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            return False
        return True

    def _kill(self) -> None:
        self.client.close()
        self.process.kill()
        self.process.wait()


class Stream:
    """An open stream of server-sent events, in the order of their arrival."""

    def __init__(self, site: Site, path: str) -> None:
        self._opened = site.client.stream("GET", path)
        self.answer = self._opened.__enter__()
        self._lines = self.answer.iter_lines()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leaves, as a browser whose page is closed."""
        self._opened.__exit__(None, None, None)

    def __iter__(self) -> Iterator[Event]:
        """Yields the events until the server ends the stream."""
        while (event := self.next()) is not None:
            yield event

    def next(self) -> Event | None:
        """Returns the next event; None at the stream's end."""
        fields: dict[str, str] = {}
        for line in self._lines:
            if not line and "data" in fields:
                return Event(fields.get("event", "message"), json.loads(fields["data"]))
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        return None

    def raw(self) -> str:
        """Returns all that is left, as it is sent."""
        return "\n".join(self._lines)


class Shelf:
    """The pipe that a held job waits for at each item."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "shelf"
        os.mkfifo(self.path)
        (folder / "held.py").write_text(HELD)

    def give(self) -> None:
        """Lets the job that waits, or will wait, go on to its next item."""
        with self.path.open("w") as shelf:
            shelf.write("\n")


def command_of(example: str, *programs: str) -> list[str]:
    """Returns the words of the command in the example's README that runs one of these programs."""
    readme = (ROOT / "examples" / example / "README.md").read_text()
    found = re.findall(rf"^(?:{'|'.join(programs)}) .*$", readme, re.M)
    assert len(found) == 1, found
    return shlex.split(found[0])


def static_files(html: str) -> list[str]:
    """Returns the addresses of a page's styles and scripts."""
    return re.findall(r'(?:href|src)="([^"]*/static/[^"]+)"', html)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
