"""A job that was told to stop: its master hears of it, and it does not run again."""

from __future__ import annotations

from typing import Any

import pytest

from rqd.model.records import Claim
from tests.store.driving import Driver, job, settlement
from tests.store.scenes import misplaced

CAUSE = "stopped by ops@host"


def start(rqd: Driver, **fields: Any) -> Claim:
    """Job `a`, started by the master `m`, which lives."""
    rqd.store.hello("m", "b", 15, {"workers": 1})
    rqd.enqueue(job("a", **fields))
    return rqd.claim_one()


def stop(rqd: Driver, request: str = "r1") -> str:
    return rqd.store.stop("a", request, "ops@host", 2.5)


def ended(rqd: Driver) -> tuple[str, str, list[str], list[str]]:
    """Its status, its cause, the types of its attempts, the queue's failed ones."""
    record = rqd.record("a")
    attempts = [attempt.type for attempt in rqd.views.attempts("a")]
    return str(record.status), record.cause, attempts, rqd.views.index_ids("low", "failed")


def test_the_master_of_a_running_job_is_told_which_attempt_to_stop(rqd: Driver) -> None:
    claim = start(rqd)

    assert stop(rqd) == "started"

    order = {"token": claim.token, "by": "ops@host", "grace_s": 2.5}
    assert rqd.beat(claim).stops == (order,)
    assert rqd.redis.zrange(rqd.keys.wake_master("m"), 0, -1) == [b"command"]


def test_a_stop_sent_twice_is_one_order_and_leaves_a_later_attempt_alone(rqd: Driver) -> None:
    claim = start(rqd)
    stop(rqd)
    assert stop(rqd) == "started"
    assert len(rqd.beat(claim).stops) == 1
    rqd.settle(claim, "stop", cause=CAUSE)
    rqd.store.requeue("a")
    again = rqd.claim_one()

    assert stop(rqd) == "started"

    assert rqd.beat(again).stops == ()
    assert rqd.settle(again, "put_back") == "settled"
    assert stop(rqd, "r2") == "queued"


@pytest.mark.parametrize("status", ["queued", "scheduled", "finished", "failed", "canceled", ""])
def test_what_does_not_run_is_not_stopped(rqd: Driver, status: str) -> None:
    if status:
        rqd.enqueue(job("a", delay_us=10**9 if status == "scheduled" else None))
    if status in ("finished", "failed"):
        rqd.settle(rqd.claim_one(), "finish" if status == "finished" else "fail", cause="x")
    elif status == "canceled":
        rqd.store.cancel("a")
    before = rqd.dump()

    assert stop(rqd) == status

    assert rqd.dump() == before


def test_a_stopped_job_is_charged_and_not_retried(rqd: Driver) -> None:
    claim = start(rqd, retries=3, failure_ttl_s=50)
    stop(rqd)

    assert rqd.settle(claim, "stop", cause=CAUSE) == "settled"

    assert ended(rqd) == ("stopped", CAUSE, ["stopped"], ["a"])
    assert (rqd.record("a").attempt, rqd.record("a").retries_left) == (1, 3)
    assert rqd.ttl_s(rqd.keys.job("a")) == rqd.left_of(50)
    assert misplaced(rqd) == {}
    assert rqd.store.requeue("a") == "stopped"
    assert rqd.ready() == ["a"]


@pytest.mark.parametrize("decision", ["retry", "put_back", "park", "lose"])
def test_told_to_stop_a_job_does_not_run_again_whatever_its_master_says(
    rqd: Driver, decision: str
) -> None:
    claim = start(rqd, retries=3)
    stop(rqd)

    assert rqd.settle(claim, decision, cause="raised ValueError", delay_us=5) == "stopped"
    assert rqd.settle(claim, decision, cause="raised ValueError", delay_us=5) == "already"

    status, cause, attempts, failed = ended(rqd)
    assert (status, attempts, failed) == ("stopped", ["stopped"], ["a"])
    assert cause.startswith(f"{CAUSE}, ")
    assert rqd.record("a").attempt == 1
    assert rqd.claim() == []
    assert misplaced(rqd) == {}


@pytest.mark.parametrize("decision", ["finish", "repeat", "fail"])
def test_an_attempt_that_ended_before_the_stop_reached_it_ends_as_it_did(
    rqd: Driver, decision: str
) -> None:
    claim = start(rqd)
    stop(rqd)

    assert rqd.settle(claim, decision, cause="raised ValueError") == "settled"
    assert ended(rqd)[0] == ("failed" if decision == "fail" else "finished")


@pytest.mark.parametrize("how", ["lease", "takeover"])
def test_with_its_master_lost_a_job_that_was_told_to_stop_is_stopped(rqd: Driver, how: str) -> None:
    start(rqd)
    stop(rqd)

    if how == "lease":
        rqd.expire_leases("a")
        ((job_id, losses, lost),) = rqd.beat(master="other", boot="c").reaped
    else:
        ((job_id, losses, lost),) = rqd.store.hello("m", "c", 15, {"workers": 1}, "b").reaped

    assert (job_id, losses, lost) == ("a", 0, f"{CAUSE}, lost with m:1")
    assert ended(rqd) == ("stopped", lost, ["stopped"], ["a"])
    assert rqd.claim() == []
    assert misplaced(rqd) == {}


def test_an_old_stop_does_not_touch_a_later_attempt(rqd: Driver) -> None:
    start(rqd)
    stop(rqd)
    rqd.expire_leases("a")
    rqd.beat(master="other", boot="c")
    rqd.store.requeue("a")
    again = rqd.claim_one()

    (verdict,) = rqd.turn(settlement(again, "put_back")).verdicts

    assert verdict == "settled"
    assert rqd.status("a") == "queued"
