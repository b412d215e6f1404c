"""Registries: which jobs of a queue are where, under RQ's names."""

from datetime import timedelta

import pytest

from rqd import Queue
from rqd.connection import backend_for
from rqd.exceptions import InvalidJobOperation
from rqd.registry import FailedJobRegistry, StartedJobRegistry
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


def test_a_failed_job_is_requeued_and_a_finished_one_is_not(redis_url: str) -> None:
    backend = backend_for(redis_url)
    queue = Queue(connection=backend)
    good, bad = queue.enqueue(work.multiply, 2, 3), queue.enqueue(work.fail)
    perform(backend)

    assert queue.failed_job_registry.requeue(bad).is_queued
    assert queue.failed_job_registry.count == 0
    with pytest.raises(InvalidJobOperation, match="is finished"):
        queue.failed_job_registry.requeue(good.id)
