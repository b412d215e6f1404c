"""Limits over several masters, whoever dies."""

from __future__ import annotations

import signal
from pathlib import Path

from rqd import Queue, RateLimit
from tests import jobs
from tests.daemons import StartDaemon
from tests.waiting import eventually

WAIT_S = 20.0


def test_no_more_run_at_once_and_all_get_through_though_children_and_a_master_are_killed(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path
) -> None:
    start_daemon("--name", "stays", workers=3)
    killed = start_daemon("--name", "killed", workers=3)
    limit = RateLimit("k", concurrency=2)
    made = queue.enqueue_many(
        Queue.prepare_data(jobs.in_a_slot, [str(tmp_path), 2, n % 5 == 4], rate_limit=limit)
        for n in range(60)
    )
    eventually(lambda: len(queue.finished_job_registry) > 5, WAIT_S)

    killed.signal(signal.SIGKILL)
    killed.wait()
    start_daemon("--name", "killed", workers=3)

    eventually(
        lambda: len(queue.finished_job_registry) + len(queue.failed_job_registry) == len(made),
        WAIT_S,
        lambda: str(queue.connection.views.limits()),
    )
    assert not (tmp_path / "violations").exists()
    assert len(queue.failed_job_registry) == 12
    assert queue.connection.views.limits() == []


def test_a_rate_is_kept_to_and_used_by_two_masters_together(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    rate, burst = 20, 4
    start_daemon("--name", "one")
    start_daemon("--name", "other")
    limit = RateLimit("k", rate=rate, burst=burst)
    made = queue.enqueue_many(
        Queue.prepare_data(jobs.nap, [0.08], rate_limit=limit) for _ in range(24)
    )

    eventually(lambda: len(queue.finished_job_registry) == len(made), WAIT_S)
    for job in made:
        job.refresh()

    starts = sorted(job.started_at.timestamp() for job in made if job.started_at)
    for first, at in enumerate(starts):
        for last, later in enumerate(starts[first:], first):
            assert last - first + 1 <= burst + (later - at) * rate + 0.01
    # One worker alone could not keep up with it.
    assert {job.worker_name for job in made} == {"one:1", "other:1"}


def test_a_waiting_job_starts_as_soon_as_its_limit_lets_it(
    start_daemon: StartDaemon, queue: Queue, fifo: str
) -> None:
    start_daemon(workers=2)
    one = RateLimit("k", concurrency=1)
    held = queue.enqueue(jobs.hold, fifo, rate_limit=one)
    eventually(lambda: held.is_started, WAIT_S)
    waits = queue.enqueue(jobs.instant, rate_limit=one)
    eventually(lambda: waits.get_status() and waits.limited_by == "k", WAIT_S)
    assert queue.enqueue(jobs.multiply, 2, 3).latest_result(timeout=WAIT_S)

    Path(fifo).write_text("")

    assert waits.latest_result(timeout=WAIT_S)
    waits.refresh()
    held.refresh()
    assert waits.started_at
    assert held.ended_at
    # In the same turn that settled the first one.
    assert waits.started_at == held.ended_at
