"""A relay between clients and their server, which can keep the answer to a request back."""

from __future__ import annotations

import select
import socket
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from tests.listening import Listening


class Relay(Listening):
    """Serves at `url` what the server at `target` serves, one thread a connection."""

    def __init__(self, path: Path, target: Path) -> None:
        super().__init__(path)
        # Set: the answer to a request that has this text stays here until `release` is set.
        self.keep_back: bytes = b""
        self.is_kept = threading.Event()
        self.release = threading.Event()
        self._target = str(target)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release.set()
        super().__exit__(kind, error, traceback)

    def _talk(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, suppress(OSError):
            server.connect(self._target)
            self._pump(client, server)

    def _pump(self, client: socket.socket, server: socket.socket) -> None:
        is_marked = False
        while True:
            for ready in select.select([client, server], [], [])[0]:
                data = ready.recv(1 << 20)
                if not data:
                    return
                if ready is client:
                    is_marked = bool(self.keep_back) and self.keep_back in data
                    server.sendall(data)
                    continue
                if is_marked:
                    is_marked, self.keep_back = False, b""
                    self.is_kept.set()
                    self.release.wait()
                client.sendall(data)
