"""`rqd.testing` and the fixtures for the tests of users."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rqd import Queue
from rqd.client.connection import backend_for
from rqd.exceptions import ConfigurationError
from rqd.testing import assert_idempotent, crash_points, run_jobs
from tests.client import work
from tests.client.ledger import Ledger


def test_queues_are_run_to_their_end_and_what_that_puts_on_them(
    rqd_queue: Queue, capsys: pytest.CaptureFixture[str]
) -> None:
    first = rqd_queue.enqueue(work.enqueue_more, 3)

    run_jobs("default", Queue("low"))

    assert first.is_finished
    assert (rqd_queue.count, Queue("low").count) == (0, 0)
    assert Queue("low").finished_job_registry.count == 3
    assert capsys.readouterr().err == ""


@pytest.mark.timeout(60)
def test_a_forked_run_takes_a_crash_of_its_job(rqd_queue: Queue) -> None:
    job = rqd_queue.enqueue(work.crash)
    after = rqd_queue.enqueue(work.multiply, 6, 7)

    run_jobs(rqd_queue, forked=True)

    assert (job.cause, after.return_value()) == (None, 42)
    job.refresh()
    assert job.cause == "crashed: SIGKILL"


def test_the_fixtures_queue_is_the_default_of_all_code_and_empty_for_each_test(
    rqd_queue: Queue, rqd_server: str
) -> None:
    assert Queue.all() == []
    assert Queue("mails").connection is rqd_queue.connection is backend_for()
    assert os.environ["RQD_URL"] == rqd_server
    assert os.environ["RQD_NAMESPACE"] == rqd_queue.connection.namespace


OF_A_MODULE = Queue("mails")  # as an application has it, imported before any test runs


def test_the_fixtures_server_is_that_of_queues_that_modules_have(rqd_queue: Queue) -> None:
    OF_A_MODULE.enqueue(work.multiply, 6, 7)

    assert Queue("mails").count == 1
    run_jobs(OF_A_MODULE)
    assert Queue("mails").is_empty()


def test_pytest_finds_the_fixtures_and_loads_nothing_of_rqd_for_other_tests(
    tmp_path: Path,
) -> None:
    (tmp_path / "test_own.py").write_text(
        "import sys\n"
        "def test_without():\n"
        "    loaded = {m for m in sys.modules if m.startswith('rqd.')}\n"
        "    assert loaded == {'rqd.pytest_plugin', 'rqd.testing', 'rqd.testing.pytest_plugin'}\n"
        "    assert 'redis' not in sys.modules\n"
        "def test_with(rqd_queue):\n"
        "    assert rqd_queue.is_empty()\n"
    )
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:valkey", "-p", "no:cacheprovider", "."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=40,
    )

    assert "2 passed" in ran.stdout, ran.stdout + ran.stderr


# -- crash points


def test_a_job_that_writes_twice_is_told_at_which_lines(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)

    failures = crash_points(ledger.pay_carelessly, 5, prepare=ledger.clear, state=ledger.read)

    start = ledger.first_line("pay_carelessly")
    assert [one.line and one.line - start for one in failures] == [2, 3, 0]
    first = failures[0]
    assert (first.expected, first.found) == (["5", "paid 5"], ["5", "5", "paid 5"])
    shown = str(first)
    assert shown.startswith(f"killed {first.file}:{first.line}, time 1: self.write(f")
    assert "found    ['5', '5', 'paid 5']" in shown


def test_a_job_that_looks_before_it_writes_has_no_such_line(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)

    assert crash_points(ledger.pay_carefully, 5, prepare=ledger.clear, state=ledger.read) == []
    assert_idempotent(ledger.pay_carefully, 5, prepare=ledger.clear, state=ledger.read)
    with pytest.raises(AssertionError, match=r"(?s)pay_once is not idempotent: .*\nkilled at its"):
        assert_idempotent(ledger.pay_once, 5, prepare=ledger.clear, state=ledger.read)


def test_a_second_run_that_fails_is_told(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)

    failures = crash_points(ledger.pay_once, 5, prepare=ledger.clear, state=ledger.read)

    assert [one.line and one.line - ledger.first_line("pay_once") for one in failures] == [4, 0]
    assert all("RuntimeError: paid already" in one.error for one in failures)
    assert str(failures[-1]).startswith("killed at its end")


def test_lines_of_what_a_job_calls_and_of_loops_are_tried_too(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)

    failures = crash_points(
        ledger.pay_all, [1, 2, 3], prepare=ledger.clear, state=ledger.read, also=[ledger.write]
    )

    write = ledger.first_line("write")
    tried = {(one.line, one.time) for one in failures if write <= one.line < write + 4}
    assert {time for _, time in tried} == {3, 6}  # a line with `with` is come to at its end, too
    coroutine = crash_points(ledger.pay_later, 5, prepare=ledger.clear, state=ledger.read)
    assert [one.line and one.line - ledger.first_line("pay_later") for one in coroutine] == [3, 0]


def test_what_tells_nothing_is_refused(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)

    with pytest.raises(ConfigurationError, match="let it return what the job changes"):
        crash_points(ledger.pay_carefully, 5, prepare=ledger.clear, state=lambda: 0)
    with pytest.raises(ConfigurationError, match="no lines of Python"):
        crash_points(len, [], prepare=ledger.clear, state=ledger.read)
    with pytest.raises(AssertionError, match=r"(?s)fails without being killed: .*no luck\Z"):
        crash_points(work.fail, "no luck", prepare=ledger.clear, state=ledger.read)
    with pytest.raises(AssertionError, match=r"had not ended after 0\.3 s"):
        crash_points(work.wait_for, 9, prepare=ledger.clear, state=ledger.read, limit_s=0.3)
    with pytest.raises(AssertionError, match="it crashed: SIGKILL"):
        crash_points(work.crash, prepare=ledger.clear, state=ledger.read)
