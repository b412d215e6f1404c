"""Runs in a callback's process: reads how the other job has ended, and sends webhooks.

It asks Redis, and so loads redis-py: `--preload rqd.callbacks` does that once for all. An enqueue
makes the callbacks' jobs in `callbacks.py`.
"""

from __future__ import annotations

import json
import sys
from time import monotonic, sleep
from typing import Any

import rqd.store.queries  # noqa: F401 - what a backend reads by, to be there before the fork
from rqd.client.callbacks import Callback as Callback
from rqd.client.connection import Backend, backend_for
from rqd.client.job import Job
from rqd.client.results import Result, ResultType
from rqd.client.webhook import Webhook
from rqd.exceptions import AbandonedJobError, JobFailedError
from rqd.model.current import current
from rqd.model.terms import read_terms
from rqd.store.connection import RedisError  # noqa: F401 - as above
from rqd.store.errors import LoginRefusedError, NoServerError

_PATIENCE_S, _AGAIN_S = 30.0, 0.2
_TYPE = {
    "finished": ResultType.SUCCESSFUL,
    "failed": ResultType.FAILED,
    "stopped": ResultType.STOPPED,
}


def callback_arguments(terms: str) -> tuple[Any, ...]:
    """Reads from Redis, in a callback's process, the arguments that come before its own.

    Waits up to 30 s for a server that is away: nothing of the callback has run yet. Raises
    NoServerError after that, NoSuchJobError if the job's record is gone, and as
    `Result.return_value`.
    """
    term = read_terms(terms)["callback"]
    give_up_at = monotonic() + _PATIENCE_S
    while True:
        try:
            return _read_arguments(term)
        except LoginRefusedError:
            raise
        except NoServerError:
            if monotonic() >= give_up_at:
                raise
        sleep(_AGAIN_S)


def _read_arguments(term: dict[str, Any]) -> tuple[Any, ...]:
    backend = backend_for()
    job = Job.fetch(term["of"], backend)
    common = job, backend.store.redis
    if term.get("webhook"):
        return common
    result = _end_of(job, _TYPE[term["on"]], backend)
    match term["on"]:
        case "finished":
            return *common, result.return_value if result is not None else None
        case "failed":
            error = failure_of(job, result)
            return *common, type(error), error, None
    return common


def _end_of(job: Job[Any], kind: ResultType, backend: Backend) -> Result | None:
    """The end that made the callback which runs here; None if its record is gone."""
    ends = [one for one in job.results() if one.type is kind]
    own_id = current().id
    own = backend.views.job(own_id) if len(ends) > 1 and own_id else None
    if own is None or own.created_us is None:
        return ends[0] if ends else None
    # Repeated or requeued, the job may have ended again since: a callback is as old as its end.
    made_us = own.created_us
    return next((one for one in ends if one.record.created_us <= made_us), None)


def failure_of(job: Job[Any], result: Result | None) -> BaseException:
    """Returns a job's failure as an exception, of the type raised if this process has loaded it.

    Imports nothing and calls no constructor, as the type's name comes from Redis. A crash is a
    JobFailedError, a loss an AbandonedJobError. The traceback, as text, is among the notes.
    """
    details = result.details if result is not None else {}
    cause = (result.cause if result is not None else None) or job.cause or "its record is gone"
    kind = _known_exception(str(details.get("exc_type", "")))
    error = _made(kind, str(details.get("exc_message", cause))) if kind is not None else None
    if error is None:
        error = (AbandonedJobError if cause.startswith("abandoned") else JobFailedError)(cause)
    if result is not None and result.exc_string:
        error.add_note(result.exc_string)
    return error


def _made(kind: type[BaseException], text: str) -> BaseException | None:
    """Makes an exception that shows the text; None for a type that needs more than a text."""
    try:
        error = kind.__new__(kind, text)
        # A KeyError shows its text quoted.
        return error if text in str(error) else None
    except Exception:  # noqa: BLE001 - a __str__ of the user's may want what __init__ sets
        return None


def _known_exception(name: str) -> type[BaseException] | None:
    module, _, path = name.rpartition(".")
    home = sys.modules.get(module)
    # Not getattr, which may import a missing name.
    found = vars(home).get(path) if home is not None else None
    if not isinstance(found, type) or not issubclass(found, BaseException):
        return None
    # A __new__ of its own may do anything, or want other arguments.
    return found if isinstance(found.__new__, type(BaseException.__new__)) else None


def send(
    job: Job[Any],
    _connection: Any,
    url: str,
    job_status: str,
    method: str,
    headers: dict[str, str],
    timeout_s: float,
) -> int:
    """Sends the request, in a job of its own; returns the answer's status."""
    from urllib import request  # noqa: PLC0415 - only the process that sends one pays for it

    body = None
    if method == "POST":
        body = json.dumps(_about(job, job_status)).encode()
        headers = {"Content-Type": "application/json", **headers}
    opener = request.OpenerDirector()
    # No handler that reads files, or follows a redirect with the headers to another host.
    for handler in (
        request.ProxyHandler,
        request.HTTPHandler,
        request.HTTPSHandler,
        request.UnknownHandler,
        request.HTTPDefaultErrorHandler,
        request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    asked = request.Request(url, data=body, headers=headers, method=method)
    with opener.open(asked, timeout=timeout_s) as answer:
        return int(answer.status)


# Jobs in Redis and patterns of --allow have it by this name.
send.__module__ = Webhook.SENDER.rpartition(".")[0]


def _about(job: Job[Any], status: str) -> dict[str, Any]:
    """Returns RQ's fields about the job, and a few more."""
    event: dict[str, Any] = {
        "job_id": job.id,
        "func_name": job.func_name,
        "status": status,
        "queue": job.origin,
        "enqueued_at": job.enqueued_at.isoformat() if job.enqueued_at else None,
        "ended_at": job.ended_at.isoformat() if job.ended_at else None,
    }
    if status != "finished":
        event |= {"cause": job.cause, "exc_info": job.exc_info}
    return event
