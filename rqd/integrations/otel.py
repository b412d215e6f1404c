"""OpenTelemetry's context, from an enqueue to its job: the extra `rqd[otel]`.

An enqueue inside a span carries the context by itself, in the job's terms; under
`rqd start --middleware rqd.integrations.otel.span` the job's span has that parent.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any

from opentelemetry import _logs, context, propagate, trace

from rqd import __version__
from rqd.integrations import FLUSH_S, flush_to_the_end
from rqd.model.errors import RetryLater
from rqd.model.middleware import RunningJob


def carried() -> dict[str, str]:
    """Returns the current context as the configured propagators write it; empty outside a span."""
    carrier: dict[str, str] = {}
    # Each enqueue of a program with OpenTelemetry comes here; most often there is no context.
    if context.get_current():
        propagate.inject(carrier)
    return carrier


def span(job: RunningJob, call: Callable[[], Any]) -> Any:
    """Runs the job in a span of its own, which records its failure, and exports the span.

    The job gets the enqueue's baggage, too. Its logs by OpenTelemetry are exported likewise. Both
    exports together last two seconds at most, or a little more in a job that timed out.
    """
    carrier = job.terms.get("trace")
    carried_on = propagate.extract(carrier if isinstance(carrier, dict) else {})
    token = context.attach(carried_on)
    try:
        return _run_in_span(job, call)
    finally:
        context.detach(token)
        flush_to_the_end(_flush)


def _run_in_span(job: RunningJob, call: Callable[[], Any]) -> Any:
    attributes: dict[str, str | int] = {
        "messaging.system": "rqd",
        "messaging.operation.type": "process",
        "messaging.destination.name": job.origin,
        "messaging.message.id": job.id or "",
        "rqd.attempt": job.attempt,
    }
    with trace.get_tracer("rqd", __version__).start_as_current_span(
        job.func_name, kind=trace.SpanKind.CONSUMER, attributes=attributes
    ):
        try:
            return call()
        except RetryLater as error:
            wish = error  # no error; passing through the span it would be recorded as an error
    raise wish


def _flush() -> None:
    # In a thread, as `force_flush` heeds no timeout: with a collector that is away, exporters try
    # for ten seconds and more, and meanwhile the job would still run.
    thread = Thread(target=_flush_providers, daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no room for a thread, under --max-pids, say: the job has not failed
        _flush_providers()
    else:
        thread.join(FLUSH_S)


def _flush_providers() -> None:
    for provider in (trace.get_tracer_provider(), _logs.get_logger_provider()):
        # The providers of the API alone have no `force_flush`.
        flush = getattr(provider, "force_flush", None)
        if flush is not None:
            flush()
