"""Ended jobs by their own end: in this order whatever their times to live, and gone with them."""

from __future__ import annotations

import pytest

from rqd.model.filter import Filter
from rqd.store.search import Search
from tests.store.driving import Driver, job, settlement
from tests.waiting import eventually

TTLS = (86_400.0, -1.0, 60.0, 3_600.0)


def latest(rqd: Driver, index: str = "failed") -> list[str]:
    return rqd.views.latest_ended_ids("low", index, 100)


def after_a_beat(rqd: Driver) -> list[str]:
    rqd.beat()
    return latest(rqd)


def end_each(rqd: Driver, decision: str) -> list[str]:
    """Ends four jobs of different times to live, one after the other; returns their ids."""
    ids = [f"j{number}" for number in range(len(TTLS))]
    for name, ttl_s in zip(ids, TTLS, strict=True):
        rqd.enqueue(job(name, failure_ttl_s=ttl_s, result_ttl_s=ttl_s))
        rqd.settle(rqd.claim_one(), decision)
    return ids


@pytest.mark.parametrize(("decision", "index"), [("fail", "failed"), ("finish", "finished")])
def test_the_latest_end_is_the_first_whatever_the_times_to_live(
    rqd: Driver, decision: str, index: str
) -> None:
    ids = end_each(rqd, decision)

    assert latest(rqd, index) == ids[::-1]
    assert sorted(rqd.views.index_ids("low", index)) == ids
    assert rqd.views.index_ids("low", index, desc=True) != ids[::-1]
    found = Search(rqd.store).page(Filter(state=index))
    assert [one.id for one in found.jobs] == ids[::-1]


def test_a_turn_of_many_ends_writes_both_orders(rqd: Driver) -> None:
    rqd.enqueue(*(f"n{number}" for number in range(40)))
    rqd.turn(*(settlement(one, "fail") for one in rqd.claim(40)))
    assert len(latest(rqd)) == 40
    assert sorted(latest(rqd)) == sorted(rqd.views.index_ids("low", "failed"))


@pytest.mark.parametrize("how", ["requeue", "delete", "enqueue again", "unlist"])
def test_a_job_that_leaves_its_state_leaves_both_orders(rqd: Driver, how: str) -> None:
    end_each(rqd, "fail")
    match how:
        case "requeue":
            rqd.store.requeue("j1")
        case "delete":
            rqd.store.delete("j1")
        case "enqueue again":
            rqd.enqueue("j1")
        case "unlist":
            rqd.store.unlist("low", "failed", "j1")
    assert latest(rqd) == ["j3", "j2", "j0"]
    assert "j1" not in rqd.views.index_ids("low", "failed")


def test_records_that_expire_leave_both_orders(rqd: Driver) -> None:
    rqd.enqueue(job("short", failure_ttl_s=1.0), job("long"))
    for claim in rqd.claim(2):
        rqd.settle(claim, "fail")
    assert len(latest(rqd)) == 2
    eventually(lambda: rqd.store.tidy("low", "failed") == 1)
    assert latest(rqd) == ["long"]


def test_a_beat_puts_in_the_jobs_of_an_older_rqd_and_takes_out_what_is_too_much(
    rqd: Driver,
) -> None:
    ids = end_each(rqd, "fail")
    key = rqd.keys.by_end("low", "failed")
    rqd.redis.delete(key)
    rqd.redis.zadd(key, {"nobody": 1, "no one": 2})

    eventually(lambda: after_a_beat(rqd) == ids[::-1])


def test_another_type_at_the_key_is_made_again(rqd: Driver) -> None:
    ids = end_each(rqd, "fail")
    rqd.redis.set(rqd.keys.by_end("low", "failed"), "text")
    rqd.enqueue("last")
    rqd.settle(rqd.claim_one(), "fail")  # its end is recorded all the same

    eventually(lambda: after_a_beat(rqd) == ["last", *ids[::-1]])


def test_a_queue_that_is_forgotten_leaves_no_order_behind(rqd: Driver) -> None:
    end_each(rqd, "fail")
    for name in rqd.views.index_ids("low", "failed"):
        rqd.store.delete(name)
    rqd.redis.zadd(rqd.keys.by_end("low", "failed"), {"left over": 1})
    assert rqd.store.forget_queue("low")
    assert not rqd.redis.exists(rqd.keys.by_end("low", "failed"))
