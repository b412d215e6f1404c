"""`rqd history`: what it shows of numbers that are there, and of none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rqd.cli.history import sparkline, width_for
from rqd.client.connection import Backend
from rqd.store.connection import client_connection
from rqd.store.messages import QueueNumbers
from rqd.store.store import Store
from tests.cli.running import rqd

FIELDS = (
    *(("became finished", 40), ("became failed", 2), ("cause crashed", 2)),
    *(("run 3", 42), ("run sum", 1_500_000), ("wait 2", 42), ("wait sum", 700_000)),
    *(("run 3 1", 42), ("memory 1 1", 42), ("cpu sum 1", 900_000), ("cause crashed 1", 2)),
)


@pytest.fixture
def there(redis_url: str) -> Backend:
    store = Store(client_connection(redis_url))
    any_redis: Any = store.redis
    any_redis.sadd(store.keys.queues, "low", "idle")
    return Backend(store, redis_url)


@pytest.fixture
def ended(there: Backend) -> None:
    there.store.add_history("1", "m", QueueNumbers("low", ("app.send",), FIELDS))


def test_a_namespace_where_nothing_has_ended_says_so(there: Backend, redis_url: str) -> None:
    ran = rqd("history", url=redis_url)
    assert (ran.status, ran.out) == (0, "no attempt has ended in the last 24 h\n")


def test_each_queue_has_a_line_with_its_failures_and_times(ended: None, redis_url: str) -> None:
    lines = rqd("history", "--since", "6h", url=redis_url).out.splitlines()

    assert lines[0] == "the last 6 h"
    assert lines[1].split()[:5] == ["queue", "ended", "failed", "failed", "%"]
    cells = [line.split() for line in lines[2:]]
    assert [row[0] for row in cells] == ["idle", "low", "all"]
    assert cells[1][1:] == cells[2][1:]
    assert cells[1][1:4] == ["42", "2", "4.8"]
    assert "38 ms" in lines[3]  # the middle of 25 to 50 ms


def test_a_queue_has_a_line_for_each_interval_and_its_causes(ended: None, redis_url: str) -> None:
    lines = rqd("history", "low", "--since", "30m", url=redis_url).out.splitlines()

    assert lines[0] == "low, the last 30 min, by 2:00"
    assert sum(int(line.split()[2]) for line in lines[2:-1]) == 42
    assert lines[-1] == "  failed: 2 crashed"


def test_functions_are_listed_with_cpu_and_memory(ended: None, redis_url: str) -> None:
    lines = rqd("history", "--by-function", url=redis_url).out.splitlines()
    assert lines[2].split()[:6] == ["app.send", "low", "42", "2", "0.9", "15.6"]


def test_json_has_counts_percentiles_and_intervals(ended: None, redis_url: str) -> None:
    (low,) = json.loads(rqd("history", "low", "--json", url=redis_url).out)
    assert (low["queue"], low["ended"], low["failed"]) == ("low", 42, 2)
    assert low["causes"] == {"crashed": 2}
    assert sum(one["ended"] for one in low["intervals"]) == 42

    (send,) = json.loads(rqd("history", "--by-function", "--json", url=redis_url).out)
    assert (send["queue"], send["function"], send["ended"]) == ("low", "app.send", 42)
    assert send["run_s"]["p50"] == pytest.approx(0.0375)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nope",), "rqd: no queue 'nope': there are idle, low\n"),
        (("--since", "91d"), "rqd: --since 91d: write a time from 1m to 90d\n"),
        (("--by-function", "--since", "8d"), "rqd: --since 8d: write a time from 1m to 7d\n"),
        (("--since", "soon"), "rqd: --since 'soon' is no duration: write seconds, or '30s', "),
        (("--since", "-1"), "rqd: --since -1: write a time from 1m to 90d\n"),
    ],
)
def test_a_mistake_is_answered_in_one_line(
    there: Backend, redis_url: str, arguments: tuple[str, ...], said: str
) -> None:
    ran = rqd("history", *arguments, url=redis_url)
    assert ran.status != 0
    assert ran.err.startswith(said)
    assert ran.err.count("\n") == 1


def test_a_sparkline_is_empty_for_nothing_and_highest_for_the_most() -> None:
    assert sparkline([0, 1, 50, 100]) == " ▁▄█"
    assert sparkline([]) == ""


def test_some_two_dozen_intervals_span_any_time() -> None:
    for since_s in (60, 3600, 86400, 7 * 86400, 90 * 86400):
        width_s = width_for(since_s)
        assert since_s / width_s <= 24
        assert width_s % 60 == 0
