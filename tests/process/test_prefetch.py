"""A worker that has much to do holds a few jobs ahead: none of them waits long, none is lost."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

import pytest

from rqd import Queue
from rqd.job import Job, JobStatus
from tests import jobs
from tests.daemons import StartDaemon
from tests.process.test_stopping import release, started
from tests.waiting import eventually

FORKED, REUSED = (), ("--jobs-per-child", "1000")


def backlog(queue: Queue, history: Path, fifo: str) -> tuple[list[Job[Any]], Job[Any]]:
    """Many quick jobs, and amid them one that lasts until it is released."""
    quick = [queue.prepare_data(jobs.multiply, (number, 1)) for number in range(60)]
    lasting = queue.prepare_data(jobs.note_and_hold, (str(history), fifo))
    made = queue.enqueue_many([*quick[:40], lasting, *quick[40:]])
    return [*made[:40], *made[41:]], made[40]


def status(job: Job[Any]) -> JobStatus | None:
    return job.get_status(refresh=True)


def attempts(some: list[Job[Any]]) -> set[int]:
    for job in some:
        job.refresh()
    return {job.attempt for job in some}


@pytest.mark.parametrize("how", [FORKED, REUSED])
def test_no_job_waits_behind_a_long_one_while_another_worker_is_free(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path, fifo: str, how: tuple[str, ...]
) -> None:
    quick, lasting = backlog(queue, tmp_path / "history", fifo)
    start_daemon(*how, workers=2)

    eventually(lambda: {status(job) for job in quick} == {JobStatus.FINISHED})

    assert status(lasting) is JobStatus.STARTED
    release(fifo)
    eventually(lambda: status(lasting) is JobStatus.FINISHED)
    assert attempts([*quick, lasting]) == {1}


def test_a_pause_puts_back_what_was_held_ahead(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path, fifo: str
) -> None:
    quick, lasting = backlog(queue, tmp_path / "history", fifo)
    daemon = start_daemon(*REUSED, workers=1)
    started(lasting, tmp_path / "history")

    daemon.signal(signal.SIGTSTP)
    eventually(lambda: "paused" in daemon.log())
    release(fifo)

    eventually(lambda: status(lasting) is JobStatus.FINISHED)
    eventually(lambda: queue.get_job_ids() == [job.id for job in quick[40:]])
    daemon.signal(signal.SIGCONT)
    eventually(lambda: {status(job) for job in quick} == {JobStatus.FINISHED})
    assert attempts(quick) == {1}


@pytest.mark.parametrize("how", [FORKED, REUSED])
def test_a_stop_puts_back_what_was_held_ahead_in_its_order(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path, fifo: str, how: tuple[str, ...]
) -> None:
    quick, lasting = backlog(queue, tmp_path / "history", fifo)
    daemon = start_daemon(*how, workers=1)
    started(lasting, tmp_path / "history")

    daemon.signal(signal.SIGTERM)
    eventually(lambda: "stopping" in daemon.log())
    release(fifo)

    assert daemon.wait() == 0
    left = [job for job in quick if status(job) is not JobStatus.FINISHED]
    assert left == quick[40:]
    assert queue.get_job_ids() == [job.id for job in left]
    assert attempts(left) == {0}
    assert "job put back" not in daemon.log()


def test_what_goes_back_counts_as_none_of_the_jobs_before_the_end(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path, fifo: str
) -> None:
    quick, lasting = backlog(queue, tmp_path / "history", fifo)
    daemon = start_daemon(*REUSED, "--max-jobs", "50", workers=1)
    started(lasting, tmp_path / "history")
    eventually(lambda: queue.count == 20)

    release(fifo)

    assert daemon.wait() == 0
    assert [status(job) is JobStatus.FINISHED for job in quick] == [True] * 49 + [False] * 11


def test_no_job_is_held_while_the_application_can_not_be_imported(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path
) -> None:
    module = tmp_path / "shop.py"
    module.write_text("def sell(): pass\n")
    daemon = start_daemon(*REUSED, "--preload", "shop", workers=1, cwd=tmp_path)
    module.write_text("raise ImportError\n")
    queue.enqueue_many([queue.prepare_data("shop.sell") for _ in range(3000)])
    eventually(lambda: queue.finished_job_registry.count > 100)

    daemon.zygote().kill()
    eventually(lambda: "can't be imported" in daemon.log())

    eventually(lambda: queue.started_job_registry.count == 0)
    assert queue.count + queue.finished_job_registry.count == 3000


@pytest.mark.parametrize("how", [FORKED, REUSED])
def test_what_waits_behind_a_long_job_goes_to_a_free_worker_and_tells_which(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path, fifo: str, how: tuple[str, ...]
) -> None:
    quick, lasting = backlog(queue, tmp_path / "history", fifo)
    daemon = start_daemon(*how, workers=3)

    eventually(lambda: {status(job) for job in quick} == {JobStatus.FINISHED})
    # Its process's title names the worker: "rqd: worker 2 tests.jobs.note_and_hold ..".
    (at_work,) = [one for one in daemon.titles() if "note_and_hold" in one]
    number = at_work.split()[2]
    eventually(lambda: number_of_worker(lasting) == number)

    release(fifo)
    eventually(lambda: status(lasting) is JobStatus.FINISHED)
    eventually(lambda: daemon.log().count("job finished") == len(quick) + 1)
    for job in [*quick, lasting]:
        told = rf"job finished job_id={job.id} .* worker={number_of_worker(job)} "
        assert re.search(told, daemon.log())


def test_what_a_worker_holds_goes_to_one_that_has_nothing_and_not_by_way_of_redis(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path, fifo: str
) -> None:
    daemon = start_daemon(*REUSED, "--log-level", "debug", workers=3)

    def moved() -> list[str]:
        quick, lasting = backlog(queue, tmp_path / "history", fifo)
        eventually(lambda: {status(job) for job in quick} == {JobStatus.FINISHED})
        release(fifo)
        eventually(lambda: status(lasting) is JobStatus.FINISHED)
        log = daemon.log()
        claimed = dict(re.findall(r"job claimed job_id=(\S+) .* worker=(\d+)", log))
        ended = dict(re.findall(r"job finished job_id=(\S+) .* worker=(\d+)", log))
        back = re.findall(r"goes back, it had not begun job_id=(\S+)", log)
        return [one for one in ended.keys() - {*back} if ended[one] != claimed[one]]

    eventually(moved, 20.0)


def number_of_worker(job: Job[Any]) -> str:
    job.refresh()
    assert job.worker_name is not None
    master, _, number = job.worker_name.rpartition(":")
    assert master
    return number
