"""Commands that clients send, by MONITOR: it marks what scripts do inside as `lua`.

INFO's counters can't tell: they count a script's own commands too. Never timed: MONITOR slows.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.server import Server

_LINE = re.compile(rb'\+\d+\.\d+ \[\d+ ([^\]]+)\] "([^"]+)"')
_BEHIND_S = 0.2  # the stream runs a little behind


@contextmanager
def monitored(server: Server) -> Iterator[Counter[str]]:
    """Counts by name what clients send till the end of the block; our looks don't count."""
    ours = {b"lua"}
    for client in (server.client, server.results):
        info: dict[str, str] = client.client_info()  # type: ignore[assignment]  # not awaited
        ours.add(info["addr"].encode())
    seen: Counter[str] = Counter()
    with socket.create_connection(server.address) as connection:
        connection.sendall(b"MONITOR\r\n")
        lines = connection.makefile("rb")
        lines.readline()
        reader = threading.Thread(target=_count, args=(lines, seen, ours), daemon=True)
        reader.start()
        try:
            yield seen
        finally:
            time.sleep(_BEHIND_S)
            connection.shutdown(socket.SHUT_RDWR)
            reader.join(5.0)
            lines.close()


def _count(lines: Iterator[bytes], seen: Counter[str], ours: set[bytes]) -> None:
    for line in lines:
        if (match := _LINE.match(line)) and match[1] not in ours:
            seen[match[2].decode().upper()] += 1
