"""What a job prints: kept with it, and followed while it runs."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from rqd import Job, Queue, Retry
from rqd.client.connection import Backend
from tests import jobs
from tests.daemons import ROOT, StartDaemon
from tests.processes import bound_to_pytest
from tests.waiting import eventually

WAIT_S = 10.0
KEPT_BYTES = 64 * 1024


class Reader:
    """Follows a job's output in a thread."""

    def __init__(self, job: Job[Any]) -> None:
        self.text = ""
        self._job = Job.fetch(job.id, job._backend)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        for text in self._job.follow_output():
            self.text += text

    def has_ended(self) -> bool:
        self._thread.join(0)
        return not self._thread.is_alive()


def keys_of_output(there: Backend) -> list[bytes]:
    redis: Any = there.store.redis
    return list(redis.keys("*:output"))


def test_every_attempt_keeps_the_end_of_what_it_printed(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    start_daemon()
    good = queue.enqueue(jobs.say, "to stdout", "to stderr").wait(WAIT_S)
    killed = queue.enqueue(jobs.say_and_die, "last words", retry=Retry(1)).wait(WAIT_S)
    flood = queue.enqueue(jobs.flood, 1_000_000).wait(WAIT_S)
    silent = queue.enqueue(jobs.multiply, 2, 3).wait(WAIT_S)

    assert good.output == "to stdout\nto stderr\n"
    assert [result.output for result in killed.results()] == ["last words\n"] * 2
    assert flood.output == "x" * KEPT_BYTES
    (result,) = flood.results()
    assert result.details["output_bytes"] == 1_000_000
    (result,) = silent.results()
    assert silent.output == ""
    assert not {"output", "output_bytes"} & result.record.fields.keys()


def test_a_follower_sees_lines_as_they_come_and_ends_with_the_job(
    start_daemon: StartDaemon, queue: Queue, fifo: str, there: Backend
) -> None:
    start_daemon()
    job = queue.enqueue(jobs.say_as_told, fifo)
    Path(fifo).write_text("before anybody follows")
    eventually(lambda: job.is_started)
    assert keys_of_output(there) == []

    first = Reader(job)
    eventually(lambda: first.text == "before anybody follows\n")
    Path(fifo).write_text("ä line")
    eventually(lambda: first.text.endswith("ä line\n"))
    second = Reader(job)
    eventually(lambda: second.text == first.text)
    Path(fifo).write_text("the last line\nend")
    job.wait(WAIT_S)
    eventually(lambda: first.has_ended() and second.has_ended())
    assert first.text == second.text == "before anybody follows\nä line\nthe last line\n"
    assert first.text == job.output


def test_a_follower_stays_over_the_attempts(start_daemon: StartDaemon, queue: Queue) -> None:
    job = queue.enqueue(jobs.say_and_die, "words", retry=Retry(1))
    reader = Reader(job)
    start_daemon()

    eventually(reader.has_ended, WAIT_S)
    assert reader.text == "words\n[attempt 2]\nwords\n"


def test_a_follower_is_told_what_it_missed(start_daemon: StartDaemon, queue: Queue) -> None:
    start_daemon()
    job = queue.enqueue(jobs.flood, 3 * KEPT_BYTES + 7)
    reader = Reader(job)
    job.wait(WAIT_S)

    eventually(reader.has_ended)
    shown = reader.text.count("x")
    # Not only at the start of a line: what is printed here has none.
    told = re.findall(r"\[([\d,]+) bytes are not kept\]", reader.text)
    missed = sum(int(number.replace(",", "")) for number in told)
    assert shown >= KEPT_BYTES
    assert shown + missed == 3 * KEPT_BYTES + 7


def test_what_a_job_leaves_behind_and_never_stops_printing_holds_nobody_up(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    start_daemon()

    assert queue.enqueue(jobs.leave_a_chatterbox).wait(WAIT_S).return_value() == "done"
    assert queue.enqueue(jobs.multiply, 2, 3).wait(WAIT_S).return_value() == 6


def logs(there: Backend, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "rqd", "logs", "--url", there.url, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=bound_to_pytest(30),
    )


@pytest.mark.parametrize("options", [[], ["-f"]], ids=["so far", "followed"])
def test_rqd_logs_prints_a_running_jobs_output(
    start_daemon: StartDaemon, queue: Queue, there: Backend, fifo: str, options: list[str]
) -> None:
    start_daemon()
    job = queue.enqueue(jobs.say_as_told, fifo)
    Path(fifo).write_text("\x1b[31mred\nand more")
    with logs(there, *options, job.id) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "\\x1b[31mred\n"
        if not options:
            assert running.stdout.read() == "and more\n"
        Path(fifo).write_text("end")
        if options:
            assert running.stdout.read() == "and more\n"
        assert running.wait(WAIT_S) == 0

    job.wait(WAIT_S)
    with logs(there, *options, job.id) as afterwards:
        assert afterwards.communicate()[0] == "\\x1b[31mred\nand more\n"
