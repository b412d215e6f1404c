"""Commands out of a master's control list, where whoever can write to Redis can write anything."""

from __future__ import annotations

from typing import Any

from rqd.daemon.children import Children
from rqd.daemon.config import MAX_WORKERS
from rqd.daemon.log import Log

_LONGEST_S = 1e9


def workers_asked_for(command: dict[str, Any], workers: int) -> int | None:
    """How many workers a `scale` asks for: `to` so many, or `by` so many more; None for what can't
    be.
    """
    to, by = command.get("to"), command.get("by")
    if type(to) is int:
        asked = to
    elif type(by) is int:
        asked = workers + by
    else:
        return None
    return asked if 1 <= asked <= MAX_WORKERS else None


def obey_for_job(command: dict[str, Any], children: Children, now: float, log: Log) -> bool:
    """Obeys a command that names a job and its attempt's fence; False if it is no such command."""
    job_id, fence = command.get("job"), command.get("fence")
    if not isinstance(job_id, str) or type(fence) is not int:
        return False
    match command.get("do"):
        case "extend":
            seconds = _time_s(command.get("seconds"))
            if seconds is None:
                return False
            is_here = children.extend(job_id, fence, seconds)
            log.info("job extended", job_id=job_id, by_s=seconds, runs_here=is_here)
        case "follow":
            children.workers.follow(job_id, fence, command.get("first") is True, now)
        case _:
            return False
    return True


def _time_s(seconds: Any) -> float | None:
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        return None
    return float(seconds) if 0 < seconds <= _LONGEST_S else None  # no NaN passes either
