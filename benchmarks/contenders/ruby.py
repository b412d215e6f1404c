"""Sidekiq and Resque, where Ruby has them. They are fed by what their own clients send to Redis."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import redis

from benchmarks.contenders.base import WORKERS, Missing, portions
from benchmarks.labels import RESQUE, SIDEKIQ
from benchmarks.server import Server

_APPS = Path(__file__).parent.parent / "apps"
_RESULTS = "bench:results"


@dataclass
class Ruby:
    """Jobs are JSON in a list; what they return they put into a hash, as neither stores it."""

    server: Server
    label: str
    command: list[str]
    prefix: str
    pushes: str  # the command that adds jobs to the list
    encode: Callable[[str, str, tuple[float, ...]], str]
    client: redis.Redis = field(init=False)  # of its own, so that it is counted as others' are

    def __post_init__(self) -> None:
        self.client = redis.Redis.from_url(self.server.url)

    def enqueue(self, function: Callable[..., Any], *args: float) -> str:
        return self._push(function.__name__, 1, args)[0]

    def enqueue_many(self, function: Callable[..., Any], count: int, *args: float) -> list[str]:
        ids = []
        for size in portions(count):
            ids += self._push(function.__name__, size, args)
        return ids

    def finished(self) -> int:
        return self.server.count("HLEN", _RESULTS)

    def result(self, handle: str) -> float | None:
        found: Any = self.client.hget(_RESULTS, handle)
        return None if found is None else float(found)

    def _push(self, call: str, count: int, args: tuple[float, ...]) -> list[str]:
        ids = [uuid4().hex[:24] for _ in range(count)]
        jobs = [self.encode(job_id, call, args) for job_id in ids]
        with self.client.pipeline(transaction=False) as pipe:
            pipe.sadd(f"{self.prefix}queues", "default")
            pipe.execute_command(self.pushes, f"{self.prefix}queue:default", *jobs)
            pipe.execute()
        return ids


def sidekiq(server: Server) -> Ruby:
    """Four processes of a thread each: with Ruby's lock, threads of one would share a core."""
    _need("sidekiq", "apt-get install ruby-sidekiq, or gem install sidekiq")
    one = f"sidekiq --concurrency 1 --require {_APPS}/sidekiq_app.rb & "
    command = ["/bin/sh", "-c", one * WORKERS + "wait"]
    return Ruby(server, SIDEKIQ, command, "", "LPUSH", _sidekiq_job)


def resque(server: Server, workers: int = WORKERS) -> Ruby:
    """Workers that fork a process for every job."""
    _need("resque", "RUBYLIB names a checkout's lib, or gem install resque")
    command = ["ruby", str(_APPS / "resque_app.rb"), str(workers)]
    return Ruby(server, RESQUE, command, "resque:", "RPUSH", _resque_job)


def versions() -> list[str]:
    """Ruby's own and those of its two, as far as they are here: `sidekiq 6.4.1`."""
    if shutil.which("ruby") is None:
        return []
    found = [_output("puts %(ruby #{RUBY_VERSION})")]
    for library, constant in (("sidekiq", "Sidekiq"), ("resque", "Resque")):
        found.append(_output(f"require '{library}'; puts %({library} #{{{constant}::VERSION}})"))
    return [version for version in found if version]


def _sidekiq_job(job_id: str, call: str, args: tuple[float, ...]) -> str:
    now = time.time()
    job = {"class": "BenchJob", "args": [call, *args], "retry": True, "queue": "default"}
    return json.dumps({**job, "jid": job_id, "created_at": now, "enqueued_at": now})


def _resque_job(job_id: str, call: str, args: tuple[float, ...]) -> str:
    return json.dumps({"class": "BenchJob", "args": [call, job_id, *args]})


def _need(library: str, how: str) -> None:
    if shutil.which("ruby") is None:
        raise Missing("no Ruby here; bin/bench --with-ruby installs Debian's, with Sidekiq")
    if not _output(f"require '{library}'; puts 1"):
        raise Missing(f"Ruby has no {library} here: {how}")


def _output(program: str) -> str:
    """What this Ruby prints; empty if it fails."""
    done = subprocess.run(["ruby", "-e", program], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""
