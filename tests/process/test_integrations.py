"""An error tracker and a tracer, the real ones, around real jobs."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rqd import Callback, Queue
from rqd.job import Job
from rqd.model.terms import read_terms
from tests import jobs
from tests.daemons import StartDaemon
from tests.waiting import eventually

WAIT_S = 15.0


class Tracker:
    """A server that keeps the envelopes it is sent."""

    def __init__(self, port: int) -> None:
        self.dsn = f"http://key@127.0.0.1:{port}/1"
        self.events: list[dict[str, Any]] = []


@pytest.fixture
def tracker() -> Iterator[Tracker]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            parts = [json.loads(line) for line in body.splitlines()]
            told.events += [part for part in parts if "exception" in part]
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        told = Tracker(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield told
        server.shutdown()
        thread.join()


def test_sentry_has_an_event_of_each_error_before_the_child_leaves(
    start_daemon: StartDaemon, queue: Queue, tracker: Tracker
) -> None:
    start_daemon("--middleware", "rqd.integrations.sentry.report", env={"SENTRY_DSN": tracker.dsn})
    good = queue.enqueue(jobs.multiply, 2, 3)
    result = good.latest_result(timeout=WAIT_S)
    assert result is not None
    assert result.return_value == 6
    bad = queue.enqueue(jobs.fail, "no stock")
    slow = queue.enqueue(jobs.run_for_ever, job_timeout=0.2)
    for job in (bad, slow):
        assert job.latest_result(timeout=WAIT_S)
    first, second = tracker.events  # they are there: nothing is waited for
    assert first["exception"]["values"][-1]["value"] == "no stock"
    assert first["transaction"] == "tests.jobs.fail"
    assert first["tags"]["rqd.job"] == bad.id
    assert first["tags"]["rqd.queue"] == "default"
    assert first["exception"]["values"][-1]["mechanism"]["handled"] is False
    assert second["exception"]["values"][-1]["type"] == "JobTimeoutException"


def test_sentry_events_of_jobs_that_share_a_process_have_nothing_else_in_common(
    start_daemon: StartDaemon, queue: Queue, tracker: Tracker
) -> None:
    start_daemon(
        *("--middleware", "rqd.integrations.sentry.report"),
        *("--workers", "1", "--jobs-per-child", "9"),
        env={"SENTRY_DSN": tracker.dsn},
    )
    # What a callback is called with is asked of Redis, which sentry-sdk notes as a breadcrumb.
    first = queue.enqueue(jobs.fail, on_failure=Callback("tests.middleware.fail_to_report"))
    assert first.wait(WAIT_S).callback_ids
    (callback_id,) = first.callback_ids
    for job in (Job.fetch(callback_id, queue.connection), queue.enqueue(jobs.fail)):
        assert job.latest_result(timeout=WAIT_S)
    events = tracker.events
    assert len(events) == 3
    assert len({event["contexts"]["trace"]["trace_id"] for event in events}) == 3
    assert events[-1].get("breadcrumbs", {}).get("values", []) == []


def start_traced(start_daemon: StartDaemon, spans: Path, *options: str, hangs: str = "") -> None:
    """A daemon whose jobs write their spans there; `hangs`: and then do not return from that."""
    env = {"RQD_TEST_SPANS": str(spans), "RQD_TEST_HANGS": hangs, "PYTHONPATH": ""}
    traced = ("--preload", "tests.traced", "--middleware", "rqd.integrations.otel.span")
    start_daemon(*traced, *options, env=env)


def test_a_jobs_span_has_the_span_of_its_enqueue_as_parent(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path
) -> None:
    from opentelemetry.sdk.trace import TracerProvider

    path = tmp_path / "spans"
    start_traced(start_daemon, path)
    tracer = TracerProvider().get_tracer("tests")
    with tracer.start_as_current_span("request") as request:
        inside = queue.enqueue(jobs.multiply, 2, 3)
        failing = queue.enqueue(jobs.fail)
    outside = queue.enqueue(jobs.multiply, 2, 3)
    for job in (inside, failing, outside):
        assert job.latest_result(timeout=WAIT_S)
    spans = {span["attributes"]["messaging.message.id"]: span for span in read_spans(path)}
    for job in (inside, failing):
        span = spans[job.id]
        assert int(span["context"]["trace_id"], 16) == request.get_span_context().trace_id
        assert int(span["parent_id"], 16) == request.get_span_context().span_id
    assert spans[failing.id]["status"]["status_code"] == "ERROR"
    assert spans[inside.id]["name"] == "tests.jobs.multiply"
    assert spans[outside.id]["parent_id"] is None
    assert read_terms(outside._record.terms) == {}


def test_the_baggage_of_an_enqueue_is_there_in_its_job(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path
) -> None:
    from opentelemetry import baggage, context
    from opentelemetry.sdk.trace import TracerProvider

    start_traced(start_daemon, tmp_path / "spans", "--workers", "1", "--jobs-per-child", "9")
    token = context.attach(baggage.set_baggage("tenant", "acme"))
    with TracerProvider().get_tracer("tests").start_as_current_span("request"):
        inside = queue.enqueue("opentelemetry.baggage.get_baggage", "tenant")
    context.detach(token)
    outside = queue.enqueue("opentelemetry.baggage.get_baggage", "tenant")
    told = [job.latest_result(timeout=WAIT_S) for job in (inside, outside)]
    assert [result and result.return_value for result in told] == ["acme", None]


def test_a_wish_to_run_again_is_no_error_of_a_span(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path
) -> None:
    path = tmp_path / "spans"
    start_traced(start_daemon, path)
    queue.enqueue("tests.traced.ask_again_later")
    (span,) = eventually(lambda: read_spans(path), WAIT_S)
    assert span["status"]["status_code"] == "UNSET"
    assert span["events"] == []


@pytest.mark.parametrize("jobs_per_child", [1, 9])
def test_a_collector_that_hangs_holds_no_job_for_long(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path, jobs_per_child: int
) -> None:
    options = ("--workers", "1", "--jobs-per-child", str(jobs_per_child))
    start_traced(start_daemon, tmp_path / "spans", *options, hangs="1")
    told = [queue.enqueue(jobs.multiply, 2, 3, job_timeout=limit) for limit in (600, 1)]
    results = [job.latest_result(timeout=WAIT_S) for job in told]
    assert [result and result.return_value for result in results] == [6, 6]


def test_a_job_that_leaves_no_room_for_a_thread_succeeds_and_its_span_is_exported(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path
) -> None:
    path = tmp_path / "spans"
    start_traced(start_daemon, path)
    job = queue.enqueue("tests.traced.leave_no_room_for_threads")
    result = job.latest_result(timeout=WAIT_S)
    assert (result and result.cause, job.get_status()) == (None, "finished")
    (span,) = read_spans(path)
    assert span["name"] == "tests.traced.leave_no_room_for_threads"


def read_spans(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]
