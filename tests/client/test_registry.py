"""Registries: which jobs of a queue are where, under RQ's names."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rqd import Job, Queue
from rqd.client.connection import backend_for
from rqd.exceptions import ConfigurationError, InvalidJobOperation, NoSuchJobError
from rqd.registry import FailedJobRegistry, StartedJobRegistry, clean_registries
from tests.client import work
from tests.client.performing import claim, perform


def test_each_job_is_in_the_registry_of_its_state(redis_url: str) -> None:
    backend = backend_for(redis_url)
    queue = Queue(connection=backend)
    good, bad = queue.enqueue(work.multiply, 2, 3), queue.enqueue(work.fail)
    perform(backend)
    later = queue.enqueue_in(timedelta(hours=1), work.multiply, 1, 1)
    canceled = queue.enqueue(work.multiply, 1, 1)
    canceled.cancel()
    running = queue.enqueue(work.multiply, 1, 1)
    claim(backend)

    found = {
        "finished": queue.finished_job_registry.get_job_ids(),
        "failed": queue.failed_job_registry.get_job_ids(),
        "scheduled": queue.scheduled_job_registry.get_job_ids(),
        "canceled": queue.canceled_job_registry.get_job_ids(),
        "started": queue.started_job_registry.get_job_ids(),
    }

    assert found == {
        "finished": [good.id],
        "failed": [bad.id],
        "scheduled": [later.id],
        "canceled": [canceled.id],
        "started": [running.id],
    }
    assert bad in queue.failed_job_registry
    assert good.id not in queue.failed_job_registry
    assert (len(FailedJobRegistry(connection=backend)), StartedJobRegistry(queue=queue).count) == (
        1,
        1,
    )


def test_ids_come_in_slices_and_backwards(redis_url: str) -> None:
    backend = backend_for(redis_url)
    queue = Queue(connection=backend)
    ids = [queue.enqueue(work.fail, job_id=f"j{n}").id for n in range(4)]
    perform(backend)

    failed = queue.failed_job_registry

    assert failed.get_job_ids() == ids
    assert failed.get_job_ids(1, 2) == ids[1:3]
    assert failed.get_job_ids(desc=True) == ids[::-1]
    assert failed.get_job_ids(1, 2, desc=True) == ids[2:0:-1]
    assert failed.get_job_ids(-2) == ids[2:]
    assert failed.get_job_ids(3, 1) == failed.get_job_ids(9) == []


def test_a_failed_job_is_requeued_and_a_finished_one_is_not(redis_url: str) -> None:
    backend = backend_for(redis_url)
    queue = Queue(connection=backend)
    good, bad = queue.enqueue(work.multiply, 2, 3), queue.enqueue(work.fail)
    perform(backend)

    assert queue.failed_job_registry.requeue(bad).is_queued
    assert queue.failed_job_registry.count == 0
    with pytest.raises(InvalidJobOperation, match="is finished"):
        queue.failed_job_registry.requeue(good.id)


def test_an_ended_job_taken_out_of_its_registry_keeps_its_record_unless_it_is_deleted(
    redis_url: str,
) -> None:
    queue = Queue(connection=backend_for(redis_url))
    kept, gone = queue.enqueue(work.fail), queue.enqueue(work.fail)
    perform(queue.connection)
    failed = queue.failed_job_registry

    failed.remove(kept)
    failed.remove(gone.id, delete_job=True)
    failed.remove("nobody", delete_job=True)

    assert failed.count == 0
    assert kept.is_failed
    assert not Job.exists(gone.id, queue.connection)
    assert kept.requeue().is_queued


def test_a_waiting_job_taken_out_is_canceled_and_a_running_one_is_not(redis_url: str) -> None:
    queue = Queue(connection=backend_for(redis_url))
    later = queue.enqueue_in(timedelta(hours=1), work.multiply, 1)
    running = queue.enqueue(work.multiply, 1)
    claim(queue.connection)

    queue.scheduled_job_registry.remove(running)  # it is in another one
    queue.scheduled_job_registry.remove(later)
    with pytest.raises(InvalidJobOperation, match="runs: stop it"):
        queue.started_job_registry.remove(running)

    assert (later.is_canceled, running.is_started) == (True, True)
    with pytest.raises(InvalidJobOperation, match="gets there by its state"):
        queue.failed_job_registry.add(running)


def test_the_ids_of_expired_records_are_forgotten(redis_url: str) -> None:
    queue = Queue(connection=backend_for(redis_url))
    job = queue.enqueue(work.fail, failure_ttl=100)
    perform(queue.connection)
    registry = queue.failed_job_registry
    keys, redis_ = queue.connection.store.keys, queue.connection.store.redis
    until = registry.get_expiration_time(job)
    assert until is not None
    assert 90 < (until - datetime.now(UTC)).total_seconds() <= 100
    redis_.zadd(keys.index("default", "failed"), {job.id: 1, **{f"old{n}": 1 for n in range(150)}})

    assert (registry.count, job in registry, registry.get_job_ids()) == (0, False, [])
    clean_registries(queue)

    assert redis_.zcard(keys.index("default", "failed")) == 0


def test_the_time_of_a_scheduled_job_is_told(redis_url: str) -> None:
    queue = Queue(connection=backend_for(redis_url))
    when = datetime(2040, 1, 1, tzinfo=UTC)
    job = queue.enqueue_at(when, work.multiply, 1)

    assert queue.scheduled_job_registry.get_scheduled_time(job) == when
    with pytest.raises(NoSuchJobError, match="nobody is not among the scheduled jobs"):
        queue.scheduled_job_registry.get_scheduled_time("nobody")
    assert queue.scheduled_job_registry.get_queue() == queue


def test_what_is_no_datetime_is_named_as_that(redis_url: str) -> None:
    since: Any = "1h"
    with pytest.raises(ConfigurationError, match=r"since '1h': write a datetime"):
        Queue(connection=redis_url).failed_job_registry.requeue_many(since=since)
