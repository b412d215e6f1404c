"""Callbacks and webhooks of real jobs, in processes of their own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rqd import Callback, Queue, Retry, Webhook
from rqd.client.connection import Backend
from rqd.command import send_stop_job_command
from rqd.job import Job
from rqd.model.signing import Keyring
from tests import callbacks, jobs
from tests.daemons import StartDaemon
from tests.waiting import eventually

KEY = "a-key-of-enough-characters"
WAIT_S = 15.0
PRELOADED = ("--preload", "tests.callbacks,rqd.callbacks")


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "history"
    path.touch()
    monkeypatch.setenv("RQD_TEST_HISTORY", str(path))
    return path


def callback_of(job: Job[Any]) -> Job[Any]:
    """The one callback of a job, when it has ended too."""

    def made() -> list[str]:
        job.refresh()
        return job.callback_ids

    (job_id,) = eventually(made, WAIT_S)
    found = Job.fetch(job_id, job._backend)
    assert found.latest_result(timeout=WAIT_S) is not None
    found.refresh()
    return found


def test_every_kind_of_end_has_its_callback_where_all_is_signed(
    start_daemon: StartDaemon, there: Backend, history: Path
) -> None:
    queue = Queue(connection=Backend(there.store, there.url, Keyring([KEY])))
    start_daemon(*PRELOADED, "--require-signed", env={"RQD_SIGNING_KEY": KEY})
    both: dict[str, Any] = {"on_success": callbacks.on_success, "on_failure": callbacks.on_failure}
    ends: dict[Job[Any], str] = {
        queue.enqueue(jobs.multiply, 3, 4, **both): "success {} finished 12 True",
        queue.enqueue(jobs.fail, "no stock", **both): "failure {} failed ValueError no stock",
        queue.enqueue(jobs.signal_self, int(signal.SIGSEGV), **both): (
            "failure {} failed JobFailedError crashed: SIGSEGV"
        ),
        queue.enqueue(jobs.run_for_ever, job_timeout=0.2, **both): (
            "failure {} failed JobTimeoutException timed out after 0.2 s"
        ),
    }
    for job in ends:
        assert callback_of(job).is_finished, callback_of(job).cause
    told = history.read_text().splitlines()
    for job, expected in ends.items():
        assert expected.format(job.id) in told
    assert len(told) == len(ends)


def test_a_callback_that_dies_or_hangs_is_seen_and_changes_nothing(
    start_daemon: StartDaemon, queue: Queue, history: Path
) -> None:
    start_daemon(*PRELOADED, workers=2)
    killed = queue.enqueue(jobs.multiply, 3, 4, on_success=callbacks.die)
    slow = queue.enqueue(jobs.multiply, 3, 5, on_success=Callback(callbacks.hang, timeout=0.5))
    assert callback_of(killed).cause == "crashed: SIGKILL"
    assert callback_of(slow).cause == "timed out after 0.5 s"
    assert (killed.return_value(), slow.return_value()) == (12, 15)
    assert killed.is_finished
    assert sorted(history.read_text().split()) == ["dies", "hangs"]


def test_a_stopped_job_has_its_callback_and_no_exception_handler_hears_of_it(
    start_daemon: StartDaemon, queue: Queue, history: Path, fifo: str
) -> None:
    start_daemon(*PRELOADED, "--exception-handler", "tests.middleware.report")
    job = queue.enqueue(
        jobs.hold, fifo, on_stopped=callbacks.on_stopped, on_failure=callbacks.on_failure
    )
    eventually(lambda: job.is_started, WAIT_S)
    send_stop_job_command(queue.connection, job.id, by="the test")
    assert callback_of(job).is_finished
    assert history.read_text() == f"stopped {job.id} stopped stopped by the test\n"


class Endpoint:
    """A server that answers as it is told, and keeps what it is sent."""

    def __init__(self, port: int, *answers: int) -> None:
        self.url = f"http://127.0.0.1:{port}/hook?key=in-the-query"
        self.answers = [*answers]
        self.heard: list[tuple[str, str, dict[str, Any]]] = []


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            told.heard.append((self.path, self.headers["Authorization"], json.loads(body)))
            self.send_response(told.answers.pop(0))
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        told = Endpoint(server.server_address[1], 500, 302, 204)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield told
        server.shutdown()
        thread.join()


def test_a_webhook_is_sent_until_it_is_taken_and_shows_no_secret(
    start_daemon: StartDaemon, queue: Queue, endpoint: Endpoint
) -> None:
    daemon = start_daemon(*PRELOADED)
    webhook = Webhook(
        endpoint.url, "failed", method="POST", headers={"Authorization": "in-the-header"},
        retry=Retry(max=3, interval=0.1),
    )  # fmt: skip
    job = queue.enqueue(jobs.fail, "no stock", webhooks=[webhook])
    sent = callback_of(job)
    eventually(lambda: sent.is_finished, WAIT_S, lambda: str(sent.results()))
    assert [result.cause for result in reversed(sent.results())] == [
        "raised urllib.error.HTTPError: HTTP Error 500: Internal Server Error",
        "raised urllib.error.HTTPError: HTTP Error 302: Found",
        None,
    ]
    assert sent.return_value() == 204
    path, authorization, told = endpoint.heard[-1]
    assert (path, authorization) == ("/hook?key=in-the-query", "in-the-header")
    assert (told["job_id"], told["status"], told["cause"]) == (
        job.id, "failed", "raised ValueError: no stock",
    )  # fmt: skip
    assert len(endpoint.heard) == 3
    shown = daemon.log() + "".join(daemon.titles())
    for job_id in (job.id, sent.id):
        command = [sys.executable, "-m", "rqd", "job", "--url", queue.connection.url, job_id]
        for extra in ([], ["--json"]):
            shown += subprocess.run([*command, *extra], capture_output=True, text=True).stdout
    assert f"{sent.id}  webhook: POST http://127.0.0.1" in shown
    assert "in-the" not in shown
