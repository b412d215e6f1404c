"""The part of a handle on a job that shows what it was enqueued with, under RQ's names."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, cast

from rqd.client import changes
from rqd.client.job_facts import JobFacts, R
from rqd.client.webhook import Webhook
from rqd.model.describe import describe_call
from rqd.model.retry import ASKED, RetryRules
from rqd.model.terms import read_tally, read_terms

# The job whose `perform` was called here.
performed: ContextVar[Any] = ContextVar("performed job", default=None)


class JobOptions(JobFacts[R]):
    """The part of `rqd.job.Job` that shows its options. Callbacks and webhooks raise as `func`."""

    @property
    def success_callback(self) -> Callable[..., Any] | None:
        """The function of its `on_success`, imported here; None without one."""
        return self._callback("finished")

    @property
    def failure_callback(self) -> Callable[..., Any] | None:
        """The function of its `on_failure`, imported here; None without one."""
        return self._callback("failed")

    @property
    def stopped_callback(self) -> Callable[..., Any] | None:
        """The function of its `on_stopped`, imported here; None without one."""
        return self._callback("stopped")

    @property
    def webhooks(self) -> list[Webhook]:
        """The webhooks it was enqueued with; their `retry` is not shown."""
        return [
            Webhook.of_arguments(*self._contents.read_following(one)[1])
            for one in self._following()
            if _func_name(one) == Webhook.SENDER
        ]

    @property
    def allow_dependency_failures(self) -> bool:
        """True if it runs after any end of the jobs it depends on."""
        given = read_terms(self._record.terms).get("depends_on")
        return isinstance(given, dict) and given.get("on_failure") == "run"

    @property
    def has_rate_limit(self) -> bool:
        """True if it shares a RateLimit."""
        return "limit" in read_terms(self._record.terms)

    @property
    def number_of_retries(self) -> int:
        """The number of its retries so far, those that the job asked for included."""
        record = self._record
        return record.retries_used + read_tally(record.tally).get(ASKED, 0)

    @changes.changeable(changes.read_front_on_retry)
    def enqueue_at_front_on_retry(self) -> bool:
        """True if a retry without a wait goes before all other jobs of its priority."""
        return RetryRules.parse(read_terms(self._record.terms).get("retry")).at_front

    def get_ttl(self, default_ttl: float | None = None) -> float | None:
        """Returns `ttl`, or `default_ttl` if it may wait for ever."""
        return default_ttl if self.ttl is None else self.ttl

    def get_result_ttl(
        self,
        default_ttl: float | None = None,  # noqa: ARG002 - RQ's; a job knows its own
    ) -> float:
        """Returns `result_ttl` (RQ's name)."""
        return self.result_ttl

    def get_call_string(self) -> str:
        """Returns the call as Python code. Raises as `args`."""
        return describe_call(self.func_name, self.args, self.kwargs)

    def perform(self) -> R:
        """Calls the function in this process and returns its value; the job's state stays.

        A coroutine is run to its end. The call has no time limit, and unless it is made inside
        another job, this is its `get_current_job()`. Raises as `func`, and what the function
        raises.
        """
        before = performed.set(self)
        try:
            return self._performed()
        finally:
            performed.reset(before)

    def _performed(self) -> R:
        value = self.func(*self.args, **self.kwargs)
        if not inspect.iscoroutine(value):
            return value
        import asyncio  # noqa: PLC0415 - few modules of jobs need it

        async def to_end() -> Any:
            return await value

        return cast("R", asyncio.run(to_end()))

    def _callback(self, status: str) -> Callable[..., Any] | None:
        for one in self._following():
            if one.get("on") == status and _func_name(one) != Webhook.SENDER:
                return self._contents.read_following(one)[0]
        return None

    def _following(self) -> list[dict[str, Any]]:
        given = read_terms(self._record.terms).get("callbacks")
        return [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []


def _func_name(following: dict[str, Any]) -> str:
    fields = following.get("fields")
    return str(fields.get("func_name", "")) if isinstance(fields, dict) else ""
