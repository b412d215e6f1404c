"""What a job costs, counted: it fails at twice of what is usual, whatever else runs."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks import tasks
from rqd import Queue
from rqd.client.connection import Backend
from rqd.store.connection import client_connection
from rqd.store.keys import Keys
from rqd.store.store import Store
from tests.daemons import ROOT, Daemon, StartDaemon
from tests.waiting import eventually

if TYPE_CHECKING:
    from redis import Redis

WORKERS = 4
JOBS = 300
WARM_UP = 100
BARE_JOBS = (50, 350)
LIMIT_S = 40.0
DOUBLED = 2.0

# What is usual, a job. Commands are the server's own count, with what scripts do inside.
USUAL_ENQUEUE = {"commands": 9, "bytes": 488}
USUAL_RUN = {"commands": 27, "bytes": 730, "child_faults": 212, "zygote_faults": 86}
# Cpu time of master, zygote and children against that of the bare loop: 1.2 to 1.9.
USUAL_OVER_BARE = 1.5


@dataclass(frozen=True, slots=True)
class Spent:
    """Since the start: by the server, and by a daemon's processes."""

    commands: int
    bytes: int
    child_faults: int
    zygote_faults: int
    cpu_s: float

    def since(self, before: Spent, jobs: int) -> dict[str, float]:
        """A job."""
        return {
            name: (getattr(self, name) - getattr(before, name)) / jobs
            for name in self.__dataclass_fields__
        }


def test_a_job_costs_less_than_twice_what_is_usual(
    redis_url: str, redis_client: Redis, start_daemon: StartDaemon
) -> None:
    queue = Queue(connection=Backend(Store(client_connection(redis_url)), redis_url))
    daemon = start_daemon("--preload", "benchmarks.tasks", workers=WORKERS)
    _enqueue(queue, WARM_UP)
    _await_finished(redis_client, WARM_UP)
    daemon.signal(signal.SIGUSR2)  # pauses: what the producer costs is counted by itself
    eventually(lambda: "paused" in daemon.log(), 5.0, "paused")

    began = _spent(redis_client, daemon)
    _enqueue(queue, JOBS)
    enqueued = _spent(redis_client, daemon)
    daemon.signal(signal.SIGCONT)
    _await_finished(redis_client, WARM_UP + JOBS)
    ended = _spent(redis_client, daemon)

    enqueue, run = enqueued.since(began, JOBS), ended.since(enqueued, JOBS)
    assert _doubled(enqueue, USUAL_ENQUEUE) == {}
    assert _doubled(run, USUAL_RUN) == {}
    assert run["cpu_s"] / _bare_cpu_s() < DOUBLED * USUAL_OVER_BARE


def _doubled(found: Mapping[str, float], usual: Mapping[str, float]) -> dict[str, float]:
    return {name: found[name] for name in usual if found[name] >= DOUBLED * usual[name]}


def _enqueue(queue: Queue, jobs: int) -> None:
    for _ in range(jobs):
        queue.enqueue(tasks.noop)


def _await_finished(client: Redis, jobs: int) -> None:
    key = Keys().index("default", "finished")
    eventually(lambda: client.execute_command("ZCARD", key) >= jobs, LIMIT_S, f"{jobs} finished")


def _spent(client: Redis, daemon: Daemon) -> Spent:
    """Our own looks are in it: a few commands, and some kilobytes of answers."""
    stats: Any = client.info("stats")
    commands: Any = client.info("commandstats")
    (zygote,) = psutil.Process(daemon.pid).children()
    fields = Path(f"/proc/{zygote.pid}/stat").read_text().rpartition(")")[2].split()
    times = [psutil.Process(daemon.pid).cpu_times(), zygote.cpu_times()]
    return Spent(
        commands=sum(one["calls"] for one in commands.values()),
        bytes=stats["total_net_input_bytes"] + stats["total_net_output_bytes"],
        zygote_faults=int(fields[7]),
        child_faults=int(fields[8]),
        cpu_s=sum(one.user + one.system for one in times)
        + times[1].children_user
        + times[1].children_system,
    )


def _bare_cpu_s() -> float:
    """Of a job of the bare loop: what more jobs cost more, so that starting falls out."""
    used = []
    for jobs in BARE_JOBS:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "benchmarks.bare", str(WORKERS), str(jobs)],
            cwd=ROOT,
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=LIMIT_S,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return (used[1] - used[0]) / (BARE_JOBS[1] - BARE_JOBS[0])
