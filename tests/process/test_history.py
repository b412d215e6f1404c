"""The history that a real daemon writes: as many as ran, through kills, outages and restarts."""

from __future__ import annotations

from rqd import Queue, Retry
from rqd.client.connection import Backend
from rqd.model.history import Numbers
from tests import jobs
from tests.daemons import StartDaemon
from tests.servers import RedisServer
from tests.waiting import eventually


def own(there: Backend, queue: str = "default") -> Numbers:
    numbers, _ = there.views.metrics([queue])[queue]
    return numbers


def functions(there: Backend, queue: str = "default") -> dict[str, Numbers]:
    return there.views.metrics([queue])[queue][1]


def test_what_became_of_jobs_is_counted_by_cause_and_function(
    start_daemon: StartDaemon, queue: Queue, there: Backend
) -> None:
    daemon = start_daemon(workers=2)
    # One after the other: a job claimed ahead behind a slow one would be put back, and counted so.
    for _ in range(5):
        queue.enqueue(jobs.multiply, 2, 3).wait(10.0)
    queue.enqueue(jobs.segfault).wait(10.0)
    queue.enqueue(jobs.fail, retry=Retry(max=1)).wait(10.0)
    daemon.stop()

    numbers = own(there)
    assert numbers.became == {"finished": 5, "failed": 2, "retried": 1}
    assert numbers.causes == {"crashed": 1, "raised": 2}
    assert numbers.ended == numbers.wait.count == 8
    by_name = functions(there)
    assert {name: one.ended for name, one in by_name.items()} == {
        "tests.jobs.multiply": 5, "tests.jobs.segfault": 1, "tests.jobs.fail": 2,
    }  # fmt: skip
    assert by_name["tests.jobs.segfault"].causes == {"crashed": 1}
    assert by_name["tests.jobs.multiply"].cpu_s > 0


def test_a_restart_of_everything_lets_no_counter_fall(
    start_daemon: StartDaemon, queue: Queue, there: Backend
) -> None:
    for expected in (1, 2):
        daemon = start_daemon()
        queue.enqueue(jobs.multiply, 2, 3).wait(10.0)
        daemon.stop()
        assert own(there).became == {"finished": expected}


def test_numbers_come_within_seconds_of_a_job_while_the_daemon_runs(
    start_daemon: StartDaemon, queue: Queue, there: Backend
) -> None:
    start_daemon()
    queue.enqueue(jobs.multiply, 2, 3).wait(10.0)
    eventually(lambda: own(there).became == {"finished": 1}, 10.0)


def test_numbers_of_an_outage_come_once_it_is_over(
    start_daemon: StartDaemon, queue: Queue, there: Backend, server: RedisServer
) -> None:
    daemon = start_daemon()
    queue.enqueue(jobs.multiply, 2, 3).wait(10.0)
    server.freeze()
    eventually(lambda: "redis is gone" in daemon.log(), 10.0)
    server.thaw()
    queue.enqueue(jobs.multiply, 2, 3).wait(10.0)
    eventually(lambda: own(there).became == {"finished": 2}, 15.0)


def test_numbers_for_which_redis_has_no_memory_come_once_it_has_some(
    start_daemon: StartDaemon, queue: Queue, there: Backend, server: RedisServer
) -> None:
    daemon = start_daemon()
    queue.enqueue(jobs.multiply, 2, 3).wait(10.0)
    server.command("CONFIG SET maxmemory 1")
    try:
        eventually(lambda: "redis refuses numbers of the history" in daemon.log(), 15.0)
        assert own(there).became == {}
    finally:
        server.command("CONFIG SET maxmemory 0")
    eventually(lambda: own(there).became == {"finished": 1}, 15.0)
