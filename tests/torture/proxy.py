"""Stands between Redis and its clients, and can lose the answer to a command that was carried out.

python -m tests.torture.proxy LISTEN TARGET CONTROL, three unix sockets. On CONTROL, a line of JSON
{"cut": {"name": "text"}, "times": n}: the next n requests that contain one of these texts are
carried out, their answers are thrown away and their connections are closed; {} cuts no more. The
answer is a line of JSON: how many were cut so far, by name.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass, field

_READ_BYTES = 1 << 20


@dataclass
class Proxy:
    """What is to be cut, and what was."""

    target: str
    cut: dict[str, bytes] = field(default_factory=dict)
    left: dict[str, int] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)

    async def serve(
        self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter
    ) -> None:
        """One client's connection."""
        try:
            server_in, server_out = await asyncio.open_unix_connection(
                self.target, limit=_READ_BYTES
            )
        except OSError:
            client_out.close()
            return
        doomed: list[str] = []
        pumps = [
            asyncio.ensure_future(self._ask(client_in, server_out, doomed)),
            asyncio.ensure_future(self._answer(server_in, client_out, doomed)),
        ]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        for writer in (client_out, server_out):
            writer.close()

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, doomed: list[str]
    ) -> None:
        try:
            while data := await reader.read(_READ_BYTES):
                for name, text in self.cut.items():
                    if self.left.get(name) and text in data:
                        self.left[name] -= 1
                        doomed.append(name)
                writer.write(data)
                await writer.drain()
        except OSError:
            return

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, doomed: list[str]
    ) -> None:
        try:
            while data := await reader.read(_READ_BYTES):
                if doomed:
                    # Carried out: the answer is here. Clients send one request at a time.
                    self.done[doomed[0]] = self.done.get(doomed[0], 0) + 1
                    return
                writer.write(data)
                await writer.drain()
        except OSError:
            return

    async def obey(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One order on the control socket."""
        order = json.loads(await reader.readline())
        self.cut = {name: text.encode() for name, text in order.get("cut", {}).items()}
        self.left = dict.fromkeys(self.cut, order.get("times", 1))
        writer.write(json.dumps(self.done).encode() + b"\n")
        await writer.drain()
        writer.close()


async def main(listen: str, target: str, control: str) -> None:
    """Serves until it is killed."""
    proxy = Proxy(target)
    await asyncio.start_unix_server(proxy.obey, control)
    server = await asyncio.start_unix_server(proxy.serve, listen, limit=_READ_BYTES)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
