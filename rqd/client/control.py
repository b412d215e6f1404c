"""Acts on jobs, workers and a namespace from anywhere; RQ's names are among them."""

from __future__ import annotations

import getpass
import os
import socket
from dataclasses import dataclass
from typing import Any

from rqd.client import running_job
from rqd.client.connection import Backend, Connection, backend_for
from rqd.client.payloads import sign_meta
from rqd.client.records import fetch_record, no_such_job
from rqd.model.call import encode_value
from rqd.model.current import current
from rqd.model.errors import (
    ConfigurationError,
    DuplicateJobError,
    InvalidJobOperation,
    RqdError,
)
from rqd.model.names import check_job_id, check_name, parse_duration_s
from rqd.model.records import JobRecord, JobStatus, NewJob
from rqd.model.stack import Thread, threads_of
from rqd.store.keys import ALL_QUEUES
from rqd.store.live import ask, send_to

_NOT_TO_CANCEL = (
    *(JobStatus.STARTED, JobStatus.FINISHED, JobStatus.FAILED, JobStatus.STOPPED),
    JobStatus.CREATED,
)
_TO_REQUEUE = (JobStatus.FAILED, JobStatus.STOPPED, JobStatus.CANCELED)
# The advice for a job that waits for its time or for other jobs: RQ's registries would run it.
RUN_NOW = "to run a waiting job now, cancel it and then requeue it"


def cancel(backend: Backend, job_id: str, enqueue_dependents: bool, stop: bool) -> None:
    """Takes a waiting job out of its queue; with `stop`, stops a running job.

    Raises InvalidJobOperation, NoSuchJobError.
    """
    found = backend.store.cancel(job_id, enqueue_dependents=enqueue_dependents)
    _check_found(found, job_id)
    if found == JobStatus.STARTED and stop:
        send_stop_job_command(backend, job_id)
    elif found in _NOT_TO_CANCEL:
        instead = "; stop ends a running job" if found == JobStatus.STARTED else ""
        if found == JobStatus.CREATED:
            instead = "; delete drops a job that was not enqueued"
        raise InvalidJobOperation(
            f"job {job_id} is {found}: only a waiting job can be canceled{instead}"
        )


def requeue(backend: Backend, job_id: str, at_front: bool) -> None:
    """Runs an ended job again. Raises InvalidJobOperation, NoSuchJobError."""
    found = backend.store.requeue(job_id, at_front)
    _check_found(found, job_id)
    if found not in _TO_REQUEUE:
        waits = found in (JobStatus.SCHEDULED, JobStatus.DEFERRED)
        raise InvalidJobOperation(
            f"job {job_id} is {found}: only a failed, stopped or canceled job can be requeued"
            f"{f'; {RUN_NOW}' if waits else ''}"
        )


def save(backend: Backend, made: NewJob) -> None:
    """Stores a job that was not enqueued. Raises DuplicateJobError, RqdError."""
    found = backend.store.save(made, backend.store.request_id())
    if found == "unstaged":
        raise RqdError(
            f"job {made.id} is not saved: its payload got lost on its way; save it again"
        )
    if found not in ("", JobStatus.CREATED):
        raise DuplicateJobError(
            f"job {made.id} is not saved: a job of this id is {found}; write save_meta() to store"
            " its meta, or enqueue_job() to run an ended job again",
            made.id,
        )


def save_meta(backend: Backend, job_id: str, meta: dict[str, Any], serializer: str) -> None:
    """Stores the meta; from inside the job by way of its master.

    Raises NoSuchJobError, InvalidCallError for values that can't be serialized.
    """
    data = encode_value(meta, serializer, f"the meta of job {job_id}")
    signature = sign_meta(data, job_id, serializer, backend)
    if running_job.runs_here(job_id) and current().open_line is not None:
        running_job.save_meta(data, signature)
    elif not backend.store.save_meta(job_id, data, signature):
        raise no_such_job(job_id)


def extend(backend: Backend, record: JobRecord, more_s: float) -> None:
    """Asks the master of the running attempt for `more_s` more seconds.

    Raises InvalidJobOperation if the job does not run, or its master is gone.
    """
    if record.status is not JobStatus.STARTED:
        raise InvalidJobOperation(
            f"job {record.id} is {record.status}: only a running job can be extended"
        )
    store, fence = backend.store, record.fence
    command = {"id": store.request_id(), "do": "extend", "job": record.id, "fence": fence}
    master = record.worker.rpartition(":")[0]
    if not send_to(store, command | {"seconds": more_s}, master, backend.keyring):
        raise InvalidJobOperation(f"the master that runs job {record.id} is gone")


def _check_found(status: str, job_id: str) -> None:
    if not status:
        raise no_such_job(job_id)


DEFAULT_GRACE_S = 5.0
_WAITING = (JobStatus.QUEUED, JobStatus.SCHEDULED, JobStatus.DEFERRED)


def send_stop_job_command(
    connection: Connection,
    job_id: str,
    serializer: Any = None,  # noqa: ARG001 - RQ's; nothing is deserialized here
    grace: float | str = DEFAULT_GRACE_S,
    by: str | None = None,
) -> None:
    """Stops a running job: raises JobStoppedException in it, and kills it after `grace`.

    Returns once the request is in Redis. The job ends `stopped`, is not retried, and does not run
    again if its master is lost. `grace` is in seconds or as `"10s"`, 0 to kill at once. `by` names
    in its cause the person who stopped it; None is user and host. Raises InvalidJobOperation if it
    doesn't run, NoSuchJobError, ConfigurationError.
    """
    grace_s = parse_duration_s(grace, "grace")
    if grace_s is None or grace_s < 0:
        raise ConfigurationError(f"grace {grace!r}: write seconds, 0 to kill at once")
    store = backend_for(connection).store
    told_by = " ".join((by or _who()).split()) or "somebody"
    found = store.stop(check_job_id(job_id), store.request_id(), told_by, grace_s)
    if not found:
        raise no_such_job(job_id)
    if found != JobStatus.STARTED:
        instead = "; cancel takes it out of its queue" if found in _WAITING else ""
        raise InvalidJobOperation(
            f"job {job_id} is {found}: only a running job can be stopped{instead}"
        )


def send_shutdown_command(connection: Connection, worker_name: str) -> None:
    """Stops a master gracefully, by its name or a worker's (`name:number`).

    All its workers finish their jobs and leave, as after `rqd stop --master`. Raises RqdError if no
    master of this name is alive.
    """
    _send(connection, worker_name, {"do": "stop", "now": False})


def send_kill_horse_command(connection: Connection, worker_name: str) -> None:
    """Kills the job that runs in a worker (`name:number`), or all jobs of a master.

    The kill counts as a crash: the job is retried if it has retries left, or fails. Raises
    RqdError if no master of this name is alive.
    """
    _send(connection, worker_name, {"do": "kill_jobs"}, has_number=True)


def _send(
    connection: Connection, worker_name: str, command: dict[str, Any], has_number: bool = False
) -> None:
    if not isinstance(worker_name, str):
        raise ConfigurationError(
            f"worker name {worker_name!r}: write the name of a master or a worker, as rqd workers"
            " lists them; a Worker without name= is named at its start"
        )
    head, colon, number = worker_name.rpartition(":")
    is_worker = bool(colon) and number.isdecimal()
    master = check_name(head if is_worker else worker_name, "worker name")
    if has_number:
        command = {**command, "worker": int(number) if is_worker else None}
    there = backend_for(connection)
    addressed = {"id": os.urandom(8).hex(), **command}
    if not send_to(there.store, addressed, master, there.keyring):
        raise RqdError(f"no master named {master!r} is alive; rqd info lists them")


def _who() -> str:
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError, ImportError):  # a user id without a name, as in a container
        return f"uid {os.getuid()}@{socket.gethostname()}"


def suspend(connection: Connection = None, ttl: float | str | None = None) -> None:
    """Pauses all queues until `resume`, or for `ttl` seconds (or `"10m"`).

    Raises ConfigurationError for a `ttl` of 0.
    """
    backend_for(connection).store.pause(ALL_QUEUES, time_of_pause_s(ttl, "ttl"))


def resume(connection: Connection = None) -> None:
    """Starts jobs again; queues that were paused by name stay paused."""
    backend_for(connection).store.resume(ALL_QUEUES)


def is_suspended(
    connection: Connection = None,
    worker: Any = None,  # noqa: ARG001 - RQ's; all workers are, or none
) -> bool:
    """True while everything is suspended."""
    return ALL_QUEUES in backend_for(connection).views.paused()


def time_of_pause_s(value: float | str | None, what: str) -> float | None:
    """Returns the pause in seconds; None, also for -1, means until `resume`.

    Raises ConfigurationError.
    """
    seconds = parse_duration_s(value, what)
    if seconds == 0:
        raise ConfigurationError(f"{what} 0 would be no pause: write seconds, or '10m'")
    return None if seconds == -1 else seconds


@dataclass(frozen=True, slots=True)
class LiveStack:
    """The Python stacks of all threads of a job's process, each with its innermost call first.

    `text` has faulthandler's format, without rqd's own frames; `worker` is `master:number`.
    """

    job_id: str
    attempt: int
    worker: str
    host: str
    pid: int
    text: str

    @property
    def threads(self) -> list[Thread]:
        """The threads parsed from `text`; the main thread is the last."""
        return threads_of(self.text)


def live_stack(job_id: str, connection: Connection = None, timeout: float = 3.0) -> LiveStack:
    """Returns the stack of a running job; the job goes on, and its code notices nothing.

    A job whose C code holds the GIL has a stack, too. Raises InvalidJobOperation if the job does
    not run, NoSuchJobError if it is gone. Raises RqdError if its master or its process does not
    answer within `timeout` seconds.
    """
    there = backend_for(connection)
    record = _running(there, check_job_id(job_id))
    master = record.worker.rpartition(":")[0]
    command = {"do": "stack", "job": job_id, "fence": record.fence}
    reply = ask(there.store, there.views, command, [master], timeout, there.keyring)[master]
    if reply is None:
        raise RqdError(
            f"job {job_id} runs on {master!r}, which does not answer within {timeout:g} s: it"
            " stands still, has lost its Redis, or is no daemon"
        )
    if "error" in reply:
        _running(there, job_id)  # most often it has ended meanwhile
        raise RqdError(f"job {job_id} has no stack: {reply['error']}")
    return LiveStack(
        job_id,
        record.attempt,
        record.worker,
        str(reply.get("host", "")),
        _whole(reply.get("pid")),
        str(reply.get("stack", "")),
    )


def _running(there: Backend, job_id: str) -> JobRecord:
    record = fetch_record(there, job_id)
    if record.status is not JobStatus.STARTED:
        kept = "; rqd job shows its record" if record.status.is_terminal else ""
        raise InvalidJobOperation(
            f"job {job_id} is {record.status}: only a running job has a stack{kept}"
        )
    return record


def _whole(value: Any) -> int:
    """Returns the number, or 0 for anything else: anybody may have written to Redis."""
    return value if type(value) is int else 0
