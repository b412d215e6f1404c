"""Jobs that use more memory or cpu time than they may are ended, with both numbers as the cause."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import psutil

from rqd import Queue, Retry
from rqd.job import Job
from rqd.results import Result
from tests import hungry_jobs
from tests.daemons import StartDaemon
from tests.waiting import eventually

WAIT_S = 20.0
OUT_OF_MEMORY = re.compile(r"out of memory: (\d+) MiB of 64 MiB")


def ended(job: Job[Any]) -> Result:
    result = job.latest_result(timeout=WAIT_S)
    assert result is not None
    return result


def test_a_job_above_its_memory_fails_with_both_numbers_and_its_neighbours_do_not_notice(
    start_daemon: StartDaemon, queue: Queue, fifo: str
) -> None:
    start_daemon("--max-memory", "64M", workers=3)
    neighbour = queue.enqueue(hungry_jobs.take_and_hold, 40, fifo)
    hungry: dict[Any, tuple[Any, ...]] = {
        hungry_jobs.take_and_hold: (100, fifo),
        hungry_jobs.take_in_subprocess: (100,),
        hungry_jobs.leave_orphan_that_takes: (100,),
        hungry_jobs.take_fork_and_take: (45, 40),
    }
    made = [queue.enqueue(function, *args) for function, args in hungry.items()]
    more = queue.enqueue(hungry_jobs.take_and_return, 80, max_memory="256M")
    for job in made:
        result = ended(job)
        found = OUT_OF_MEMORY.fullmatch(result.cause or "")
        assert found, (job.func_name, result.cause)
        assert 64 < int(found[1]) < 140
        assert result.details["peak_memory_bytes"] > 64 * hungry_jobs.MEBIBYTE
        assert result.details["memory_limit_bytes"] == 64 * hungry_jobs.MEBIBYTE
    assert ended(more).type == "successful"

    again = Retry(max=3, on={"oom": 1, "crashed": 3})
    retried = queue.enqueue(hungry_jobs.take_and_hold, 30, fifo, max_memory="20M", retry=again)
    eventually(lambda: retried.get_status() == "failed", WAIT_S)
    assert [str(result.type) for result in retried.results()] == ["failed", "retried"]

    Path(fifo).write_text("")
    assert ended(neighbour).return_value == 40 * hungry_jobs.MEBIBYTE


def test_memory_that_is_shared_with_the_zygote_counts_for_no_job(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    start_daemon(
        *("--max-memory", "30M", "--preload", "tests.hungry_jobs"),
        env={"RQD_TEST_SHARED_MEBIBYTES": "120"},
    )
    result = ended(queue.enqueue(hungry_jobs.read_all_shared))

    assert result.type == "successful", result.cause
    assert result.details["peak_memory_bytes"] < 30 * hungry_jobs.MEBIBYTE


def test_a_job_above_its_own_cpu_time_is_told_so_and_its_subprocesses_count(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    start_daemon("--max-cpu", "0.3", "--jobs-per-child", "10")
    # Of one process, each has all of it.
    made = [queue.enqueue(hungry_jobs.burn_for, 0.2) for _ in range(2)]
    assert len({ended(job).return_value for job in made}) == 1

    told = ended(queue.enqueue(hungry_jobs.burn))
    assert told.cause == "timed out after 0.3 s of cpu time"
    assert "in burn" in (told.exc_string or "")
    beside = ended(queue.enqueue(hungry_jobs.burn_in_subprocess))
    assert beside.cause == "timed out after 0.3 s of cpu time"
    assert ended(queue.enqueue(hungry_jobs.burn_for, 0.5, max_cpu=-1)).type == "successful"


def test_jobs_have_fewer_files_give_way_and_die_before_the_master(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    daemon = start_daemon("--max-files", "100", "--nice", "3")
    found = ended(queue.enqueue(hungry_jobs.surroundings)).return_value

    own = psutil.Process(daemon.pid)
    score = int(Path(f"/proc/{daemon.pid}/oom_score_adj").read_text())
    assert found == {"files": 100, "nice": own.nice() + 3, "oom score": min(1000, score + 100)}
    assert own.rlimit(psutil.RLIMIT_NOFILE)[1] != 100
