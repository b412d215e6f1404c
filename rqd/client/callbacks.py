"""Callbacks at an enqueue: each is a job of its own, which the other job's end puts on the queue.

The producer makes that job beforehand, with its id and signature. It puts it into the terms of the
job that it follows: masters and scripts sign nothing. Its process runs `callback_runtime.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rqd.client.job_id import new_job_id
from rqd.client.payloads import signed
from rqd.client.webhook import Webhook
from rqd.model.call import encode_call
from rqd.model.errors import ConfigurationError, InvalidCallError
from rqd.model.names import parse_duration_s
from rqd.model.records import NewJob, Template
from rqd.model.retry import Retry, check_retry
from rqd.model.terms import dump_terms, read_terms

if TYPE_CHECKING:
    from rqd.client.connection import Backend

DEFAULT_TIMEOUT_S = 60.0
# Webhooks stand in the job's own record, and a script looks at each.
MOST_WEBHOOKS = 10
_MOST_BYTES = 16 * 1024
_STATUS = {"on_success": "finished", "on_failure": "failed", "on_stopped": "stopped"}


class Callback:
    """A function for `on_success`, `on_failure` or `on_stopped`, and how long it may run (RQ's).

    `timeout` in seconds or as "1m", None for a minute; `retry` as for a job. Raises
    InvalidCallError if another process could not find the function, ConfigurationError.
    """

    def __init__(
        self, func: Any, timeout: float | str | None = None, retry: Retry | None = None
    ) -> None:
        seconds = parse_duration_s(timeout, "a callback's timeout")
        if seconds == 0:
            raise ConfigurationError("a callback's timeout 0 would end it at once: write seconds")
        check_retry(retry, "a callback's")
        # Checked here and not at the end of a job, where nobody would hear of an error.
        self.name, _ = encode_call(func, (), {}, limit_bytes=_MOST_BYTES)
        self.func = func
        self.timeout = DEFAULT_TIMEOUT_S if seconds is None else seconds
        self.retry = retry

    def __repr__(self) -> str:
        return f"Callback({self.name}, timeout={self.timeout:g})"


Following = Callback | Webhook


def check_callbacks(options: dict[str, Any]) -> None:
    """Makes Callbacks of the functions among an enqueue's options, and a tuple of its webhooks.

    Raises InvalidCallError, ConfigurationError.
    """
    for name in _STATUS.keys() & options.keys():
        given = options[name]
        options[name] = given if isinstance(given, Callback) else Callback(given)
    if "webhooks" in options:
        webhooks = options["webhooks"]
        webhooks = (webhooks,) if isinstance(webhooks, Webhook) else tuple(webhooks)
        for webhook in webhooks:
            if not isinstance(webhook, Webhook):
                raise InvalidCallError(f"webhooks={webhook!r}: write a list of Webhook(..)")
        if len(webhooks) > MOST_WEBHOOKS:
            raise InvalidCallError(f"{len(webhooks)} webhooks for one job: {MOST_WEBHOOKS} at most")
        options["webhooks"] = webhooks


def following(options: Any) -> list[tuple[str, Following]]:
    """The callbacks and webhooks of a job's options, each with the status it waits for."""
    found: list[tuple[str, Following]] = []
    for name, status in _STATUS.items():
        if (given := getattr(options, name)) is not None:
            found.append((status, given))
    found += [(webhook.job_status, webhook) for webhook in options.webhooks or ()]
    return found


def with_callbacks(
    template: Template, job_id: str, given: Sequence[tuple[str, Following]], backend: Backend
) -> Template:
    """Returns the template with the jobs of the callbacks, signed, among its terms."""
    terms = read_terms(template.terms)
    inherited = {"trace": terms["trace"]} if "trace" in terms else {}
    terms["callbacks"] = [
        _as_term(status, _callback_job(one, status, template, job_id, inherited, backend))
        for status, one in given
    ]
    return replace(template, terms=dump_terms(terms))


def _callback_job(
    given: Following,
    status: str,
    like: Template,
    job_id: str,
    inherited: dict[str, Any],
    backend: Backend,
) -> NewJob:
    new_id = new_job_id()
    about: dict[str, Any] = {"of": job_id, "on": status, "id": new_id}
    if isinstance(given, Webhook):
        func, args, described = Webhook.SENDER, given.arguments(), given.describe()
        about["webhook"], timeout_s = True, given.process_timeout_s
    else:
        func, args, described = given.func, (), f"{given.name}: {job_id} {status}"
        timeout_s = given.timeout
    func_name, payload = encode_call(func, args, {}, like.serializer, _MOST_BYTES)
    retry, terms = given.retry, {**inherited, "callback": about}
    if retry and (rules := retry.rules.terms()):
        terms["retry"] = rules
    template = Template(
        like.queue,
        like.serializer,
        timeout_s=timeout_s,
        # The callback's record stays as long as that of the job it is about.
        result_ttl_s=like.result_ttl_s,
        failure_ttl_s=like.failure_ttl_s,
        retries=retry.max if retry else 0,
        retry_intervals=tuple(retry.intervals) if retry else (),
        terms=dump_terms(terms),
    )
    return signed(NewJob(new_id, template, func_name, payload, described), backend)


def _as_term(status: str, new: NewJob) -> dict[str, Any]:
    """The term from which the script makes the job. The payload is in hex: JSON has no bytes."""
    fields = {**new.template.hash_fields(new.func_name), "description": new.description}
    if new.signature:
        fields["signature"] = new.signature
    payload = new.payload.hex()
    queue = new.template.queue
    return {"on": status, "id": new.id, "queue": queue, "payload": payload, "fields": fields}
