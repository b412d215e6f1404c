"""Who works now: the workers of live masters, as their rows in Redis have them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from rqd.client.connection import Backend, Connection, backend_for
from rqd.client.job import Job
from rqd.model.numbers import instant, read_whole


class WorkerStatus(StrEnum):
    """What a worker's `state` is, under RQ's names. None is ever suspended: queues are."""

    STARTED = "starting"
    SUSPENDED = "suspended"
    BUSY = "busy"
    IDLE = "idle"


@dataclass(frozen=True)
class LiveWorker:
    """A worker of a live master, as of the moment it was looked up.

    `name` is `master:number`; `state` is starting, idle or busy, the counters are those of its
    place since its master began, and `pid` is of the process that waits or runs there.
    """

    name: str
    master: dict[str, str]
    row: dict[str, str]
    connection: Backend

    @property
    def state(self) -> str:
        """What it does now."""
        return self.row.get("state", "starting")

    def get_state(self) -> str:
        """As `state`."""
        return self.state

    @property
    def hostname(self) -> str:
        """The host it is on."""
        return self.master.get("host", "")

    @property
    def pid(self) -> int:
        """The process in its place; 0 while there is none."""
        return read_whole(self.row.get("pid")) or 0

    @property
    def version(self) -> str:
        """Its rqd's version."""
        return self.master.get("version", "")

    def queue_names(self) -> list[str]:
        """The queues it serves, in order of precedence."""
        return [name for name in self.master.get("queues", "").split(",") if name]

    @property
    def queues(self) -> list[Any]:
        """As `queue_names`, as queues."""
        from rqd.client.queue import Queue  # noqa: PLC0415 - only who asks for it needs the whole

        return [Queue(name, self.connection) for name in self.queue_names()]

    @property
    def birth_date(self) -> datetime | None:
        """When its master began."""
        return instant(read_whole(self.master.get("started")) or None)

    @property
    def last_heartbeat(self) -> datetime | None:
        """When its master was last heard of."""
        return instant(read_whole(self.master.get("heartbeat")) or None)

    @property
    def successful_job_count(self) -> int:
        """How many attempts succeeded in this place."""
        return read_whole(self.row.get("done")) or 0

    @property
    def failed_job_count(self) -> int:
        """How many attempts failed in this place, retried ones included."""
        return read_whole(self.row.get("failed")) or 0

    @property
    def total_working_time(self) -> float:
        """Seconds that jobs ran in this place, as of the last heartbeat."""
        try:
            return float(self.row.get("worked_s", 0))
        except ValueError:
            return 0.0

    def get_current_job_id(self) -> str | None:
        """The job it runs; None if it runs none."""
        return self.row.get("job") or None

    def get_current_job(self) -> Job[Any] | None:
        """The job it runs; None if it runs none, or if that is gone by now."""
        job_id = self.get_current_job_id()
        return Job.fetch_many([job_id], self.connection)[0] if job_id else None

    def __repr__(self) -> str:
        return f"<LiveWorker {self.name}: {self.state}>"


def live_workers(connection: Connection = None, queue: str | None = None) -> list[LiveWorker]:
    """The workers of live masters; with `queue`, of those that serve it."""
    backend = backend_for(connection)
    masters = {row["name"]: row for row in backend.views.masters()}
    serving = [
        row for row in masters.values() if not queue or queue in row.get("queues", "").split(",")
    ]
    return [
        LiveWorker(f"{row['master']}:{row['number']}", masters[row["master"]], row, backend)
        for row in backend.views.workers(serving)
        if "state" in row
    ]
