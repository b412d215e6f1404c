"""What a running job tells by way of its daemon."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from rqd import Job, Queue, Retry
from rqd.client.connection import Backend
from rqd.exceptions import InvalidJobOperation
from tests import jobs
from tests.daemons import StartDaemon
from tests.servers import RedisServer
from tests.waiting import eventually

WAIT_S = 10.0
KEY = "0123456789abcdef" * 2


def told(job: Job[Any]) -> str:
    job.refresh()
    return str(job.progress) if job.progress else ""


def writes(there: Backend) -> int:
    stats: Any = there.store.redis.info("commandstats")
    return int(stats.get("cmdstat_hset", {}).get("calls", 0))


def test_progress_is_seen_while_the_job_runs(
    start_daemon: StartDaemon, queue: Queue, fifo: str
) -> None:
    start_daemon()
    job = queue.enqueue(jobs.progress_and_hold, fifo)

    eventually(lambda: told(job) == "40% reading")
    assert job.is_started
    assert job.progress is not None
    assert job.started_at is not None
    assert job.progress.updated_at >= job.started_at
    Path(fifo).write_text("")
    assert job.wait(WAIT_S).return_value() == "done"
    assert str(job.progress) == "40% reading"


def test_a_flood_of_progress_holds_up_neither_the_job_nor_the_daemon(
    start_daemon: StartDaemon, queue: Queue, there: Backend
) -> None:
    start_daemon(workers=2)
    before = writes(there)
    flooding = queue.enqueue(jobs.flood_progress, 100_000)
    beside = [queue.enqueue(jobs.multiply, 2, 3) for _ in range(5)]
    assert [job.wait(WAIT_S).return_value() for job in beside] == [6] * 5
    assert flooding.wait(20).return_value() < 5.0  # type: ignore[operator]  # it is there
    assert told(flooding) == "100% all rows"
    # Those of six jobs' lives, of heartbeats, and of the progress: five a second, not 100,000.
    assert writes(there) - before < 150


def test_what_a_job_told_last_is_there_after_its_crash(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    start_daemon()
    job = queue.enqueue(jobs.progress_and_die)

    assert job.wait(WAIT_S).cause == "crashed: SIGKILL"
    assert told(job) == "80% row 4"


def test_progress_is_told_though_the_daemon_stood_still_meanwhile(
    start_daemon: StartDaemon, queue: Queue, fifo: str
) -> None:
    daemon = start_daemon()
    job = queue.enqueue(jobs.progress_and_hold, fifo)
    eventually(lambda: told(job))
    another = queue.enqueue(jobs.flood_progress, 1000)
    daemon.signal(signal.SIGSTOP)
    Path(fifo).write_text("")
    daemon.signal(signal.SIGCONT)

    assert another.wait(WAIT_S).return_value() is not None
    assert told(another) == "100% all rows"


@pytest.mark.parametrize("keys", [[], [KEY]], ids=["unsigned", "signed"])
def test_meta_saved_in_a_job_goes_by_way_of_its_daemon(
    start_daemon: StartDaemon, redis_url: str, fifo: str, keys: list[str]
) -> None:
    from rqd.client import connection

    there = connection._open(redis_url, None, keys)
    start_daemon(env={"RQD_SIGNING_KEY": ",".join(keys)} if keys else {})
    before = writes(there)
    job = Queue(connection=there).enqueue(
        jobs.save_meta_and_hold, fifo, meta={"who": "me"}, retry=Retry(1)
    )

    eventually(lambda: job.get_meta().get("number") == 99)
    assert job.get_meta() == {"who": "me", "number": 99}
    assert writes(there) - before < 50
    (worker,) = there.views.workers(there.views.masters())
    os.kill(int(worker["pid"]), signal.SIGKILL)
    eventually(lambda: job.get_status() and job.attempt == 2)
    Path(fifo).write_text("")
    assert job.wait(WAIT_S).get_meta() == {"who": "me", "number": 99}


def test_what_a_job_told_last_comes_before_its_outcome_though_redis_was_away(
    start_daemon: StartDaemon, own_server: RedisServer, fifo: str
) -> None:
    daemon = start_daemon(url=own_server.url)
    job = Queue(connection=own_server.url).enqueue(jobs.progress_and_hold, fifo)
    eventually(lambda: told(job) == "40% reading")
    own_server.freeze()
    eventually(lambda: "redis is gone" in daemon.log(), 8.0)
    Path(fifo).write_text("the end")
    own_server.thaw()

    assert job.wait(WAIT_S).return_value() == "the end"
    assert told(job) == "90% the end"


@pytest.mark.parametrize("keys", [[], [KEY]], ids=["unsigned", "signed"])
def test_a_job_reads_and_writes_its_notes_without_a_connection_of_its_own(
    start_daemon: StartDaemon, redis_url: str, keys: list[str]
) -> None:
    from rqd.client import connection

    there = connection._open(redis_url, None, keys)
    start_daemon("--jobs-per-child", "3", env={"RQD_SIGNING_KEY": ",".join(keys)} if keys else {})
    large = "x" * 300_000
    queue = Queue(connection=there)
    noting = [
        queue.enqueue(jobs.note, job_timeout=limit, meta={"who": who})
        for who, limit in (("me", 60), (large, -1))
    ]

    for job, who in zip(noting, ("me", large), strict=True):
        assert job.wait(WAIT_S).return_value() == (0, "tests.jobs.note", job.timeout), job.cause
        assert job.meta == {"who": who, "seen": len(who)}


# -- more time


def test_a_job_that_takes_longer_says_so_and_is_neither_raised_at_nor_killed(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    start_daemon(workers=3)
    enough = queue.enqueue(jobs.extend_and_sleep, 1.4, 5, job_timeout=1)
    short = queue.enqueue(jobs.extend_and_sleep, 20, 0.3, job_timeout=1)
    unlimited = queue.enqueue(jobs.extend_and_sleep, 0.1, 1, job_timeout=-1)

    assert enough.wait(WAIT_S).return_value() >= 1.4  # type: ignore[operator]  # it is there
    assert short.wait(WAIT_S).cause == "timed out after 1.3 s"
    assert unlimited.wait(WAIT_S).is_finished


def test_the_daemons_own_deadline_is_put_off_though_the_job_lets_nothing_else_run(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    start_daemon()
    job = queue.enqueue(jobs.extend_and_hog, 6.4, 10, job_timeout=1)

    assert job.wait(WAIT_S).return_value() == "done"


def test_a_running_job_gets_more_time_from_outside(start_daemon: StartDaemon, queue: Queue) -> None:
    start_daemon(workers=2)
    job, beside = (queue.enqueue(jobs.run_for_ever, job_timeout=0.8) for _ in range(2))
    eventually(lambda: job.is_started and beside.is_started)
    job.extend(0.5)
    job.extend("1s")

    assert beside.wait(WAIT_S).cause == "timed out after 0.8 s"
    assert job.is_started
    assert job.wait(WAIT_S).cause == "timed out after 2.3 s"
    assert job.started_at is not None
    assert job.ended_at is not None
    assert (job.ended_at - job.started_at).total_seconds() >= 2.3
    with pytest.raises(InvalidJobOperation, match="is failed: only a running job"):
        job.extend(1)


def test_a_command_for_another_attempt_extends_nothing(
    start_daemon: StartDaemon, queue: Queue, there: Backend
) -> None:
    daemon = start_daemon()
    job = queue.enqueue(jobs.run_for_ever, job_timeout=0.8)
    eventually(lambda: job.is_started)
    masters = [row["name"] for row in there.views.masters()]
    right = {"do": "extend", "job": job.id, "fence": job._record.fence, "seconds": 60}
    wrong: list[dict[str, Any]] = [
        {"fence": 7},
        {"fence": "x"},
        {"job": "another"},
        {"seconds": -5},
        {"seconds": float("inf")},
        {"seconds": "many"},
        {"seconds": True},
        {"do": "follow", "fence": 7, "first": True},
        {"do": "follow", "job": ["x"]},
    ]
    for number, change in enumerate(wrong):
        there.store.command({**right, **change, "id": f"c{number}"}, masters)

    assert job.wait(WAIT_S).cause == "timed out after 0.8 s"
    assert daemon.stop() == 0
