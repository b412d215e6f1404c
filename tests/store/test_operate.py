"""cancel, requeue, delete, empty and save_meta: what a person does to a job."""

from collections.abc import Callable
from typing import Any

import pytest

from rqd.model.errors import ConfigurationError
from rqd.store.wire import INLINE_LIMIT_BYTES
from tests.store.driving import Driver, job

BIG = b"x" * (INLINE_LIMIT_BYTES + 1)


def bring_to(rqd: Driver, status: str, **fields: Any) -> None:
    """Makes job `a` and brings it to this status."""
    if status == "missing":
        return
    rqd.enqueue(job("a", delay_us=10**9 if status == "scheduled" else None, **fields))
    if status == "started":
        rqd.claim_one()
    elif status in ("finished", "failed"):
        rqd.settle(rqd.claim_one(), "finish" if status == "finished" else "fail", cause="x")
    elif status == "canceled":
        rqd.store.cancel("a")


# -- cancel


@pytest.mark.parametrize("status", ["queued", "scheduled"])
def test_a_waiting_job_is_canceled_and_its_record_expires(rqd: Driver, status: str) -> None:
    bring_to(rqd, status, failure_ttl_s=100, ttl_s=5, payload=BIG)

    assert rqd.store.cancel("a") == status

    assert rqd.status("a") == "canceled"
    assert rqd.record("a").ended_us is not None
    assert rqd.ready() == []
    assert rqd.views.index_ids("low", "scheduled") == []
    assert rqd.views.index_ids("low", "canceled") == ["a"]
    for key in (name for name in rqd.names() if ":job:a" in name and "request" not in name):
        assert rqd.ttl_s(key) == rqd.left_of(100)
    assert rqd.claim(1) == []


def test_a_cancel_sent_twice_cancels_once(rqd: Driver) -> None:
    bring_to(rqd, "queued")
    rqd.store.cancel("a")
    before = rqd.dump()

    assert rqd.store.cancel("a") == "canceled"

    assert rqd.dump() == before


@pytest.mark.parametrize("status", ["started", "finished", "failed", "missing"])
def test_what_does_not_wait_is_not_canceled(rqd: Driver, status: str) -> None:
    bring_to(rqd, status)
    before = rqd.dump()

    assert rqd.store.cancel("a") == ("" if status == "missing" else status)

    assert rqd.dump() == before


def test_a_cancel_for_one_queue_leaves_another_queues_job(rqd: Driver) -> None:
    bring_to(rqd, "queued")

    assert rqd.store.cancel("a", "high") == ""
    assert rqd.status("a") == "queued"
    assert rqd.store.cancel("a", "low") == "queued"


# -- requeue


@pytest.mark.parametrize("status", ["failed", "canceled"])
def test_an_ended_job_is_requeued_and_stays(rqd: Driver, status: str) -> None:
    bring_to(rqd, status, payload=BIG)
    rqd.take_marker()

    assert rqd.store.requeue("a") == status

    record = rqd.record("a")
    assert (record.status, record.cause, record.ended_us) == ("queued", "", None)
    assert rqd.ready() == ["a"]
    assert rqd.has_marker()
    assert rqd.views.index_ids("low", "failed") == rqd.views.index_ids("low", "canceled") == []
    for key in (name for name in rqd.names() if ":job:a" in name and "request" not in name):
        assert rqd.ttl_s(key) == -1
    assert rqd.store.fetch_payload("a", 1 << 20) == BIG


def test_a_requeued_job_goes_to_the_back_or_the_front(rqd: Driver) -> None:
    bring_to(rqd, "failed")
    rqd.enqueue("b")
    rqd.store.requeue("a", at_front=True)
    assert rqd.ready() == ["a", "b"]

    rqd.settle(rqd.claim_one(), "fail")
    rqd.store.requeue("a")
    assert rqd.ready() == ["b", "a"]


def test_a_job_canceled_before_its_first_attempt_has_its_time_to_live_again(rqd: Driver) -> None:
    bring_to(rqd, "canceled", ttl_s=30)

    rqd.store.requeue("a")

    assert rqd.ttl_s(rqd.keys.job("a")) == rqd.left_of(30)


def test_a_requeued_jobs_large_result_of_an_earlier_run_stays_as_long_as_the_job(
    rqd: Driver,
) -> None:
    rqd.enqueue(job("a", failure_ttl_s=100))
    rqd.settle(rqd.claim_one(), "repeat", result=b"r" * 70_000)
    rqd.settle(rqd.claim_one(), "fail")
    assert 0 < rqd.ttl_s(rqd.keys.result("a")) <= 100

    rqd.store.requeue("a")

    assert rqd.ttl_s(rqd.keys.result("a")) == -1


def test_a_requeue_sent_twice_requeues_once(rqd: Driver) -> None:
    bring_to(rqd, "failed")
    rqd.store.requeue("a")
    before = rqd.dump()

    assert rqd.store.requeue("a") == "queued"

    assert rqd.dump() == before


@pytest.mark.parametrize("status", ["queued", "scheduled", "started", "finished", "missing"])
def test_only_what_ended_without_success_is_requeued(rqd: Driver, status: str) -> None:
    bring_to(rqd, status)
    before = rqd.dump()

    assert rqd.store.requeue("a") == ("" if status == "missing" else status)

    assert rqd.dump() == before


# -- delete and empty


@pytest.mark.parametrize("status", ["queued", "scheduled", "started", "finished", "failed"])
def test_a_deleted_job_leaves_nothing_behind(rqd: Driver, status: str) -> None:
    bring_to(rqd, status, payload=BIG)

    assert rqd.store.delete("a") == status

    assert rqd.views.job("a") is None
    (left,) = (name for name in rqd.names() if ":job:" in name)
    assert left == rqd.keys.request("a")
    for index in ("started", "scheduled", "finished", "failed"):
        assert rqd.views.index_ids("low", index) == []
    assert rqd.ready() == []
    assert not rqd.redis.exists(rqd.keys.leases)
    assert rqd.store.delete("a") == ""


def test_empty_deletes_what_waits_ready_and_nothing_else(rqd: Driver) -> None:
    rqd.enqueue("run", *(f"j{number}" for number in range(250)))
    rqd.enqueue(job("later", delay_us=10**9), job("h", queue="high"), job("gone", ttl_s=5))
    rqd.claim_one()
    rqd.redis.delete(rqd.keys.job("gone"))

    assert rqd.store.empty("low") == 250
    assert rqd.store.empty("low") == 0

    assert rqd.ready() == []
    assert rqd.ready("high") == ["h"]
    assert rqd.status("run") == "started"
    assert rqd.status("later") == "scheduled"
    assert rqd.redis.smembers("{rqd}:nonempty") == {b"high"}


# -- meta


def test_meta_is_replaced(rqd: Driver) -> None:
    bring_to(rqd, "started", meta=b"old")

    assert rqd.store.save_meta("a", b"new")
    assert rqd.record("a").meta == b"new"


def test_meta_of_no_job_makes_no_job(rqd: Driver) -> None:
    assert not rqd.store.save_meta("a", b"new")
    assert rqd.names() == []


OPERATIONS: dict[str, Callable[[Driver], object]] = {
    "cancel": lambda rqd: rqd.store.cancel("a"),
    "requeue": lambda rqd: rqd.store.requeue("a"),
    "delete": lambda rqd: rqd.store.delete("a"),
    "empty": lambda rqd: rqd.store.empty("low"),
    "forget_queue": lambda rqd: rqd.store.forget_queue("low"),
}


@pytest.mark.parametrize(
    ("operation", "key"),
    [
        *((operation, "nonempty") for operation in OPERATIONS),
        *((operation, "queue:low") for operation in OPERATIONS if operation != "forget_queue"),
        ("forget_queue", "queues"),
    ],
)
def test_a_key_that_is_not_rqds_refuses_it_before_the_first_write(
    rqd: Driver, operation: str, key: str
) -> None:
    bring_to(rqd, "failed" if operation == "requeue" else "queued")
    rqd.redis.delete(f"{{rqd}}:{key}")
    rqd.redis.set(f"{{rqd}}:{key}", "not ours")
    before = rqd.dump()

    with pytest.raises(ConfigurationError, match=rf"\{{rqd\}}:{key} holds"):
        OPERATIONS[operation](rqd)

    assert rqd.dump() == before
