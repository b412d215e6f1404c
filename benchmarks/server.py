"""The one server that all contenders use: on a loopback port of its own, nothing saved.

TCP is what every contender's own documentation sets up.
"""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from benchmarks.processes import running, wait_for
from rqd.daemon.host.embedded import find_server_binary


@dataclass(frozen=True, slots=True)
class Server:
    """A running server; `folder` is for logs, and goes with it."""

    url: str
    address: tuple[str, int]
    folder: Path
    binary: str
    client: redis.Redis
    results: redis.Redis  # database 1
    pid: int

    @property
    def env(self) -> dict[str, str]:
        """What contenders are started with."""
        return {**os.environ, "BENCH_URL": self.url}

    def empty(self) -> None:
        """Forgets everything, so that each measurement begins alike."""
        self.client.flushall()

    def count(self, command: str, key: str) -> int:
        """ZCARD or HLEN of a key: how many jobs a contender has finished."""
        answer: Any = self.client.execute_command(command, key)
        return int(answer)

    def results_count(self) -> int:
        """Keys in database 1, where contenders with a key a result keep theirs and nothing else."""
        answer: Any = self.results.dbsize()
        return int(answer)

    def version(self) -> str:
        """`redis-server 7.0.15` or `valkey-server 9.1.0`."""
        info: Any = self.client.info("server")
        number = info.get("valkey_version") or info["redis_version"]
        return f"{info.get('server_name', 'redis')}-server {number}"


@contextmanager
def started_server() -> Iterator[Server]:
    """A server for the time of the block."""
    binary = find_server_binary()
    with tempfile.TemporaryDirectory(prefix="rqd-bench-") as name:
        folder, port = Path(name), _free_port()
        log = folder / "server.log"
        command = [binary, "--bind", "127.0.0.1", "--port", str(port)]
        command += ["--save", "", "--appendonly", "no", "--dir", name]
        with running(command, os.environ, log) as process:
            client, results = redis.Redis(port=port), redis.Redis(port=port, db=1)
            wait_for(lambda: _answers(client, process), "the server", 10.0, process, log)
            url, address = f"redis://127.0.0.1:{port}", ("127.0.0.1", port)
            yield Server(url, address, folder, binary, client, results, process.pid)
            client.close()
            results.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(client: redis.Redis, process: subprocess.Popen[bytes]) -> bool:
    try:
        return process.poll() is None and bool(client.ping())
    except redis.RedisError:
        return False
