"""Retries by cause and exception, and those a job asks for, through a real daemon with keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rqd import Queue, Repeat, Retry
from rqd.client.connection import Backend, use_redis
from rqd.job import Job
from tests import jobs
from tests.daemons import StartDaemon

KEY = "a-signing-key-of-the-tests"
WAIT_S = 10.0


@pytest.fixture
def queue(there: Backend, start_daemon: StartDaemon) -> Queue:
    """A queue whose jobs are signed, and a daemon that runs no others."""
    use_redis(there.url, signing_keys=[KEY])
    start_daemon("--require-signed", env={"RQD_SIGNING_KEY": KEY}, workers=2)
    return Queue()


def end(job: Job[Any]) -> list[str]:
    """How its attempts ended, first to last, and its cause."""
    job.latest_result(timeout=WAIT_S)
    job.refresh()
    return [*(result.type for result in reversed(job.results())), job.cause or ""]


def test_a_job_is_retried_as_its_cause_and_exception_allow(queue: Queue) -> None:
    never = queue.enqueue(jobs.fail, retry=Retry(3, never=[ArithmeticError, Exception]))
    other = queue.enqueue(jobs.fail, retry=Retry(3, only=["LookupError"]))
    once = queue.enqueue(jobs.leave, 3, retry=Retry(3, on={"crashed": 1}))
    late = queue.enqueue(jobs.run_for_ever, job_timeout=0.1, retry=Retry(3, on={"timeout": 0}))
    only = queue.enqueue(jobs.fail, retry=Retry(1, only=[Exception], on={"crashed": 0}))

    assert end(never) == ["failed", "raised ValueError: no such luck"]
    assert end(other) == ["failed", "raised ValueError: no such luck"]
    assert end(once) == ["retried", "failed", "crashed: exit status 3"]
    assert end(late) == ["failed", "timed out after 0.1 s"]
    assert end(only) == ["retried", "failed", "raised ValueError: no such luck"]
    assert (once.retries_left, only.retries_left) == (2, 0)


@pytest.mark.parametrize("how", ["raise", "return"])
def test_a_job_that_asks_is_run_again_and_keeps_its_retries(
    queue: Queue, tmp_path: Path, how: str
) -> None:
    job = queue.enqueue(jobs.ask_until, str(tmp_path / "seen"), 3, how, retry=Retry(2))
    tired = queue.enqueue(jobs.ask_for_ever, 2, retry=Retry(2))

    assert end(job) == ["retried", "retried", "successful", ""]
    assert (job.return_value(), job.retries_left, job.attempt) == ("after 3", 2, 3)
    cause = "asked to run again, 2 times at most: never there"
    assert end(tired) == ["retried", "retried", "failed", cause]


def test_a_repeated_job_keeps_each_result_and_has_all_its_retries_for_each_run(
    queue: Queue, tmp_path: Path
) -> None:
    seen = str(tmp_path / "seen")
    job = queue.enqueue(
        jobs.fail_every_second, seen, retry=Retry(1), repeat=Repeat(2, [0, 0.1]), result_ttl=60
    )
    spoilt = queue.enqueue(jobs.fail_until, str(tmp_path / "spoilt"), 3, repeat=Repeat(9))

    assert end(job) == ["retried", "successful"] * 3 + [""]
    assert [result.return_value for result in job.results()[::2]] == [6, 4, 2]
    assert (job.repeats_left, job.retries_left, job.attempt) == (0, 0, 6)
    assert end(spoilt) == ["failed", "raised ValueError: attempt 1"]
    assert spoilt.repeats_left == 9
