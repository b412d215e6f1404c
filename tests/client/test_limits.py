"""rate_limit= of enqueue: what may be written, and how what waits shows."""

from __future__ import annotations

from typing import Any

import pytest

from rqd import Queue, RateLimit
from rqd.client.connection import Backend
from rqd.exceptions import ConfigurationError, InvalidCallError
from tests.client import work
from tests.client.performing import claim, perform, settle


def test_a_job_that_waits_for_its_limit_is_queued_and_comes_last(backend: Backend) -> None:
    queue, one = Queue(), RateLimit("api", concurrency=1)
    held, waits = (queue.enqueue(work.multiply, n, rate_limit=one) for n in (1, 2))
    (running,) = claim(backend, count=2)
    plain = queue.enqueue(work.multiply, 3)

    assert (waits.get_status(), waits.limited_by, plain.limited_by) == ("queued", "api", None)
    assert queue.job_ids == [plain.id, waits.id]
    assert [queue.get_job_ids(0, 1), queue.get_job_ids(1, 1)] == [[plain.id], [waits.id]]
    assert queue.get_job_ids(1) == queue.get_job_ids(1, 9) == [waits.id]
    assert (queue.count, plain.get_position(), waits.get_position()) == (2, 0, 1)
    assert [one.id for one in queue.jobs] == [plain.id, waits.id]
    (counts,) = backend.views.queue_counts(["default"])
    assert (counts.ready, counts.limited, counts.started) == (1, 1, 1)

    settle(backend, running, "finish", b"")
    waits.refresh()
    assert (running.id, waits.limited_by) == (held.id, None)
    assert perform(backend) == 2


def test_a_queue_with_a_waiting_job_is_not_empty_until_it_is_emptied(backend: Backend) -> None:
    queue, one = Queue(), RateLimit("api", concurrency=1)
    _, waits = (queue.enqueue(work.multiply, n, rate_limit=one) for n in (1, 2))
    claim(backend, count=2)

    assert not queue.is_empty()
    assert queue.empty() == 1
    assert queue.fetch_job(waits.id) is None


def test_a_synchronous_queue_takes_its_slot_once_though_its_claim_is_sent_again(
    backend: Backend,
) -> None:
    job = Queue().enqueue(work.multiply, 2, rate_limit=RateLimit("api", 1, rate=1, per=1000))
    store = backend.store
    store.take(job.id, "m", 15_000_000, "r")
    held = store.take(job.id, "m", 15_000_000, "r")

    assert held is not None
    (limit,) = backend.views.limits()
    assert limit.holders == (job.id,)
    settle(backend, held, "finish", b"")
    later = Queue(is_async=False).enqueue(work.multiply, 3, rate_limit=RateLimit("api", 1))
    assert later.return_value() == 3


@pytest.mark.parametrize(
    ("limit", "term"),
    [
        (RateLimit("k", 2), {"key": "k", "concurrency": 2}),
        (RateLimit("k", rate=10), {"key": "k", "every_us": 100_000, "burst": 10}),
        (RateLimit("k", rate=0.5), {"key": "k", "every_us": 2_000_000, "burst": 1}),
        (
            RateLimit("k", 3, rate=30, per="1m", burst=1),
            {"key": "k", "concurrency": 3, "every_us": 2_000_000, "burst": 1},
        ),
    ],
)
def test_a_limit_becomes_the_numbers_of_the_scripts(limit: RateLimit, term: dict[str, Any]) -> None:
    assert limit.term() == term


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: RateLimit("k"),
        lambda: RateLimit("", 1),
        lambda: RateLimit("a\tb", 1),
        lambda: RateLimit("k", 0),
        lambda: RateLimit("k", True),
        lambda: RateLimit("k", rate=0),
        lambda: RateLimit("k", rate=1, per=0),
        lambda: RateLimit("k", rate=1, per="soon"),
        lambda: RateLimit("k", rate=1, burst=0),
        lambda: RateLimit("k", 1, burst=2),
        lambda: Queue().enqueue(work.multiply, 2, rate_limit=3),
    ],
)
def test_what_is_no_limit_is_refused(backend: Backend, wrong: Any) -> None:
    with pytest.raises((ConfigurationError, InvalidCallError), match=r"write|must be|needs"):
        wrong()
