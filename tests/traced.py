"""An application with OpenTelemetry: its spans go to the file of RQD_TEST_SPANS, a line each."""

from __future__ import annotations

import os

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter


def _one_line(span: ReadableSpan) -> str:
    return str(span.to_json(indent=None)) + "\n"


provider = TracerProvider()
provider.add_span_processor(
    BatchSpanProcessor(
        ConsoleSpanExporter(
            out=open(os.environ["RQD_TEST_SPANS"], "a"),  # noqa: SIM115 - for the process' life
            formatter=_one_line,
        )
    )
)
trace.set_tracer_provider(provider)
