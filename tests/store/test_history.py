"""The history of queues in Redis: added once, kept for its time, read whatever stands there."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from redis import ResponseError

from rqd.model.history import OTHER_FUNCTION
from rqd.store.keys import ALL_QUEUES
from rqd.store.messages import QueueNumbers
from tests.store.driving import Driver, job

FIELDS = (("became finished", 3), ("run 2", 3), ("run sum", 60_000), ("run 2 1", 3))
DAY_US = 24 * 3600 * 1_000_000


def numbers(queue: str = "low", function: str = "app.send") -> QueueNumbers:
    return QueueNumbers(queue, (function,), FIELDS)


def total(rqd: Driver, queue: str = "low", width_s: int = 60) -> int:
    now_us = rqd.views.now_us()
    found = rqd.views.history([queue], now_us - 120_000_000, now_us, width_s)
    return sum(one.numbers.became.get("finished", 0) for one in found)


def test_numbers_are_added_to_the_minute_the_hour_all_queues_and_for_ever(rqd: Driver) -> None:
    rqd.enqueue("a")
    rqd.store.add_history("1", "m", numbers())
    now_us = rqd.store.add_history("2", "m", numbers())

    assert total(rqd) == total(rqd, width_s=3600) == total(rqd, ALL_QUEUES) == 6
    (own, functions) = rqd.views.metrics(["low"])["low"]
    assert (own.became, own.run.count, own.run.sum) == ({"finished": 6}, 6, 0.12)
    assert functions["app.send"].run.counts[2] == 6
    minute, hour = now_us // 60_000_000, now_us // 3_600_000_000
    kept = [
        rqd.redis.ttl(key)
        for key in (
            rqd.keys.history_minute("low", minute),
            rqd.keys.history_hour("low", hour),
            rqd.keys.metrics("low"),
        )
    ]
    assert kept == [pytest.approx(48 * 3600, abs=5), pytest.approx(90 * 86400, abs=5), -1]


def test_functions_are_kept_by_the_hour_for_a_week(rqd: Driver) -> None:
    rqd.enqueue("a")
    now_us = rqd.store.add_history("1", "m", numbers())

    assert rqd.views.function_history("low", now_us, now_us)["app.send"].ended == 3
    assert rqd.views.function_history("low", now_us - 2 * DAY_US, now_us - DAY_US) == {}
    key = rqd.keys.history_functions("low", now_us // 3_600_000_000)
    assert rqd.redis.ttl(key) == pytest.approx(7 * 86400, abs=5)


def test_a_request_that_is_sent_again_adds_nothing(rqd: Driver) -> None:
    rqd.enqueue("a")
    rqd.store.add_history("1", "m", numbers())
    before = rqd.dump()
    rqd.store.add_history("1", "m", numbers())
    assert rqd.dump() == before

    rqd.store.add_history("1", "another", numbers())
    assert total(rqd) == 6


def test_a_queue_that_was_deleted_stays_deleted(rqd: Driver) -> None:
    rqd.enqueue("a")
    rqd.store.add_history("1", "m", numbers())
    rqd.settle(rqd.claim_one())
    rqd.store.delete("a")
    assert rqd.store.forget_queue("low")
    assert rqd.redis.exists(rqd.keys.metrics("low"), f"{rqd.keys.prefix}metrics:functions:low") == 0

    rqd.store.add_history("2", "m", numbers())
    assert rqd.redis.exists(rqd.keys.metrics("low")) == 0


def test_of_a_queue_two_hundred_functions_are_named(rqd: Driver) -> None:
    rqd.enqueue("a")
    for number in range(203):
        rqd.store.add_history(f"{number}", "m", numbers(function=f"f{number}"))
    rqd.store.add_history("again", "m", numbers(function="f7"))

    _, functions = rqd.views.metrics(["low"])["low"]
    assert len(functions) == 201
    assert functions[OTHER_FUNCTION].ended == 9
    assert functions["f7"].ended == 6


def test_keys_that_hold_something_else_are_made_again_and_damaged_numbers_begin_again(
    rqd: Driver,
) -> None:
    rqd.enqueue("a")
    now_us = rqd.views.now_us()
    hour = rqd.keys.history_hour("low", now_us // 3_600_000_000)
    rqd.redis.set(hour, "no hash")
    rqd.redis.set(f"{rqd.keys.prefix}metrics:functions:low", "no set")
    rqd.redis.hset(rqd.keys.metrics("low"), "became finished", "many")
    rqd.redis.lpush(f"{rqd.keys.prefix}history-request:m", "no request")

    rqd.store.add_history("1", "m", numbers())

    own, _ = rqd.views.metrics(["low"])["low"]
    assert own.became == {"finished": 3}
    assert total(rqd, width_s=3600) == 3


def test_a_foreign_hash_and_a_foreign_key_are_read_as_nothing(rqd: Driver) -> None:
    now_us = rqd.views.now_us()
    minute = now_us // 60_000_000
    rqd.redis.set(rqd.keys.history_minute("low", minute), "text")
    rqd.redis.hset(rqd.keys.history_minute("low", minute - 1), "x", b"\xff\xfe")
    assert total(rqd) == 0


@pytest.mark.parametrize(
    "args",
    [
        ("1", "m", 1, "low", 0, 2, "became finished", "x"),
        ("1", "m", 1, "low", 0, 2, "became finished", "-5"),
        ("1", "m", 1, "low", 0, 3, "a", "1", "b"),
        ("1", "m", 2, "low", 0, 0),
        ("1",),
    ],
)
def test_arguments_that_are_none_are_refused_before_anything_is_written(
    rqd: Driver, args: tuple[Any, ...]
) -> None:
    rqd.enqueue("a")
    before = rqd.dump()
    with pytest.raises(ResponseError, match="none of this script's arguments"):
        rqd.store._run("add_history", *args)
    assert rqd.dump() == before


def test_intervals_have_no_gap_and_hours_are_read_where_minutes_are_not_kept(rqd: Driver) -> None:
    now_us = rqd.views.now_us()
    for days, width_s, expected_s in ((1, 900, 900), (7, 900, 3600), (30, 86400, 86400)):
        found = rqd.views.history(["low"], now_us - days * DAY_US, now_us, width_s)
        starts = [one.start_us for one in found]
        assert {later - one for one, later in pairwise(starts)} == {expected_s * 1_000_000}
        assert starts[0] <= now_us - days * DAY_US
        assert starts[-1] <= now_us < starts[-1] + expected_s * 1_000_000


def test_each_enqueue_is_counted_once(rqd: Driver) -> None:
    rqd.enqueue("a", request="one")
    rqd.enqueue("a", request="one")
    rqd.enqueue("b", "c", job("d", queue="high"))
    rqd.enqueue(*(f"e{number}" for number in range(30)))

    counts = {one.name: one.totals["enqueued"] for one in rqd.views.queue_counts(["low", "high"])}
    assert counts == {"low": 33, "high": 1}
