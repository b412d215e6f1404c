"""What faults act upon: the server, its proxy, the masters, and a producer of bad jobs."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import redis

from tests.daemons import ROOT
from tests.torture.endpoint import Endpoint
from tests.torture.history import History
from tests.torture.launch import Launched
from tests.torture.masters import Keeper
from tests.torture.producer import Producer
from tests.torture.server import Server
from tests.torture.systems import System
from tests.waiting import eventually

_SAMPLE_S = 0.25


@dataclass
class Arena:
    """Everything that runs in a campaign. `lacks_mounts` says why no small disks could be made."""

    system: System
    seed: int
    out: Path
    folder: Path
    server: Server
    lacks_mounts: str = ""
    keepers: list[Keeper] = field(default_factory=list)
    producers: list[Launched] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    in_flight: int = 0

    def __post_init__(self) -> None:
        self.history = History(self.out / "campaign.jsonl")
        self.endpoint = Endpoint(self.out)
        self.proxy = Proxy(self.folder, self.server.socket_path)
        self.url = f"unix://{self.proxy.listen}"
        self._sampler = threading.Thread(target=self._sample, name="sampler")
        self._stop_sampling = threading.Event()

    def start(self, jobs_a_second: float, env: Mapping[str, str]) -> None:
        """Endpoint, server, proxy, masters, producers, in this order."""
        self.endpoint.start()
        self.server.start()
        self.proxy.start()
        self._sampler.start()
        for spec in self.system.masters:
            keeper = Keeper(self.system, spec, self.url, self.out, env)
            self.keepers.append(keeper)
            keeper.start()
        for keeper in self.keepers:
            eventually(lambda k=keeper: k.is_ready, 30.0, f"{keeper.name} is ready")  # type: ignore[misc]  # bound
        self.bad_producer = Producer(self.system.sender(self.url), self.out, "x")
        for number in (1, 2):
            self.producers.append(self._start_producer(f"p{number}", jobs_a_second / 2))

    def pause(self, seconds: float) -> None:
        """Waits so long, or until the campaign's time is over."""
        self.over.wait(seconds)

    def stop_producers(self) -> None:
        """No more calls of the common work."""
        for producer in self.producers:
            producer.signal(signal.SIGTERM)
        for producer in self.producers:
            producer.wait(60)
            producer.close()

    def stop_masters(self) -> None:
        """Ends the masters, and looks for orphans."""
        for keeper in self.keepers:
            keeper.stop()

    def clean_up(self) -> None:
        """Ends what is left, however the campaign ended."""
        self.over.set()
        self._stop_sampling.set()
        if self._sampler.is_alive():
            self._sampler.join()
        for producer in self.producers:
            if producer.is_running:
                producer.kill()
        self.proxy.stop()
        self.server.clean_up()
        self.endpoint.stop()

    def _start_producer(self, name: str, rate: float) -> Launched:
        command = [sys.executable, "-m", "tests.torture.producer", self.system.name, self.url]
        command += [str(self.out), name, str(self.seed), str(rate)]
        env = {**os.environ, "RQD_TORTURE_ENDPOINT": self.endpoint.url}
        return Launched(command, ROOT, self.out / f"producer-{name}.log", env)

    def _sample(self) -> None:
        client = self.server.client(0.5)
        breaches = History(self.out / "samples.jsonl")
        while not self._stop_sampling.wait(_SAMPLE_S):
            try:
                self.in_flight = self.system.running(client)
                for what in self.system.breaches(client):
                    breaches.note("breach", what=what)
            except (redis.RedisError, OSError):
                client.connection_pool.disconnect()
        breaches.close()


class Proxy:
    """The program that stands between the server and its clients."""

    def __init__(self, folder: Path, target: Path) -> None:
        self.listen = folder / "proxy.sock"
        self._control = folder / "control.sock"
        self._target = target
        self._folder = folder
        self._launched: Launched | None = None

    def start(self) -> None:
        """Starts it; returns when it listens."""
        command = [sys.executable, "-m", "tests.torture.proxy"]
        command += [str(self.listen), str(self._target), str(self._control)]
        self._launched = Launched(command, ROOT, self._folder / "proxy.log", os.environ)
        eventually(self.listen.exists, 10.0, "the proxy listens")

    def cut(self, what: Mapping[str, str], times: int = 1) -> dict[str, int]:
        """Loses the next answers to requests with these texts; returns how many it lost so far."""
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(10)
            control.connect(str(self._control))
            control.sendall(json.dumps({"cut": dict(what), "times": times}).encode() + b"\n")
            with control.makefile() as answer:
                done: dict[str, int] = json.loads(answer.readline())
                return done

    def stop(self) -> None:
        """Ends it."""
        if self._launched is not None:
            self._launched.kill()
            self._launched.close()
            self._launched = None


def wait_for_ready(keeper: Keeper, arena: Arena, limit_s: float = 30.0) -> bool:
    """True once this master takes jobs; False if it doesn't in time, or the time is over."""
    deadline = time.monotonic() + limit_s
    while not arena.over.is_set() and time.monotonic() < deadline:
        if keeper.is_ready:
            return True
        arena.pause(0.1)
    return False
