"""Jobs that wait for others: ready where the last parent ends, and never forgotten."""

from __future__ import annotations

from typing import Any

import pytest

from rqd.model.errors import (
    ConfigurationError,
    DuplicateJobError,
    InvalidJobOperation,
    NoSuchJobError,
)
from rqd.model.limits import Unique
from rqd.model.records import NewJob
from rqd.model.terms import dump_terms
from tests.store.driving import Driver, calls_back, ids, in_group, job, settlement, waits_for
from tests.store.scenes import misplaced


def child(job_id: str, *parents: str, on_failure: str = "", **fields: Any) -> NewJob:
    return job(job_id, terms=waits_for(*parents, on_failure=on_failure), **fields)


def finish(rqd: Driver, *names: str) -> None:
    """Runs these, which are next, to their success."""
    for claim in rqd.claim(len(names)):
        assert claim.id in names
        rqd.settle(claim)


def is_clean(rqd: Driver) -> bool:
    """Whether nothing is left of who waited for whom."""
    left = [n for n in rqd.names() if "awaited" in n or "dependents" in n or "ended:" in n]
    return not left and not rqd.redis.exists("{rqd}:endings") and misplaced(rqd) == {}


def test_a_job_with_an_unfinished_parent_is_deferred_until_it_ends(rqd: Driver) -> None:
    rqd.enqueue("a")
    rqd.enqueue(child("b", "a"))

    assert (rqd.status("b"), rqd.record("b").enqueued_us) == ("deferred", None)
    assert rqd.views.index_ids("low", "deferred") == ["b"]
    assert rqd.views.dependent_ids("a") == ["b"]
    (claim,) = rqd.claim(5)
    rqd.take_marker()
    answer = rqd.turn(settlement(claim), free=1)

    assert ids(answer.claims) == ["b"]  # in the very turn in which its parent ended
    assert is_clean(rqd)


def test_the_last_of_several_parents_makes_it_ready_across_queues(rqd: Driver) -> None:
    rqd.enqueue(job("a", "high"), job("b", "low"))
    rqd.enqueue(job("c", "other", terms=waits_for("a", "b")))

    rqd.settle(rqd.claim_one("high"))
    assert rqd.status("c") == "deferred"
    rqd.settle(rqd.claim_one("low"))
    assert rqd.ready("other") == ["c"]
    assert rqd.has_marker("other")
    assert is_clean(rqd)


def test_parents_that_have_finished_count_at_once(rqd: Driver) -> None:
    rqd.enqueue("a")
    finish(rqd, "a")
    now_us = rqd.enqueue(child("b", "a"), child("later", "a", delay_us=10**9))

    assert (rqd.status("b"), rqd.record("b").enqueued_us) == ("queued", now_us)
    assert rqd.status("later") == "scheduled"
    assert is_clean(rqd)


def test_a_parent_whose_record_is_gone_after_its_success_counts(rqd: Driver) -> None:
    rqd.enqueue(job("a", result_ttl_s=0), "b")
    rqd.enqueue(child("c", "a", "b"))
    finish(rqd, "a")
    rqd.beat()
    assert (rqd.views.job("a"), rqd.status("c")) == (None, "deferred")
    finish(rqd, "b")
    assert rqd.ready() == ["c"]


def test_a_diamond_in_one_batch(rqd: Driver) -> None:
    rqd.enqueue("a", child("b", "a"), child("c", "a"), child("d", "b", "c"))

    order = []
    while claims := rqd.claim(4):
        order.append(sorted(ids(claims)))
        for claim in claims:
            rqd.settle(claim)
    assert order == [["a"], ["b", "c"], ["d"]]
    assert is_clean(rqd)


@pytest.mark.parametrize("parent", ["none", "b", "later"])
def test_a_parent_that_is_not_there_refuses_the_whole_batch(rqd: Driver, parent: str) -> None:
    with pytest.raises(NoSuchJobError, match=f"'b' depends on '{parent}'"):
        rqd.enqueue("first", child("b", parent), "later")
    assert rqd.names() == []


@pytest.mark.parametrize("ending", ["fail", "stop", "cancel"])
def test_a_parents_failure_leaves_its_dependents_waiting_for_its_requeue(
    rqd: Driver, ending: str
) -> None:
    rqd.enqueue("a")
    rqd.enqueue(child("b", "a"))
    fail(rqd, "a", ending)

    rqd.beat()
    assert rqd.views.index_ids("low", "deferred") == ["b"]
    assert rqd.views.dependent_ids("a") == ["b"]
    rqd.store.requeue("a")
    finish(rqd, "a")
    assert rqd.ready() == ["b"]
    assert is_clean(rqd)


@pytest.mark.parametrize("ending", ["fail", "stop", "cancel", "delete", "expire"])
def test_allow_failure_lets_a_job_run_after_any_end(rqd: Driver, ending: str) -> None:
    rqd.enqueue("a")
    rqd.enqueue(child("b", "a", on_failure="run"))
    fail(rqd, "a", ending)
    assert rqd.ready() == ["b"]
    if ending not in ("delete", "expire"):
        rqd.enqueue(child("c", "a", on_failure="run"))
        assert rqd.ready() == ["b", "c"]
    assert is_clean(rqd)


@pytest.mark.parametrize("ending", ["fail", "stop", "cancel", "delete", "expire"])
def test_a_failure_can_cancel_what_waits_and_what_waits_for_that(rqd: Driver, ending: str) -> None:
    rqd.enqueue("a", "other")
    rqd.enqueue(child("b", "a", "other", on_failure="cancel"))
    rqd.enqueue(child("c", "b", on_failure="cancel"), child("d", "b"))
    fail(rqd, "a", ending)

    assert (rqd.status("b"), rqd.status("c"), rqd.status("d")) == (
        "canceled",
        "canceled",
        "deferred",
    )
    assert rqd.record("b").cause.startswith("canceled: its parent a ")
    assert rqd.views.dependent_ids("other") == []
    assert rqd.ttl_s(rqd.keys.job("b")) > 0
    if ending not in ("delete", "expire"):
        rqd.enqueue(child("late", "a", on_failure="cancel"))
        assert rqd.status("late") == "canceled"
    assert misplaced(rqd) == {}


@pytest.mark.parametrize("ending", ["delete", "expire"])
def test_a_parent_that_is_gone_for_good_cancels_what_waited_for_it(
    rqd: Driver, ending: str
) -> None:
    rqd.enqueue("a")
    rqd.enqueue(child("b", "a"), child("c", "b"))
    fail(rqd, "a", ending)
    assert (rqd.status("b"), rqd.status("c")) == ("canceled", "deferred")
    assert "its parent a is gone" in rqd.record("b").cause


@pytest.mark.parametrize("ending", ["fail", "stop", "cancel"])
def test_so_does_one_that_failed_and_has_no_record_to_be_requeued(rqd: Driver, ending: str) -> None:
    rqd.enqueue(job("a", failure_ttl_s=0), child("b", "a"), child("c", "a", on_failure="run"))
    if ending == "cancel":
        rqd.store.cancel("a")
    else:
        rqd.settle(rqd.claim_one(), ending)
    assert (rqd.status("b"), rqd.ready()) == ("canceled", ["c"])
    assert "its parent a is gone" in rqd.record("b").cause

    rqd.enqueue(job("a", failure_ttl_s=0), child("d", "a"))
    rqd.store.cancel("a", enqueue_dependents=True)
    assert rqd.ready() == ["c", "d"]


def test_delete_can_take_all_that_waits_with_it(rqd: Driver) -> None:
    rqd.enqueue("a", "other", child("b", "a", "other"), child("c", "b"), child("d", "c"))
    rqd.store.delete("a", delete_dependents=True)
    assert [rqd.views.job(name) for name in "abcd"] == [None] * 4
    assert rqd.views.dependent_ids("other") == []
    assert is_clean(rqd)


def test_cancel_can_let_those_that_wait_go_on(rqd: Driver) -> None:
    rqd.enqueue("a", child("b", "a"), child("c", "a"))
    rqd.store.cancel("b")
    rqd.store.cancel("a", enqueue_dependents=True)
    assert rqd.ready() == ["c"]
    rqd.enqueue("x", child("y", "x"))
    rqd.store.cancel("x")
    rqd.store.cancel("x", enqueue_dependents=True)  # it may be thought of later
    assert rqd.ready() == ["c", "y"]
    assert is_clean(rqd)


def test_a_canceled_or_deleted_child_leaves_its_parents(rqd: Driver) -> None:
    rqd.enqueue("a", child("b", "a"), child("c", "a", on_failure="run"))
    rqd.store.cancel("b")
    rqd.store.delete("c")
    assert is_clean(rqd)
    finish(rqd, "a")
    assert rqd.ready() == []
    rqd.store.requeue("b")
    assert rqd.ready() == ["b"]


def test_time_counts_after_the_parents(rqd: Driver) -> None:
    rqd.enqueue("a", child("b", "a", delay_us=10**9), child("c", "a", due_us=1))
    finish(rqd, "a")
    assert (rqd.status("b"), rqd.status("c")) == ("scheduled", "queued")
    assert rqd.views.index_ids("low", "scheduled") == ["b"]


def test_a_child_can_go_to_the_front_and_its_time_to_wait_begins_when_it_is_ready(
    rqd: Driver,
) -> None:
    rqd.enqueue("a", child("b", "a", at_front=True, ttl_s=60), child("c", "a"), "d")
    assert rqd.ttl_s(rqd.keys.job("b")) == -1
    finish(rqd, "a")
    assert rqd.ready() == ["b", "d", "c"]
    assert rqd.ttl_s(rqd.keys.job("b")) == rqd.left_of(60)


@pytest.mark.parametrize("ending", ["finish", "delete", "cancel"])
def test_more_dependents_than_one_script_tells_are_told_in_turn(rqd: Driver, ending: str) -> None:
    names = [f"c{number:03}" for number in range(250)]
    on_failure = "cancel" if ending == "cancel" else ""
    rqd.enqueue("a", *(child(name, "a", on_failure=on_failure) for name in names))
    if ending == "finish":
        finish(rqd, "a")
        assert rqd.ready() == names[:100]
    else:
        fail(rqd, "a", ending)
        assert rqd.views.index_ids("low", "canceled")[-100:] == names[:100]
    # Meanwhile the id may come to mean another job, which those do not wait for.
    rqd.enqueue(job("a", "other"))
    rqd.enqueue(child("x", "a"))
    rqd.claim(1, "nothing here")
    assert len(rqd.views.index_ids("low", "deferred")) == 51
    rqd.beat()
    assert rqd.views.index_ids("low", "deferred") == ["x"]
    assert rqd.field("b", "behind") is None
    if ending == "finish":
        assert rqd.ready() == names
    rqd.settle(rqd.claim_one("other"))
    assert is_clean(rqd)


def test_a_tree_of_cancels_is_bounded_and_complete(rqd: Driver) -> None:
    """300 in a row: each that is canceled ends what waits for it."""
    chain = [child(f"c{n}", f"c{n - 1}" if n else "a", on_failure="cancel") for n in range(300)]
    rqd.enqueue("a", *chain)
    rqd.store.cancel("a")
    assert 90 <= len(rqd.views.index_ids("low", "canceled")) <= 102
    for _ in range(3):
        rqd.beat()
    assert len(rqd.views.index_ids("low", "canceled")) == 301
    assert is_clean(rqd)


def in_circle(job_id: str, *parents: str, group: str = "g", **fields: Any) -> NewJob:
    return job(job_id, terms=waits_for(*parents, group=group), **fields)


@pytest.mark.parametrize("parent", ["report", "mail", "group:h"])
@pytest.mark.parametrize("is_one_batch", [False, True])
def test_a_job_that_would_wait_for_its_own_group_by_way_of_others_is_refused(
    rqd: Driver, parent: str, is_one_batch: bool
) -> None:
    report = in_circle("report", "group:g", group="h")
    before = [job("member", terms=in_group("g")), report, child("mail", "report")]
    late = [job("late"), in_circle("chained", "member"), in_circle("c", "chained", parent)]
    refusal = "job (c of group g|report of group h) depends on a job that waits for this group"
    if is_one_batch:
        with pytest.raises(InvalidJobOperation, match=refusal):
            rqd.enqueue(*before, *late)
        assert rqd.names() == []
        rqd.enqueue(*before, *late[:2])
    else:
        rqd.enqueue(*before)
        there = rqd.dump()
        with pytest.raises(InvalidJobOperation, match=refusal):
            rqd.enqueue(*late)
        assert rqd.dump() == there
        rqd.enqueue(*late[:2])
    for names in (["member", "late"], ["chained"], ["report"], ["mail"]):
        finish(rqd, *names)
    assert is_clean(rqd)


@pytest.mark.parametrize("parents", [["old"], ["other"], ["here"]])
def test_a_job_that_would_wait_for_the_one_it_replaces_is_refused(
    rqd: Driver, parents: list[str]
) -> None:
    key = {"unique": Unique("u", "finished", "replace").term()}
    rqd.enqueue(job("old", terms=dump_terms(key)), child("other", "old"))
    before = rqd.dump()
    new = job("new", terms=dump_terms(key | {"depends_on": {"ids": parents}}))

    with pytest.raises(InvalidJobOperation, match="job new depends on old, which it would replace"):
        rqd.enqueue(child("here", "other"), new)

    assert rqd.dump() == before
    finish(rqd, "old")
    finish(rqd, "other")
    assert is_clean(rqd)


@pytest.mark.parametrize("ending", ["fail", "finish"])
def test_an_ended_id_used_again_is_what_its_dependents_wait_for(rqd: Driver, ending: str) -> None:
    rqd.enqueue("a", child("b", "a"))
    rqd.settle(rqd.claim_one(), "fail")
    with pytest.raises(DuplicateJobError, match="other jobs still wait for 'a'"):
        rqd.enqueue(child("a", "b"))  # they would wait for one another
    rqd.enqueue("a")
    rqd.settle(rqd.claim_one(), ending)
    assert rqd.status("b") == ("queued" if ending == "finish" else "deferred")
    assert misplaced(rqd) == {}


@pytest.mark.parametrize("on_failure", ["", "run", "cancel"])
@pytest.mark.parametrize("options", [{}, {"delay_us": 1}])
def test_a_new_job_takes_the_part_of_a_parent_that_expired_before_anybody_saw_that(
    rqd: Driver, on_failure: str, options: dict[str, Any]
) -> None:
    rqd.enqueue(job("a", ttl_s=900), child("b", "a", on_failure=on_failure))
    rqd.redis.delete(rqd.keys.job("a"))

    rqd.enqueue(job("a", result_ttl_s=0, **options))
    rqd.turn()
    finish(rqd, "a")

    assert rqd.ready() == ["b"]


def test_so_does_a_callback_that_is_made_again(rqd: Driver) -> None:
    rqd.enqueue(job("p", terms=calls_back(failed="a")))
    rqd.settle(rqd.claim_one(), "fail")
    rqd.settle(rqd.claim_one(), "fail")
    rqd.enqueue(child("b", "a"))
    rqd.redis.delete(rqd.keys.job("a"))

    rqd.store.requeue("p")
    rqd.settle(rqd.claim_one(), "fail")
    finish(rqd, "a")

    assert rqd.ready() == ["b"]


def test_sent_again_an_ending_and_an_enqueue_change_nothing(rqd: Driver) -> None:
    rqd.enqueue("a", request="first")
    rqd.enqueue(child("b", "a"), request="second")
    claim = rqd.claim_one()
    rqd.turn(settlement(claim), request="third")
    before = rqd.dump()
    rqd.turn(settlement(claim), request="third")
    assert rqd.dump() == before
    assert rqd.settle(claim) == "already"
    assert rqd.ready() == ["b"]
    rqd.store.delete("a")
    rqd.enqueue(child("b", "a"), request="second")  # its parent may be gone by now
    assert rqd.ready() == ["b"]


def test_a_lost_parent_that_is_given_up_concerns_its_dependents(rqd: Driver) -> None:
    rqd.enqueue("a", child("b", "a", on_failure="run"))
    for _ in range(3):
        rqd.claim_one()
        rqd.expire_leases("a")
        rqd.beat()
    assert (rqd.status("a"), rqd.ready()) == ("failed", ["b"])


def test_what_a_mistake_took_out_is_mended_or_said(rqd: Driver) -> None:
    rqd.enqueue("a", child("b", "a"), child("c", "a"), child("d", "a"), child("e", "a"))
    rqd.redis.delete(rqd.keys.dependents("a"))
    rqd.redis.hdel(rqd.keys.job("a"), "dependents")
    rqd.redis.delete(rqd.keys.awaited("c"))
    rqd.redis.set(rqd.keys.awaited("d"), "something else")
    rqd.redis.delete(rqd.keys.job("e"))
    for _ in range(20):
        rqd.beat()
    assert (rqd.status("c"), rqd.status("d")) == ("failed", "failed")
    assert rqd.record("c").cause.startswith("damaged: ")
    finish(rqd, "a")
    assert rqd.ready() == ["b"]
    assert is_clean(rqd)


def test_endings_that_are_none_are_passed_over(rqd: Driver) -> None:
    rqd.enqueue("a", child("b", "a"))
    rqd.redis.rpush("{rqd}:endings", "nothing", "x:1 finished", "a:1 nonsense")
    rqd.redis.zadd("{rqd}:ended:x:1", {"b": 1, "none": 2})
    finish(rqd, "a")
    assert rqd.ready() == ["b"]
    assert is_clean(rqd)


def fail(rqd: Driver, job_id: str, ending: str) -> None:
    match ending:
        case "fail":
            rqd.settle(rqd.claim_one(), "fail")
        case "stop":
            rqd.settle(rqd.claim_one(), "fail")
            rqd.redis.hset(rqd.keys.job(job_id), "status", "stopped")
        case "cancel":
            rqd.store.cancel(job_id)
        case "delete":
            rqd.store.delete(job_id)
        case "expire":
            rqd.redis.delete(rqd.keys.job(job_id))
            rqd.redis.zrem(rqd.keys.ready("low"), job_id)
            for _ in range(20):
                rqd.beat()


def with_expired_namesake(rqd: Driver) -> None:
    """A `child` expired and left its place; another one of its id waits for `parent`."""
    rqd.enqueue(job("child", ttl_s=900), "parent")
    rqd.redis.delete(rqd.keys.job("child"))
    rqd.enqueue(job("child", terms=waits_for("parent", on_failure="run")))


def test_who_comes_back_in_the_claim_that_passed_over_its_expired_namesake_is_not_lost(
    rqd: Driver,
) -> None:
    with_expired_namesake(rqd)
    rqd.redis.hdel(rqd.keys.job("parent"), "func_name")

    assert ids(rqd.claim(2)) == ["child"]
    assert rqd.status("parent") == "failed"


def test_who_comes_back_in_the_emptying_that_passed_over_its_expired_namesake_is_not_lost(
    rqd: Driver,
) -> None:
    with_expired_namesake(rqd)

    rqd.store.ask("empty", "low")  # its first portion

    assert rqd.status("child") == "queued"
    assert misplaced(rqd) == {}
    assert rqd.store.empty("low") == 1


@pytest.mark.parametrize("key", ["group:g", "group:g:dependents", "job:parent:dependents"])
def test_a_key_of_a_parent_that_holds_something_else_stops_no_beat_and_no_enqueue_half_way(
    rqd: Driver, key: str
) -> None:
    parents = ("parent", "group:g")
    rqd.enqueue("parent", job("member", terms=in_group("g")))
    rqd.enqueue(child("waits", *parents))
    rqd.redis.delete(f"{{rqd}}:{key}")
    rqd.redis.set(f"{{rqd}}:{key}", "something else")
    before = rqd.dump()

    with pytest.raises(ConfigurationError, match=f"WRONGTYPE {{rqd}}:{key} holds something"):
        rqd.enqueue(child("other", *parents))
    assert rqd.dump() == before

    for _ in range(5):
        rqd.beat()
