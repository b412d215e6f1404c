"""Where a running job stands now, whichever host it runs on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rqd.connection import Backend, Connection, backend_for
from rqd.job_lookup import fetch_record
from rqd.model.errors import InvalidJobOperation, RqdError
from rqd.model.names import check_job_id
from rqd.model.records import JobRecord, JobStatus
from rqd.model.stack import Thread, threads_of
from rqd.store.live import ask


@dataclass(frozen=True, slots=True)
class LiveStack:
    """The Python stacks of all threads of a job's process, each with its innermost call first.

    `text` is as faulthandler writes it, without rqd's own frames; `worker` is `master:number`.
    """

    job_id: str
    attempt: int
    worker: str
    host: str
    pid: int
    text: str

    @property
    def threads(self) -> list[Thread]:
        """The same, taken apart; the main thread is the last."""
        return threads_of(self.text)


def live_stack(job_id: str, connection: Connection = None, timeout: float = 3.0) -> LiveStack:
    """The stack of a running job; it goes on, and its code notices nothing.

    Also of one whose C code holds the GIL. Raises InvalidJobOperation if the job does not run,
    NoSuchJobError, and RqdError if its master does not answer within `timeout` seconds, or its
    process does not.
    """
    there = backend_for(connection)
    record = _running(there, check_job_id(job_id))
    master = record.worker.rpartition(":")[0]
    command = {"do": "stack", "job": job_id, "fence": record.fence}
    told = ask(there.store, there.views, command, [master], timeout, there.keyring)[master]
    if told is None:
        raise RqdError(
            f"job {job_id} runs on {master!r}, which does not answer within {timeout:g} s: it"
            " stands still, has lost its Redis, or is no daemon"
        )
    if "error" in told:
        _running(there, job_id)  # most often it has ended meanwhile
        raise RqdError(f"job {job_id} has no stack: {told['error']}")
    return LiveStack(
        job_id,
        record.attempt,
        record.worker,
        str(told.get("host", "")),
        _whole(told.get("pid")),
        str(told.get("stack", "")),
    )


def _running(there: Backend, job_id: str) -> JobRecord:
    record = fetch_record(there, job_id)
    if record.status is not JobStatus.STARTED:
        kept = "; rqd job shows what is kept of it" if record.status.is_terminal else ""
        raise InvalidJobOperation(
            f"job {job_id} is {record.status}: only a running job has a stack{kept}"
        )
    return record


def _whole(value: Any) -> int:
    """0 for what is no number: anybody may have written to Redis."""
    return value if type(value) is int else 0
