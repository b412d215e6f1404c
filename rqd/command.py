"""Commands to what runs, on whichever host, under RQ's names."""

from __future__ import annotations

import getpass
import os
import socket
from typing import Any

from rqd.connection import Connection, backend_for
from rqd.job_lookup import no_such_job
from rqd.model.errors import ConfigurationError, InvalidJobOperation, RqdError
from rqd.model.names import check_job_id, check_name, parse_duration_s
from rqd.model.records import JobStatus
from rqd.store.live import send_to

DEFAULT_GRACE_S = 5.0
_WAITING = (JobStatus.QUEUED, JobStatus.SCHEDULED, JobStatus.DEFERRED)


def send_stop_job_command(
    connection: Connection,
    job_id: str,
    serializer: Any = None,  # noqa: ARG001 - RQ's; nothing is deserialized here
    grace: float | str = DEFAULT_GRACE_S,
    by: str | None = None,
) -> None:
    """Stops a running job: JobStoppedException is raised in it, and after `grace` it is killed.

    Returns when its master was told. The job ends `stopped`, is not retried, and does not run again
    if its master is lost. `by` is what its cause says of who stopped it, None for user and host.
    Raises InvalidJobOperation if it doesn't run, NoSuchJobError.
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
    """Stops a master gracefully, by its name or that of one of its workers (`name:number`).

    All its workers finish their jobs and leave, as after `rqd stop --name`. Raises
    RqdError if there is none of this name.
    """
    _send(connection, worker_name, {"do": "stop", "now": False})


def send_kill_horse_command(connection: Connection, worker_name: str) -> None:
    """Kills the job that runs in a worker (`name:number`), or all those of a master.

    It counts as a crash: the job is retried, if it has retries left, or fails. Raises
    RqdError if there is no such master.
    """
    _send(connection, worker_name, {"do": "kill_jobs"}, has_number=True)


def _send(
    connection: Connection, worker_name: str, command: dict[str, Any], has_number: bool = False
) -> None:
    if not isinstance(worker_name, str):
        raise ConfigurationError(
            f"worker name {worker_name!r}: write that of a master or of a worker, as rqd workers"
            " lists them; a Worker without name= gets one when it starts"
        )
    head, colon, number = worker_name.rpartition(":")
    is_worker = bool(colon) and number.isdecimal()
    master = check_name(head if is_worker else worker_name, "worker name")
    if has_number:
        command = {**command, "worker": int(number) if is_worker else None}
    there = backend_for(connection)
    told = {"id": os.urandom(8).hex(), **command}
    if not send_to(there.store, told, master, there.keyring):
        raise RqdError(f"no master named {master!r} is alive; rqd info lists them")


def _who() -> str:
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError, ImportError):  # a user id without a name, as in a container
        return f"uid {os.getuid()}@{socket.gethostname()}"
