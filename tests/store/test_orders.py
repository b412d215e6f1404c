"""Precedences that are not strict: each queue gets its share, and no job is lost or taken twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import pytest

from rqd.model.records import Claim
from rqd.store.messages import Turn
from tests.store.driving import LEASE_US, Driver, job
from tests.store.scenes import misplaced

ABC = ("a", "b", "c")


def fill(rqd: Driver, jobs: int, queues: Sequence[str] = ABC) -> None:
    rqd.enqueue(*(job(f"{queue}{n}", queue) for queue in queues for n in range(jobs)))


def claim(rqd: Driver, order: str, queues: Sequence[str] = ABC, free: int = 1) -> list[Claim]:
    """What one turn of a master with so many free workers brings."""
    request = rqd.store.request_id()
    workers = tuple(range(1, free + 1))
    turn = Turn(request, "m", LEASE_US, (), workers, tuple(queues), order=order)
    claims = list(rqd.store.turn(turn).claims)
    assert list(rqd.store.turn(turn).claims) == claims, "a replay brings the same"
    return claims


def in_rotation(rqd: Driver, free: int = 1, queues: Sequence[str] = ABC) -> Iterator[str]:
    last = ""
    while claims := claim(rqd, f"round_robin {last}", queues, free):
        yield from (one.queue for one in claims)
        last = claims[-1].queue


@pytest.mark.parametrize("free", [1, 2, 5])
def test_in_rotation_each_queue_gives_one_job_after_the_other(rqd: Driver, free: int) -> None:
    fill(rqd, 4)
    assert list(in_rotation(rqd, free)) == [*ABC] * 4
    assert misplaced(rqd) == {}


def test_a_queue_that_has_run_empty_is_passed_over(rqd: Driver) -> None:
    fill(rqd, 1, ["b"])
    fill(rqd, 3, ["a", "c"])
    assert list(in_rotation(rqd, 2)) == ["a", "b", "c", "a", "c", "a", "c"]


def test_the_rotation_goes_on_behind_a_queue_that_is_gone_from_it(rqd: Driver) -> None:
    fill(rqd, 1)
    (first,) = claim(rqd, "round_robin b")
    (second,) = claim(rqd, "round_robin nobody")
    assert (first.queue, second.queue) == ("c", "a")


def share(rqd: Driver, order: str, queues: Sequence[str]) -> Counter[str]:
    """Of which queues 300 jobs come, four a turn."""
    found: Counter[str] = Counter()
    for turn in range(75):
        found.update(one.queue for one in claim(rqd, f"{order} {turn * 7919}", queues, free=4))
    return found


def test_at_random_every_queue_has_its_chance(rqd: Driver) -> None:
    fill(rqd, 300)
    found = share(rqd, "random", ABC)
    assert all(70 < found[queue] < 130 for queue in ABC), found


def test_by_weight_a_queue_gets_as_much_as_it_weighs_and_none_starves(rqd: Driver) -> None:
    fill(rqd, 300)
    found = share(rqd, "weighted", ["7 a", "2 b", "1 c"])
    assert 180 < found["a"] < 240, found
    assert 35 < found["b"] < 85, found
    assert 10 < found["c"] < 50, found


@pytest.mark.parametrize("order", ["round_robin", "random", "weighted"])
def test_with_more_queues_than_are_looked_up_singly_all_jobs_are_found(
    rqd: Driver, order: str
) -> None:
    queues = [f"q{n:02}" for n in range(70)]
    fill(rqd, 2, queues)
    told = [f"3 {queue}" for queue in queues] if order == "weighted" else queues
    found: Counter[str] = Counter()
    for turn in range(20):
        found.update(one.queue for one in claim(rqd, f"{order} {turn}", told, free=10))
    assert found == dict.fromkeys(queues, 2)


@pytest.mark.parametrize("order", ["round_robin a", "random 5", "weighted x", "odd", " "])
def test_what_is_left_wakes_the_next_master_and_an_order_that_is_none_loses_nothing(
    rqd: Driver, order: str
) -> None:
    fill(rqd, 1)
    for queue in ABC:
        rqd.take_marker(queue)
    (one,) = claim(rqd, order)
    assert {queue for queue in ABC if rqd.has_marker(queue)} == {*ABC} - {one.queue}
    assert len(claim(rqd, order, free=5)) == 2


@pytest.mark.parametrize("order", ["round_robin a", "random 5", "weighted x"])
def test_a_queue_of_expired_jobs_is_looked_at_until_one_is_found(rqd: Driver, order: str) -> None:
    expired = [f"a{number}" for number in range(250)]
    rqd.enqueue(*(job(name, "a") for name in [*expired, "last"]))
    rqd.redis.delete(*(rqd.keys.job(name) for name in expired))
    rqd.take_marker("a")

    turn = Turn("r", "m", LEASE_US, (), (1,), ABC, order=order)
    assert rqd.store.turn(turn).claims == ()

    assert rqd.has_marker("a")
    assert [one.id for one in claim(rqd, order)] == ["last"]


def test_strict_precedence_is_told_as_before_and_a_new_order_of_the_same_queues_needs_no_telling(
    rqd: Driver,
) -> None:
    turn = Turn("r1", "m", LEASE_US, (), (1,), ABC)
    strict = rqd.store.turn_command(turn)
    again = rqd.store.turn_command(Turn("r2", "m", LEASE_US, (), (1,), ABC, order="random 1"))
    assert strict[-4:] == [3, *ABC]
    assert again[-2:] == [f"{strict[-5]} random 1", 0]
