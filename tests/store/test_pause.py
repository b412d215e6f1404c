"""A paused queue's jobs wait, and wake nobody; a suspended namespace's do, whatever their queue."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rqd.model.records import Claim
from rqd.store.keys import ALL_QUEUES
from tests.store.driving import Driver, ids, job
from tests.store.scenes import misplaced

HOUR_US = 3600 * 10**6


@pytest.fixture(params=["low", ALL_QUEUES], ids=["queue", "all"])
def what(request: pytest.FixtureRequest) -> str:
    """What is paused: the queue, or everything."""
    return str(request.param)


def is_quiet(rqd: Driver, queue: str = "low") -> bool:
    """No marker wakes anybody for the queue, and no turn looks at it."""
    return not rqd.has_marker(queue) and not rqd.redis.exists(f"{rqd.keys.prefix}nonempty")


def end_pause(rqd: Driver, what: str) -> None:
    """As if the time of a pause had come."""
    rqd.redis.zadd(rqd.keys.scheduled, {f":resume:{what}": 1})


def test_nobody_gets_jobs_of_what_is_paused_and_all_of_them_after(rqd: Driver, what: str) -> None:
    rqd.enqueue("a")
    rqd.take_marker()

    rqd.store.pause(what)
    rqd.enqueue("b", "c")

    assert rqd.claim(3) == []
    assert rqd.ready() == ["a", "b", "c"]
    assert is_quiet(rqd)

    assert rqd.store.resume(what)
    assert ids(rqd.claim(3)) == ["a", "b", "c"]
    assert not rqd.store.resume(what)


def test_resuming_wakes_a_master(rqd: Driver) -> None:
    rqd.enqueue("a")
    rqd.store.pause("low")
    rqd.store.resume("low")
    assert rqd.has_marker()


def test_resuming_everything_wakes_every_master(rqd: Driver) -> None:
    rqd.store.hello("m", "b", 15, {})
    rqd.enqueue("a")
    rqd.store.pause(ALL_QUEUES)
    rqd.redis.delete(rqd.keys.wake_master("m"))
    rqd.store.resume(ALL_QUEUES)
    assert rqd.redis.exists(rqd.keys.wake_master("m"))


def lose(rqd: Driver) -> None:
    rqd.expire_leases("a")
    rqd.beat(master="other", boot="c")


WAYS: dict[str, Callable[[Driver, Claim], object]] = {
    "put back": lambda rqd, held: rqd.settle(held, "put_back"),
    "retried": lambda rqd, held: rqd.settle(held, "retry", cause="x"),
    "lost": lambda rqd, _: lose(rqd),
    "requeued": lambda rqd, held: (rqd.settle(held, "fail"), rqd.store.requeue("a")),
    "mended": lambda rqd, held: (rqd.settle(held, "put_back"), rqd.beat()),
}


@pytest.mark.parametrize("way", WAYS)
def test_whatever_way_a_job_comes_back_its_queue_stays_quiet(
    rqd: Driver, what: str, way: str
) -> None:
    rqd.store.hello("m", "b", 15, {})
    rqd.enqueue(job("a", retries=3))
    held = rqd.claim_one()
    rqd.take_marker()
    rqd.store.pause(what)

    WAYS[way](rqd, held)

    assert rqd.ready() == ["a"]
    assert is_quiet(rqd)
    assert rqd.claim(2) == []
    rqd.store.resume(what)
    assert ids(rqd.claim(2)) == ["a"]


def test_a_scheduled_job_waits_out_the_pause_in_its_queue(rqd: Driver, what: str) -> None:
    rqd.store.pause(what)
    rqd.enqueue(job("a", due_us=1))
    assert rqd.turn(free=1).claims == ()
    assert rqd.ready() == ["a"]
    assert is_quiet(rqd)


def test_a_pause_for_a_time_ends_by_itself_and_masters_are_told_when(
    rqd: Driver, what: str
) -> None:
    rqd.store.hello("m", "b", 15, {})
    rqd.enqueue("a")
    ends_at = rqd.store.pause(what, 3600)

    assert ends_at is not None
    assert 0 < ends_at - rqd.views.now_us() <= HOUR_US
    assert rqd.redis.exists(rqd.keys.wake_master("m"))
    answer = rqd.turn(free=1)
    assert (answer.claims, answer.next_due_us) == ((), ends_at)

    end_pause(rqd, what)
    assert ids(rqd.claim()) == ["a"]
    assert rqd.views.paused() == {}
    assert misplaced(rqd) == {}


def test_the_latest_word_on_a_pause_holds(rqd: Driver, what: str) -> None:
    rqd.store.pause(what, 60)
    assert rqd.store.pause(what) is None
    assert rqd.views.paused() == {what: None}
    assert rqd.turn(free=1).next_due_us is None  # the time of the first is no more

    rqd.store.pause(what, 60)
    rqd.store.resume(what)
    assert rqd.turn(free=1).next_due_us is None


def test_a_pause_sent_twice_is_one(rqd: Driver, what: str) -> None:
    rqd.enqueue("a")
    rqd.store.pause(what)
    before = rqd.dump()
    rqd.store.pause(what)
    assert rqd.dump() == before


def test_a_paused_queue_stays_so_when_everything_is_resumed(rqd: Driver) -> None:
    rqd.enqueue(job("a"), job("b", "high"))
    rqd.store.pause(ALL_QUEUES)
    rqd.store.pause("low")
    rqd.store.resume(ALL_QUEUES)
    assert ids(rqd.claim(2, "high", "low")) == ["b"]
    rqd.store.resume("low")
    assert ids(rqd.claim(2, "high", "low")) == ["a"]


def test_other_queues_go_on(rqd: Driver) -> None:
    rqd.enqueue(job("a"), job("b", "high"))
    rqd.store.pause("high")
    rqd.enqueue(job("c", "high"))
    assert ids(rqd.claim(3, "high", "low")) == ["a"]


def test_a_waiting_job_of_a_paused_queue_can_be_canceled_and_the_queue_emptied(
    rqd: Driver, what: str
) -> None:
    rqd.enqueue("a", "b")
    rqd.store.pause(what)
    assert rqd.store.cancel("a") == "queued"
    assert rqd.store.empty("low") == 1
    rqd.store.resume(what)
    assert rqd.claim(2) == []


def test_a_beat_tells_a_master_that_all_is_suspended(rqd: Driver) -> None:
    assert not rqd.beat().is_suspended
    rqd.store.pause("low")
    assert not rqd.beat().is_suspended
    rqd.store.pause(ALL_QUEUES)
    assert rqd.beat().is_suspended


def test_while_nothing_is_paused_an_enqueue_does_not_ask_for_its_queue(rqd: Driver) -> None:
    def asks() -> bool:
        rqd.redis.config_resetstat()
        rqd.enqueue(rqd.store.request_id().replace(".", "-"))
        return "cmdstat_zmscore" in rqd.redis.info("commandstats")

    assert not asks()
    rqd.store.pause("other")
    assert asks()
