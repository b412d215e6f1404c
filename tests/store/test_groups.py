"""Groups: jobs that are counted together and waited for together."""

from __future__ import annotations

from typing import Any

import pytest

from rqd.model.errors import NoSuchJobError
from rqd.model.limits import Unique
from rqd.model.records import NewJob
from rqd.model.terms import dump_terms
from rqd.store.queue_queries import GroupCounts
from tests.store.driving import Driver, ids, in_group, job, settlement, waits_for
from tests.store.scenes import misplaced

DAY_S = 86400


def member(job_id: str, group: str = "g", **fields: Any) -> NewJob:
    return job(job_id, terms=in_group(group), **fields)


def after(job_id: str, group: str = "g") -> NewJob:
    """A job that waits for all of a group."""
    return job(job_id, "after", terms=waits_for(f"group:{group}"))


def counts(rqd: Driver, group: str = "g") -> GroupCounts:
    found = rqd.views.group_counts(group)
    assert found is not None
    return found


def left(rqd: Driver) -> list[str]:
    return [name for name in rqd.names() if "group" in name]


def test_a_group_counts_its_jobs_by_how_they_stand(rqd: Driver) -> None:
    rqd.enqueue(*(member(name) for name in "abcde"), "stranger")
    assert counts(rqd) == GroupCounts(total=5, open=5, finished=0, failed=0, stopped=0, canceled=0)
    assert rqd.views.group_job_ids("g") == [*"abcde"]
    first, second = rqd.claim(2)
    rqd.settle(first)
    rqd.settle(second, "fail")
    rqd.store.cancel("c")
    rqd.store.delete("d")
    assert counts(rqd) == GroupCounts(4, 1, 1, 1, 0, 1)
    assert rqd.views.group_job_ids("g") == [*"abce"]
    assert rqd.views.group_names() == ["g"]


@pytest.mark.parametrize("ending", ["finish", "fail", "cancel", "delete", "expire"])
def test_the_end_of_the_last_job_lets_those_that_wait_run_once(rqd: Driver, ending: str) -> None:
    rqd.enqueue(member("a"), member("b"), after("then"))
    rqd.settle(rqd.claim_one(), "fail")
    assert rqd.status("then") == "deferred"
    if ending in ("finish", "fail"):
        claim = rqd.claim_one()
        rqd.turn(settlement(claim, ending), request="again")
        before = rqd.dump()
        rqd.turn(settlement(claim, ending), request="again")
        assert rqd.dump() == before
    elif ending == "expire":
        rqd.redis.delete(rqd.keys.job("b"))
        rqd.redis.delete(rqd.keys.ready("low"))
        rqd.beat()
    else:
        getattr(rqd.store, ending)("b")
    assert rqd.ready("after") == ["then"]
    rqd.settle(rqd.claim_one("after"))
    rqd.store.requeue("a")
    rqd.settle(rqd.claim_one())
    assert rqd.ready("after") == []
    assert counts(rqd).is_done
    assert misplaced(rqd) == {}


def test_a_group_that_is_done_counts_at_once_and_one_that_is_none_is_refused(rqd: Driver) -> None:
    with pytest.raises(NoSuchJobError, match="waits for group 'g', which has no jobs"):
        rqd.enqueue(after("then"))
    rqd.enqueue(member("a", result_ttl_s=0))
    rqd.settle(rqd.claim_one())
    rqd.enqueue(after("then"))
    assert rqd.ready("after") == ["then"]


def test_jobs_that_come_later_are_waited_for_too(rqd: Driver) -> None:
    rqd.enqueue(member("a"), after("then"))
    rqd.enqueue(member("b", queue="other"))
    rqd.settle(rqd.claim_one())
    assert rqd.status("then") == "deferred"
    rqd.settle(rqd.claim_one("other"))
    assert rqd.status("then") == "queued"


def test_a_deferred_job_of_a_group_is_open_and_a_canceled_one_has_ended(rqd: Driver) -> None:
    rqd.enqueue("p", job("a", terms=waits_for("p", on_failure="cancel", group="g")), after("then"))
    assert counts(rqd).open == 1
    rqd.settle(rqd.claim_one(), "fail")
    assert counts(rqd) == GroupCounts(1, 0, 0, 0, 0, 1)
    assert rqd.ready("after") == ["then"]
    rqd.enqueue(job("late", terms=waits_for("p", on_failure="cancel", group="g")))
    assert counts(rqd) == GroupCounts(2, 0, 0, 0, 0, 2)


def test_a_requeued_or_replaced_job_is_open_again(rqd: Driver) -> None:
    rqd.enqueue(member("a"), member("b"))
    for claim in rqd.claim(2):
        rqd.settle(claim, "fail")
    assert rqd.ttl_s(rqd.keys.group("g")) > 0
    rqd.store.requeue("a")
    rqd.enqueue(member("b"))
    assert counts(rqd) == GroupCounts(2, 2, 0, 0, 0, 0)
    assert rqd.ttl_s(rqd.keys.group("g")) == rqd.ttl_s(rqd.keys.group_jobs("g")) == -1
    assert ids(rqd.claim(2)) == ["a", "b"]


@pytest.mark.parametrize("result_ttl_s", [0, 500])
def test_a_group_whose_last_job_is_replaced_waits_for_the_one_in_its_place(
    rqd: Driver, result_ttl_s: float
) -> None:
    key = Unique("k", on_conflict="replace").term()
    terms = dump_terms({"unique": key, "group": {"name": "g"}})
    rqd.enqueue(job("a", terms=terms, result_ttl_s=result_ttl_s), after("then"))

    rqd.enqueue(job("b", terms=terms))

    assert counts(rqd) == GroupCounts(2, 1, 0, 0, 0, 1)
    assert rqd.status("then") == "deferred"
    rqd.settle(rqd.claim_one())
    assert rqd.ready("after") == ["then"]


def test_a_member_that_is_canceled_at_once_does_not_end_its_group_before_the_rest_of_its_batch(
    rqd: Driver,
) -> None:
    rqd.enqueue("p")
    rqd.settle(rqd.claim_one(), "fail")

    canceled = job("a", terms=waits_for("p", on_failure="cancel", group="g"))
    rqd.enqueue(canceled, after("then"), member("b"))

    assert rqd.status("a") == "canceled"
    assert rqd.status("then") == "deferred"
    rqd.settle(rqd.claim_one())
    assert rqd.ready("after") == ["then"]


@pytest.mark.parametrize(
    ("result_ttl_s", "stays_s"), [(500, DAY_S), (0, DAY_S), (3 * DAY_S, 3 * DAY_S), (-1, -1)]
)
def test_a_group_stays_as_long_as_its_records_and_a_day_at_least(
    rqd: Driver, result_ttl_s: int, stays_s: int
) -> None:
    rqd.enqueue(member("a", result_ttl_s=result_ttl_s), member("b"))
    for claim in rqd.claim(2):
        rqd.settle(claim)
    keys = rqd.keys
    for key in (keys.group("g"), keys.group_jobs("g"), keys.group_ended("g")):
        assert rqd.ttl_s(key) == pytest.approx(stays_s, abs=10 if stays_s > 0 else 0)
    assert not rqd.redis.exists(rqd.keys.group_open("g"))
    if stays_s > 0:
        rqd.redis.zadd(rqd.keys.groups, {"g": 1})
        rqd.beat()
        assert not rqd.redis.exists(rqd.keys.groups)


@pytest.mark.parametrize("how", ["requeue", "delete", "enqueue"])
def test_a_group_expires_once_none_of_its_records_stays_for_ever(rqd: Driver, how: str) -> None:
    rqd.enqueue(member("a", failure_ttl_s=-1), member("b", failure_ttl_s=-1))
    for claim in rqd.claim(2):
        rqd.settle(claim, "fail")
    assert rqd.ttl_s(rqd.keys.group("g")) == -1
    rqd.store.delete("a")
    assert rqd.ttl_s(rqd.keys.group("g")) == -1
    rqd.enqueue(member("c", result_ttl_s=10))
    rqd.settle(rqd.claim_one())
    assert rqd.ttl_s(rqd.keys.group("g")) == -1

    if how == "delete":
        rqd.store.delete("b")
    else:
        rqd.enqueue(member("b", result_ttl_s=10)) if how == "enqueue" else rqd.store.requeue("b")
        assert rqd.ttl_s(rqd.keys.group("g")) == -1
        rqd.settle(rqd.claim_one())

    keys = rqd.keys
    for key in (keys.group("g"), keys.group_jobs("g"), keys.group_ended("g")):
        assert rqd.ttl_s(key) == pytest.approx(DAY_S, abs=10)
    assert counts(rqd).is_done


@pytest.mark.parametrize("how", ["plain", "in_group h"])
def test_a_group_forgets_a_job_whose_id_is_used_again_outside_of_it(rqd: Driver, how: str) -> None:
    rqd.enqueue(job("a", terms=in_group("g"), failure_ttl_s=-1), job("b", terms=in_group("g")))
    for claim in rqd.claim(2):
        rqd.settle(claim, "fail")
    assert rqd.ttl_s(rqd.keys.group("g")) == -1

    rqd.enqueue(job("a", terms=in_group("h") if how == "in_group h" else ""))

    assert rqd.views.group_job_ids("g") == ["b"]
    assert rqd.ttl_s(rqd.keys.group("g")) > 0
    rqd.store.delete("a")
    rqd.store.delete("b")
    assert not [name for name in rqd.names() if "group" in name]


def test_nothing_is_left_of_a_group_whose_jobs_were_deleted(rqd: Driver) -> None:
    rqd.enqueue(member("a"), member("b"))
    rqd.settle(rqd.claim_one(), "fail")
    rqd.store.delete("a")
    assert counts(rqd) == GroupCounts(1, 1, 0, 0, 0, 0)
    rqd.store.delete("b")
    assert left(rqd) == []


def test_an_enqueue_sent_again_joins_nobody_twice(rqd: Driver) -> None:
    rqd.enqueue(member("a"), after("then"), request="r")
    before = rqd.dump()
    rqd.enqueue(member("a"), after("then"), request="r")
    assert rqd.dump() == before


def test_more_wait_for_a_group_than_one_script_tells(rqd: Driver) -> None:
    rqd.enqueue(member("a"), *(after(f"t{number:03}") for number in range(150)))
    rqd.settle(rqd.claim_one())
    assert len(rqd.ready("after")) == 100
    rqd.beat()
    assert len(rqd.ready("after")) == 150


def test_a_groups_damaged_keys_keep_no_job_from_its_end(rqd: Driver) -> None:
    keys = rqd.keys
    for key in (keys.group, keys.group_jobs, keys.group_open, keys.group_ended):
        damaged = key("g")
        rqd.redis.flushall()
        rqd.enqueue(member("a"), member("b"), after("then"))
        rqd.redis.delete(damaged)
        rqd.redis.set(damaged, "something else")
        for claim, decision in zip(rqd.claim(2), ("finish", "fail"), strict=True):
            assert rqd.settle(claim, decision) == "settled"
        rqd.store.requeue("b")
        assert rqd.status("b") == "queued"
