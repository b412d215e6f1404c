"""The workers of live masters, by their rows in Redis."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from rqd.client.connection import Backend, Connection, backend_for
from rqd.client.job import Job
from rqd.client.queue import Queue
from rqd.model.numbers import instant, read_whole


class WorkerStatus(StrEnum):
    """The values of a worker's `state`, under RQ's names. Queues are suspended, workers never."""

    STARTED = "starting"
    SUSPENDED = "suspended"
    BUSY = "busy"
    IDLE = "idle"


@dataclass(frozen=True)
class LiveWorker:
    """A worker of a live master, as of the moment it was looked up.

    `name` is `master:number`. The counters belong to the worker's number, and begin with its
    master.
    """

    name: str
    master: dict[str, str]
    row: dict[str, str]
    connection: Backend

    @property
    def state(self) -> str:
        """The worker's state: starting, idle or busy."""
        return self.row.get("state", "starting")

    def get_state(self) -> str:
        """Returns `state` (RQ's name)."""
        return self.state

    @property
    def hostname(self) -> str:
        """The name of its host."""
        return self.master.get("host", "")

    @property
    def pid(self) -> int:
        """The pid of its process, which waits or runs a job; 0 while there is none."""
        return read_whole(self.row.get("pid")) or 0

    @property
    def version(self) -> str:
        """The version of its rqd."""
        return self.master.get("version", "")

    def queue_names(self) -> list[str]:
        """Returns the names of the queues it serves, in order of precedence."""
        return [name for name in self.master.get("queues", "").split(",") if name]

    @property
    def queues(self) -> list[Queue]:
        """The queues it serves, in order of precedence."""
        return [Queue(name, self.connection) for name in self.queue_names()]

    @property
    def birth_date(self) -> datetime | None:
        """The time at which its master began."""
        return instant(read_whole(self.master.get("started")) or None)

    @property
    def last_heartbeat(self) -> datetime | None:
        """The time of its master's last heartbeat."""
        return instant(read_whole(self.master.get("heartbeat")) or None)

    @property
    def successful_job_count(self) -> int:
        """The number of attempts that succeeded here."""
        return read_whole(self.row.get("done")) or 0

    @property
    def failed_job_count(self) -> int:
        """The number of attempts that failed here, retried attempts included."""
        return read_whole(self.row.get("failed")) or 0

    @property
    def total_working_time(self) -> float:
        """Seconds that jobs ran here, as of the last heartbeat."""
        try:
            return float(self.row.get("worked_s", 0))
        except ValueError:
            return 0.0

    def get_current_job_id(self) -> str | None:
        """Returns the id of the job it runs; None without a job."""
        return self.row.get("job") or None

    def get_current_job(self) -> Job[Any] | None:
        """Returns the job it runs; None without a job, or if its record is gone by now."""
        job_id = self.get_current_job_id()
        return Job.fetch_many([job_id], self.connection)[0] if job_id else None

    def __repr__(self) -> str:
        return f"<LiveWorker {self.name}: {self.state}>"


def live_workers(connection: Connection = None, queue: str | None = None) -> list[LiveWorker]:
    """Returns the workers of live masters; with `queue`, only of masters that serve it."""
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
