"""RQ's commands under RQ's names: each does what RQ's does, or says in one line what to write."""

from pathlib import Path

import pytest

from rqd import Job, Queue
from rqd.client.connection import backend_for
from tests.cli.running import rqd
from tests.client import work
from tests.client.performing import perform

EX_USAGE = 64


@pytest.fixture
def low(redis_url: str) -> Queue:
    return Queue("low", connection=backend_for(redis_url))


@pytest.mark.parametrize("command", [("worker",), ("worker-pool", "-n", "2")])
def test_rqs_workers_run_the_jobs_of_their_queues(
    low: Queue, command: tuple[str, ...], redis_url: str, tmp_path: Path
) -> None:
    job, pid = low.enqueue(work.multiply, 6, y=7), tmp_path / "pid"
    ran = rqd(
        *(*command, "low", "-b", "--with-scheduler", "-S", "json", "--dequeue-strategy"),
        *("random", "--job-class", "rqd.job.Job", "--worker-class", "rqd.Worker"),
        *("--log-format", "%(message)s", "--max-idle-time", "60", "--max-jobs", "9"),
        *("--quiet", "-P", ".", "--exception-handler", "tests.client.work.echo"),
        *("--pid", str(pid)),
        url=redis_url,
    )
    assert ran.status == 0, ran.err
    assert job.return_value() == 42
    assert int(pid.read_text()) > 0


def test_a_worker_has_its_name_and_serves_the_default_queue(redis_url: str) -> None:
    job = Queue(connection=backend_for(redis_url)).enqueue(work.multiply, 1)
    ran = rqd("worker", "-n", "mine", "-b", "-v", url=redis_url)
    assert (ran.status, job.is_finished) == (0, True)
    job.refresh()
    assert job.worker_name == "mine:1"


def test_failed_jobs_are_requeued_by_id_and_by_queue(low: Queue, redis_url: str) -> None:
    jobs = [low.enqueue(work.fail, "no", job_id=name) for name in "abc"]
    perform(low.connection, "low")
    assert rqd("requeue", "--queue", "low", "-S", "json", "a", url=redis_url).status == 0
    assert [job.is_queued for job in jobs] == [True, False, False]
    assert rqd("requeue", "--queue", "low", "--all", url=redis_url).status == 0
    assert all(job.is_queued for job in jobs)


def test_queues_are_emptied(low: Queue, redis_url: str) -> None:
    low.enqueue(work.multiply, 1, job_id="a")
    assert rqd("empty", url=redis_url).out == "Nothing to do\n"
    assert rqd("empty", "low", url=redis_url).out == "low: 1 jobs deleted\n"
    low.enqueue(work.multiply, 1, job_id="a")
    assert rqd("empty", "--all", url=redis_url).out == "low: 1 jobs deleted\n"
    assert not Job.exists("a", backend_for(redis_url))


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        (("worker", "m:2"), "rqd workers m:2 shows a worker"),
        (("worker", "--json"), "rqd workers --json lists the workers"),
        (("worker", "-c", "settings"), "write --config FILE, in TOML"),
        (("worker", "-d"), "leave it out: a failure is recorded"),
        (("worker", "--worker-class", "app.Mine"), "app.Mine: write --middleware"),
        (("worker-pool", "--job-class", "app.Job"), "app.Job: write functions that take a job"),
        (("worker", "--dequeue-strategy", "no"), "write default, round_robin, random"),
        (("worker", "-q", "-v"), "write either --verbose or --quiet"),
        (("worker", "--pid", "/proc/no/pid"), "--pid /proc/no/pid can't be written: No such file"),
        (("requeue",), "write ids, or --all with --queue NAME"),
    ],
)
def test_what_rqd_does_otherwise_is_one_line(typed: tuple[str, ...], why: str) -> None:
    ran = rqd(*typed)
    assert ran.status == EX_USAGE
    assert why in ran.err
    assert ran.err.count("\n") == 1


def test_rqs_file_of_cron_entries_is_for_python(redis_url: str) -> None:
    ran = rqd("cron", "config.py", url=redis_url)
    assert ran.status == EX_USAGE
    assert "run python config.py, once after each change" in ran.err
