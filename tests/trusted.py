"""Jobs for daemons that are told what to run, and names they must not be reached by."""

import os
import sys
from dataclasses import dataclass
from functools import partial
from os import system  # noqa: F401 - what a careless pattern would reach
from pathlib import Path
from typing import Any

from rqd import Job, Queue, get_current_job
from rqd.client.connection import backend_for
from rqd.model.errors import NotAllowedError


@dataclass
class Order:
    number: int

    def ship(self, where: str) -> str:
        return f"{self.number} to {where}"

    @classmethod
    def count(cls) -> str:
        return cls.__name__


def echo(value: Any) -> Any:
    return value


def run_elsewhere(command: str) -> int:
    return os.system(command)


def enqueue_signed(value: int) -> str:
    """A job's own client has the keys of its daemon."""
    return Queue("other").enqueue(echo, value).id


def read_as(serializer: str) -> tuple[str, bool]:
    """Reads the meta it has saved, after somebody has changed its record to this serializer."""
    job = get_current_job()
    assert job is not None
    job.meta["page"] = 1
    job.save_meta()
    redis: Any = job.connection
    redis.hset(backend_for().store.keys.job(job.id), "serializer", serializer)
    try:
        told = repr(Job.fetch(job.id).meta)
    except NotAllowedError as error:
        told = str(error)
    return told, serializer in sys.modules


def what_others_see() -> str:
    """All that a process shows of itself and of those above it: arguments and environments."""
    shown, pid = "", os.getpid()
    for _ in range(3):
        for name in ("cmdline", "environ", "comm"):
            shown += Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace") + "\n"
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        pid = int(fields[1])
    return shown + repr(sorted(os.environ.items()))


limits = {"orders": 5}
half = partial(run_elsewhere, "true")
