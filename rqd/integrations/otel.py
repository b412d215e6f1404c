"""OpenTelemetry's context, from an enqueue to its job: the extra `rqd[otel]`.

An enqueue inside a span carries the context by itself, in the job's terms; under
`rqd start --middleware rqd.integrations.otel.span` the job's span has that parent.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from opentelemetry import context, propagate, trace

from rqd import __version__
from rqd.integrations import FLUSH_S, flush_to_the_end
from rqd.model.around import RunningJob


def carried() -> dict[str, str]:
    """What the propagators that are set up make of this code's context; nothing outside a span."""
    carrier: dict[str, str] = {}
    # Each enqueue of a program that has OpenTelemetry asks; most often there is nothing.
    if context.get_current():
        propagate.inject(carrier)
    return carrier


def span(job: RunningJob, call: Callable[[], Any]) -> Any:
    """Runs the job in a span of its own, which says how it failed if it did, and exports that."""
    carrier = job.terms.get("trace")
    attributes: dict[str, str | int] = {
        "messaging.system": "rqd",
        "messaging.operation.type": "process",
        "messaging.destination.name": job.origin,
        "messaging.message.id": job.id or "",
        "rqd.attempt": job.attempt,
    }
    try:
        with trace.get_tracer("rqd", __version__).start_as_current_span(
            job.func_name,
            context=propagate.extract(carrier if isinstance(carrier, dict) else {}),
            kind=trace.SpanKind.CONSUMER,
            attributes=attributes,
        ):
            return call()
    finally:
        # The API alone has no provider that could be flushed.
        flush = getattr(trace.get_tracer_provider(), "force_flush", None)
        if flush is not None:
            flush_to_the_end(partial(flush, int(FLUSH_S * 1000)))
