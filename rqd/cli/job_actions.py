"""What `rqd job ID ACTION` does to a job: stop, extend, cancel, requeue, delete."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import click

from rqd.cli.instants import with_unit
from rqd.cli.table import say
from rqd.command import DEFAULT_GRACE_S
from rqd.job import Job
from rqd.model.errors import ConfigurationError, NoSuchJobError
from rqd.model.names import parse_duration_s

EX_STILL_RUNS = 1
# What the kill, and the outcome's way to Redis, may take at most.
_KILL_S = 10.0


@dataclass(frozen=True, slots=True)
class Asked:
    """The options of the actions."""

    grace: str | None = None
    at_front: bool = False
    wait: bool = True
    by: str | None = None


def act(job: Job[object], action: str, asked: Asked, as_json: bool) -> int:
    """Does it, and says where the job is then; the exit status. Raises as the job's method does."""
    if asked.grace is not None and action != "stop":
        raise ConfigurationError("--grace is of `stop`: seconds from the exception to the kill")
    if asked.at_front and action != "requeue":
        raise ConfigurationError("--at-front is of `requeue`")
    if (asked.by is not None) != (action == "extend"):
        raise ConfigurationError("`extend` wants --by, such as --by 10m; no other action does")
    was = str(job.get_status())
    _ACTIONS[action](job, asked)
    status = _status(job)
    if as_json:
        click.echo(json.dumps({"id": job.id, "was": was, "status": status}, indent=2))
    else:
        told = {"stop": "told to stop" if status == "started" else status, "requeue": "requeued"}
        told["extend"] = f"extended by {with_unit(asked.by or '')}"
        say(f"{job.id}: {told.get(action, status)}")
    return EX_STILL_RUNS if action == "stop" and asked.wait and status == "started" else 0


def _stop(job: Job[object], asked: Asked) -> None:
    grace_s = parse_duration_s(asked.grace, "--grace")
    grace_s = DEFAULT_GRACE_S if grace_s is None else grace_s
    job.stop(grace_s)
    if asked.wait:
        job.latest_result(timeout=grace_s + _KILL_S)


def _extend(job: Job[object], asked: Asked) -> None:
    job.extend(asked.by or "")


def _cancel(job: Job[object], _asked: Asked) -> None:
    job.cancel()


def _requeue(job: Job[object], asked: Asked) -> None:
    job.requeue(asked.at_front)


def _delete(job: Job[object], _asked: Asked) -> None:
    job.delete()


_ACTIONS: dict[str, Callable[[Job[object], Asked], None]] = {
    "stop": _stop,
    "extend": _extend,
    "cancel": _cancel,
    "requeue": _requeue,
    "delete": _delete,
}
ACTIONS = tuple(_ACTIONS)


def _status(job: Job[object]) -> str:
    try:
        return str(job.get_status())
    except NoSuchJobError:
        return "deleted"
