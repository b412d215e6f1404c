"""An application with OpenTelemetry: its spans go to the file of RQD_TEST_SPANS, a line each."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SpanExporter,
    SpanExportResult,
)

from rqd.exceptions import RetryLater


def _one_line(span: ReadableSpan) -> str:
    return str(span.to_json(indent=None)) + "\n"


class Hanging(SpanExporter):
    """To a collector that takes connections and never answers."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # noqa: ARG002 - its interface
        threading.Event().wait()
        return SpanExportResult.FAILURE


def ask_again_later() -> None:
    raise RetryLater(3600)


def leave_no_room_for_threads() -> None:
    """As with --max-pids, or no memory left: none can be started any more."""
    threading.stack_size(1 << 46)


provider = TracerProvider()
file = ConsoleSpanExporter(
    out=open(os.environ["RQD_TEST_SPANS"], "a"),  # noqa: SIM115 - for the process' life
    formatter=_one_line,
)
exporter: SpanExporter = Hanging() if os.environ.get("RQD_TEST_HANGS") else file
provider.add_span_processor(BatchSpanProcessor(exporter))
trace.set_tracer_provider(provider)
