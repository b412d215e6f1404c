"""Errors of jobs in Sentry: `rqd start --middleware rqd.integrations.sentry.report`.

Needs sentry-sdk. The settings come from `sentry_sdk.init(..)` in a `--preload`ed module, or else
from `SENTRY_DSN`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import sentry_sdk

from rqd.integrations import FLUSH_S, flush_to_the_end
from rqd.model.errors import JobStoppedException, RetryLater
from rqd.model.middleware import RunningJob

# In the zygote, once for all its children; it starts no thread before there is an event.
if not sentry_sdk.is_initialized():
    sentry_sdk.init()


def report(job: RunningJob, call: Callable[[], Any]) -> Any:
    """Runs the job, and sends its exception as an event, tagged with queue and job.

    The event has the function's name. Errors that the job logs are events, too. Arguments are not
    sent, except among a traceback's variables, by Sentry's own settings.
    """
    with sentry_sdk.isolation_scope() as scope:
        # Breadcrumbs from before the job, in this process or in the zygote, are not the job's.
        scope.clear_breadcrumbs()
        scope.set_new_propagation_context()
        scope.set_transaction_name(job.func_name, source="task")
        scope.set_tag("rqd.queue", job.origin)
        scope.set_tag("rqd.job", job.id)
        scope.set_context("rqd", {"attempt": job.attempt, "fence": job.fence})
        try:
            return call()
        except (RetryLater, JobStoppedException):
            raise  # a wish of the job's or of somebody's, and no error
        except BaseException as error:
            _capture(error)
            raise
        finally:
            flush_to_the_end(partial(sentry_sdk.flush, FLUSH_S))


def _capture(error: BaseException) -> None:
    with sentry_sdk.new_scope() as scope:
        scope.add_event_processor(_mark_unhandled)
        sentry_sdk.capture_exception(error)


def _mark_unhandled(event: Any, _hint: object) -> Any:
    """Says that nobody has handled the exception: alerts and lists in Sentry ask for that."""
    for exception in event["exception"]["values"]:
        exception["mechanism"]["handled"] = False
    event["exception"]["values"][-1]["mechanism"]["type"] = "rqd"
    return event
