"""A server that is no Redis: it answers all that it is sent in one way."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from tests.listening import Listening

MEGABYTE = b"x" * 2**20
DEPTH = b"*1\r\n" * 100_000

# What is answered to each command; the second text is repeated without an end.
ANSWERS: dict[str, tuple[bytes, bytes]] = {
    "ok": (b"+OK\r\n", b""),
    "garbage": (b"HTTP/1.1 400 \xff\x00\x07\r\n\r\n<html>\r\n", b""),
    "number": (b":1\r\n", b""),
    "no number": (b":one\r\n", b""),
    "nothing": (b"$-1\r\n", b""),
    "empty": (b"*0\r\n", b""),
    "size": (b"$-7\r\n", b""),
    "map": (b"%1\r\n+a\r\n+b\r\n", b""),
    "push": (b">2\r\n+a\r\n+b\r\n", b""),
    "error": (b"-\xff what?\r\n", b""),
    "deep": (DEPTH, b""),
    "ten gigabytes": (b"$10000000000\r\n", MEGABYTE),
    "a billion": (b"*1000000000\r\n", b":1\r\n" * 4096),
    "endless line": (b"+", MEGABYTE),
    "half": (b"*3\r\n$5\r\nab", b""),
    "end": (b"*2\r\n:1\r\n", b"end"),
}
# To read so much of it takes seconds.
MOST_TIME = {"a billion"}


class Impostor(Listening):
    """Serves at `url`, as `answer` says; what it says can be changed meanwhile."""

    def __init__(self, path: Path, answer: str) -> None:
        super().__init__(path)
        self.answer = answer
        self.heard = 0  # how many texts were sent to it

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, traceback)
        for client in self._clients:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def _talk(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            while heard := client.recv(65536):
                self.heard += 1
                first, more = ANSWERS[self.answer]
                client.sendall(first * max(1, heard.count(b"\r\n*") + 1))
                while more and more != b"end":
                    client.sendall(more)
                if more:
                    return
