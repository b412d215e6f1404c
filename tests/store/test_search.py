"""A search by steps is exact, whatever comes and goes, and reads whatever stands in Redis."""

from __future__ import annotations

import random
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import ResponseError

from rqd.model.errors import ConfigurationError, RqdError
from rqd.model.filter import Filter
from rqd.model.numbers import EXACT
from rqd.store.failure_groups import MOST_GROUPS
from rqd.store.search import Search
from rqd.store.walk import FoundJob, Page
from tests.store.driving import Driver, job, settlement

MANY = 20_000


def search(rqd: Driver) -> Search:
    return Search(rqd.store)


def fail(rqd: Driver, *names: str, queue: str = "low", how: str = "fail", **fields: Any) -> None:
    rqd.enqueue(*(job(name, queue) for name in names))
    fields = {"cause": "raised ValueError: no"} | fields
    claims = rqd.claim(len(names), queue)
    rqd.turn(*(settlement(one, how, **fields) for one in claims))


def made(
    rqd: Driver, count: int, queue: str = "low", score: Callable[[int], float] = float
) -> None:
    """Failed jobs as the scripts leave them, written at once: the later number has ended later."""
    rqd.redis.sadd(rqd.keys.queues, queue)
    with rqd.redis.pipeline(transaction=False) as pipe:
        for number in range(count):
            name = f"{queue}-{number:05d}"
            fields = {"status": "failed", "origin": queue, "func_name": f"tasks.f{number % 10}"}
            ended_us = int(min(score(number), EXACT - 1)) + 1
            fields |= {"cause": f"raised app.Bad: {number}", "ended_at": str(ended_us)}
            pipe.hset(rqd.keys.job(name), mapping=fields)
            pipe.zadd(rqd.keys.index(queue, "failed"), {name: "+inf"})
            pipe.zadd(rqd.keys.by_end(queue, "failed"), {name: score(number)})
            if number % 5000 == 4999:
                pipe.execute()
        pipe.execute()


def pages(rqd: Driver, wanted: Filter, limit: int = 50, **options: Any) -> list[Page]:
    found = [search(rqd).page(wanted, limit=limit, **options)]
    while found[-1].cursor:
        found.append(search(rqd).page(wanted, found[-1].cursor, limit, **options))
    return found


def ids(*found: Page) -> list[str]:
    return [one.id for page in found for one in page.jobs]


def matching(rqd: Driver, words: str) -> list[str]:
    return sorted(ids(*pages(rqd, Filter.parse(words))))


# -- which jobs match


@pytest.fixture
def _jobs(rqd: Driver) -> None:
    rqd.store.hello("m", "b", 15, {"workers": 2, "host": "web1"})
    fail(rqd, "3f-a", frame="tasks.py:3 send", host="web1")
    fail(rqd, "3f-b", cause="crashed: SIGSEGV", host="web2")
    fail(
        rqd,
        "c",
        queue="high",
        host="web2",
        cause="raised app.errors.Bad: disk full (raised ValueError)",
    )
    fail(rqd, "s", how="stop", cause="stopped by ops")
    rqd.enqueue("w", job("due", delay_us=10**9), job("child", terms=_waits_for("w")), "x", "r")
    rqd.store.cancel("x")
    rqd.claim(1)


def _waits_for(parent: str) -> str:
    return f'{{"depends_on":{{"ids":["{parent}"]}}}}'


@pytest.mark.usefixtures("_jobs")
@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("", "3f-a 3f-b c s"),
        ("state:stopped", "s"),
        ("state:started", "w"),
        ("state:queued", "r"),
        ("state:scheduled", "due"),
        ("state:deferred", "child"),
        ("state:canceled", "x"),
        ("state:finished", ""),
        ("queue:low", "3f-a 3f-b s"),
        ("queue:low,high cause:raised", "3f-a c"),
        ("queue:none", ""),
        ("function:tasks.f", "3f-a 3f-b c s"),
        ("function:t*sk*.f", "3f-a 3f-b c s"),
        ("function:*", "3f-a 3f-b c s"),
        ("function:tasks", ""),
        ("function:*tasks", ""),
        ("function:tasks.f*f", ""),
        ("function:t%a+", ""),
        ("cause:crashed", "3f-b"),
        ("cause:stopped", "s"),
        ("cause:SIGSEGV", "3f-b"),
        ("'cause:disk full'", "c"),
        ("cause:.*", ""),
        ("type:ValueError", "3f-a"),
        ("type:Bad", "c"),
        ("type:app.errors.Bad", "c"),
        ("type:ad", ""),
        ("'frame:tasks.py:3 send'", "3f-a"),
        ("frame:tasks.py:*", "3f-a"),
        ("frame:app.errors.Bad", "c"),
        ("frame:-", "3f-b s"),
        ("cause:other", ""),
        ("host:web2", "3f-b c"),
        ("host:web1", "3f-a s"),
        ("host:m", "3f-a 3f-b c s"),
        ("host:web", ""),
        ("id:3f", "3f-a 3f-b"),
        ("id:3f-b cause:raised", ""),
        ("since:1h", "3f-a 3f-b c s"),
        ("until:1h", ""),
        ("until:0", "3f-a 3f-b c s"),
        ("since:2990-01-01", ""),
        ("state:queued since:1h", "r"),
        ("state:scheduled since:1h", "due"),
        ("state:scheduled until:1h", ""),
        ("state:started since:1h host:web1", "w"),
    ],
)
def test_the_jobs_that_match_are_found_and_no_others(rqd: Driver, words: str, meant: str) -> None:
    assert matching(rqd, words) == meant.split()
    assert search(rqd).count(Filter.parse(words)).jobs == len(meant.split())


@pytest.mark.usefixtures("_jobs")
def test_a_job_is_found_with_its_facts(rqd: Driver) -> None:
    (found,) = search(rqd).page(Filter(id="3f-a")).jobs

    record = rqd.record("3f-a")
    assert found == FoundJob(
        *("3f-a", "low", "failed", "tasks.f", "raised ValueError: no", record.worker),
        *("web1", "tasks.py:3 send", 1, record.created_us, record.enqueued_us),
        *(record.started_us, record.ended_us, None),
    )


def test_a_job_that_waits_for_a_limit_is_queued(rqd: Driver) -> None:
    terms = '{"limit":{"key":"k","concurrency":1}}'
    rqd.enqueue(job("holds", terms=terms))
    rqd.claim(1)
    rqd.enqueue(job("waits", terms=terms), "ready")
    rqd.claim(1)

    assert matching(rqd, "state:queued") == ["waits"]


def test_a_job_that_runs_again_leaves_its_frame_and_host_behind(rqd: Driver) -> None:
    fail(rqd, "a", frame="f.py:1 f", host="web1")
    rqd.store.requeue("a")

    (found,) = search(rqd).page(Filter("queued")).jobs
    assert (found.frame, found.host, found.cause) == ("", "", "")


# -- the order, and pages


@pytest.mark.parametrize("limit", [7, 400, 3000])
def test_pages_that_follow_one_another_have_each_job_once_in_order(rqd: Driver, limit: int) -> None:
    made(rqd, 3000)
    made(rqd, 500, "high", lambda number: number * 6)

    found = pages(rqd, Filter(), limit, budget_s=None)

    everything = ids(*found)
    places = {
        name: rqd.redis.zscore(rqd.keys.index(name.split("-")[0], "failed"), name)
        for name in everything
    }
    assert len(places) == len(everything) == 3500
    assert [places[name] for name in everything] == sorted(places.values(), reverse=True)
    assert all(len(page.jobs) == limit for page in found[:-1])
    assert {page.total for page in found} == {3500}
    assert found[-1].looked_at == 3500


def test_ids_of_one_score_are_paged_through_like_any_others(rqd: Driver) -> None:
    made(rqd, 1300, score=lambda _: float("inf"))

    assert ids(*pages(rqd, Filter(), 90)) == sorted(
        (f"low-{number:05d}" for number in range(1300)), reverse=True
    )
    upward = pages(rqd, Filter(), 90, oldest_first=True)
    assert ids(*upward) == [f"low-{number:05d}" for number in range(1300)]


def test_waiting_jobs_come_in_the_order_of_their_turn_over_all_queues(rqd: Driver) -> None:
    for number, queue in enumerate(("low", "high", "low", "high")):
        rqd.enqueue(job(f"j{number}", queue))
    rqd.enqueue(job("urgent", "high", priority=5))

    assert ids(search(rqd).page(Filter("queued"))) == ["urgent", "j0", "j1", "j2", "j3"]


def test_a_search_through_dozens_of_queues_finds_the_latest(rqd: Driver) -> None:
    for number in range(60):
        made(rqd, 3, f"q{number}", lambda at, number=number: at * 1000 + number)  # type: ignore[misc]  # bound now

    assert ids(search(rqd).page(Filter(), limit=3)) == [
        f"q{number}-00002" for number in (59, 58, 57)
    ]
    for budget_s in (None, 0.0):
        found = ids(*pages(rqd, Filter(), 50, budget_s=budget_s))
        assert len(found) == len(set(found)) == 180


def test_a_search_is_over_within_its_budget_and_goes_on_from_there(rqd: Driver) -> None:
    made(rqd, MANY)
    wanted = Filter(cause="raised app.Bad: 77")
    meant = sorted(n for n in range(MANY) if str(n).startswith("77"))

    found = pages(rqd, wanted, 10_000, budget_s=0.0)

    assert len(found) > 10
    assert found[0].looked_at < found[1].looked_at < found[-1].looked_at == MANY
    assert sorted(int(name[4:]) for name in ids(*found)) == meant
    assert search(rqd).count(wanted).jobs == len(meant)
    part = search(rqd).count(wanted, budget_s=0.0)
    assert (part.is_whole, part.looked_at < part.total) == (False, True)


@pytest.mark.parametrize("seed", range(4))
def test_jobs_that_stay_are_found_once_while_others_come_and_go(rqd: Driver, seed: int) -> None:
    dice = random.Random(seed)
    made(rqd, 2000, score=lambda number: float(number // 7))
    index = rqd.keys.index("low", "failed")
    staying = {f"low-{number:05d}" for number in range(0, 2000, 2)}
    leaving = sorted({f"low-{number:05d}" for number in range(2000)} - staying)
    dice.shuffle(leaving)
    wanted, cursor, found = Filter(), "", list[str]()
    is_upward = bool(seed % 2)

    while True:
        page = search(rqd).page(wanted, cursor, dice.randint(1, 60), oldest_first=is_upward)
        found += ids(page)
        cursor = page.cursor
        if not cursor:
            break
        for name in (*(leaving.pop() for _ in range(min(20, len(leaving)))), *found[-1:]):
            if name not in staying:
                rqd.store.delete(name)
        new = f"new-{len(found)}"
        rqd.redis.hset(rqd.keys.job(new), mapping={"status": "failed", "origin": "low"})
        rqd.redis.zadd(index, {new: dice.randint(0, 300)})

    old = [name for name in found if name in staying]
    assert len(old) == len(set(old))
    assert set(old) == staying
    assert len(found) == len(set(found))


def test_a_job_that_fails_again_meanwhile_is_not_found_twice(rqd: Driver) -> None:
    fail(rqd, *(f"j{number}" for number in range(40)))
    page = search(rqd).page(Filter(), limit=20)
    for one in page.jobs[-1:]:
        rqd.store.requeue(one.id)
        rqd.settle(rqd.claim_one(), "fail", cause="again")

    rest = search(rqd).page(Filter(), page.cursor, limit=40)

    assert sorted(ids(page, rest)) == sorted(f"j{number}" for number in range(40))


# -- a part of the time


@pytest.mark.parametrize("oldest_first", [False, True])
def test_of_ended_jobs_only_those_of_the_time_are_looked_at(
    rqd: Driver, oldest_first: bool
) -> None:
    # All in the year 2001, a second apart; two queues.
    start_us = 1_000_000_000_000_000
    for queue in ("high", "low"):
        made(rqd, 1000, queue, lambda number: start_us + number * 1_000_000)
    wanted = Filter(since="2001-09-09T01:50:00", until="2001-09-09T01:58:20.5")
    found = pages(rqd, wanted, limit=70, oldest_first=oldest_first)
    meant = [f"{queue}-{number:05d}" for number in range(200, 701) for queue in ("high", "low")]
    assert sorted(ids(*found)) == sorted(meant)
    ends = [one.ended_us or 0 for page in found for one in page.jobs]
    assert ends == sorted(ends, reverse=not oldest_first)
    assert [page.total for page in found] == [1002] * len(found)
    assert found[0].looked_at < found[-1].looked_at == 1002
    counted = search(rqd).count(wanted)
    assert (counted.jobs, counted.looked_at, counted.total, counted.is_whole) == (
        *(1002, 1002, 1002, True),
    )
    assert search(rqd).totals(wanted) == {"high": 501, "low": 501}
    groups = search(rqd).failure_groups(wanted, None)
    assert (sum(one.jobs for one in groups.groups), groups.looked_at) == (1002, 1002)


def test_a_time_in_which_nothing_ended_asks_nothing_further(rqd: Driver) -> None:
    made(rqd, 1000)
    assert search(rqd).page(Filter(since="1h")) == Page((), "", 0, 0)


# -- what others wrote


@pytest.mark.parametrize(
    "cursor",
    ["x", "-", "é", "a" * 5000, "====", "\n", "bmFuIGE", urlsafe_b64encode(b"1e999999 a").decode()],
)
def test_a_cursor_that_was_tampered_with_is_refused_in_one_line(rqd: Driver, cursor: str) -> None:
    fail(rqd, "a")

    with pytest.raises(ConfigurationError, match="begin again without it"):
        search(rqd).page(Filter(), cursor)


@pytest.mark.parametrize(
    "place", [b"inf ", b"-inf zz", b"1 \xff\x00", b"1e300 a b", b"12 " + b"x" * 300]
)
def test_any_other_cursor_is_a_place_in_the_index(rqd: Driver, place: bytes) -> None:
    fail(rqd, "a")
    cursor = urlsafe_b64encode(place).decode()

    assert ids(search(rqd).page(Filter(), cursor)) in ([], ["a"])


def test_hostile_records_are_passed_over_or_read_as_text(rqd: Driver) -> None:
    fail(rqd, "good", "list", "none", "moved", "bare", "odd")
    index = rqd.keys.by_end("low", "failed")
    for name in ("list", "none"):
        rqd.redis.delete(rqd.keys.job(name))
    rqd.redis.rpush(rqd.keys.job("list"), "x")
    rqd.redis.hset(rqd.keys.job("moved"), "origin", "high")
    rqd.redis.hdel(rqd.keys.job("bare"), "func_name", "cause", "ended_at", "attempt")
    evil = b"\xff\x1b[2J" * 1000
    odd = {"func_name": evil, "cause": evil, "ended_at": "inf", "attempt": b"9" * 99, "frame": evil}
    rqd.redis.hset(rqd.keys.job("odd"), mapping=odd)
    names: list[bytes] = [b"\xff" * 400, b"y" * 100_000, b"a b", b"", b"\x00"]
    for number, raw in enumerate(names):
        rqd.redis.zadd(index, {raw: number})
        rqd.redis.hset(b"{rqd}:job:" + raw, mapping={"origin": "low", "status": "failed"})

    found = {one.id: one for one in _each(rqd, oldest_first=False)}
    assert sorted(found) == ["bare", "good", "odd"]
    assert {one.id: one for one in _each(rqd, oldest_first=True)} == found
    assert (found["bare"].function, found["bare"].ended_us, found["bare"].attempt) == ("", None, 0)
    assert (len(found["odd"].cause), found["odd"].ended_us, found["odd"].attempt) == (512, None, 0)
    groups = search(rqd).failure_groups(Filter())
    assert sum(one.jobs for one in groups.groups) == 3 + len(names)
    for words in ("since:1h", "host:x", "type:x", "function:*x*"):
        search(rqd).count(Filter.parse(words))


def _each(rqd: Driver, oldest_first: bool) -> list[FoundJob]:
    found, cursor = list[FoundJob](), ""
    for _ in range(50):
        page = search(rqd).page(Filter(), cursor, 1, oldest_first=oldest_first)
        found += page.jobs
        cursor = page.cursor
        assert len(cursor) < 1000
        if not cursor:
            return found
    raise AssertionError("the search does not end")


def test_a_key_that_holds_something_else_is_named(rqd: Driver) -> None:
    fail(rqd, "a")
    rqd.redis.delete(rqd.keys.by_end("low", "failed"))
    rqd.redis.set(rqd.keys.by_end("low", "failed"), "x")

    with pytest.raises((RqdError, ResponseError), match="by-end:failed:low holds something"):
        search(rqd).page(Filter())


@pytest.mark.parametrize("args", [[], ["low"], ["low", "failed", "", "x", "", 1, 1, "jobs", 0, 0]])
def test_arguments_that_are_none_are_refused(rqd: Driver, args: list[Any]) -> None:
    with pytest.raises(Exception, match="none of this script's arguments"):
        rqd.store.search(*args)


def test_a_search_writes_nothing(rqd: Driver) -> None:
    fail(rqd, "a", "b")
    before = rqd.dump()

    search(rqd).page(Filter(function="t*"), limit=1)
    search(rqd).count(Filter())
    search(rqd).failure_groups(Filter())

    assert rqd.dump() == before


# -- failures in groups


def test_failures_are_grouped_by_kind_function_and_innermost_frame(rqd: Driver) -> None:
    fail(rqd, "a", "b", frame="tasks.py:3 send")
    fail(rqd, "c", frame="tasks.py:9 send")
    fail(rqd, "d", cause="crashed: SIGSEGV", frame="tasks.py:3 send")
    fail(rqd, "e", "f", queue="high", cause="raised app.Bad: e")
    fail(rqd, "g", cause="damaged: odd")

    found = search(rqd).failure_groups(Filter())

    assert (found.looked_at, found.total, found.is_whole, found.ungrouped) == (7, 7, True, 0)
    facts = {(one.kind, one.function, one.frame): one.jobs for one in found.groups}
    assert facts == {
        ("raised", "tasks.f", "tasks.py:3 send"): 2,
        ("raised", "tasks.f", "app.Bad"): 2,
        ("raised", "tasks.f", "tasks.py:9 send"): 1,
        ("crashed", "tasks.f", "tasks.py:3 send"): 1,
        ("other", "tasks.f", ""): 1,
    }
    assert [one.jobs for one in found.groups] == [2, 2, 1, 1, 1]
    for group in found.groups:
        assert search(rqd).count(group.within(Filter())).jobs == group.jobs
    first = next(one for one in found.groups if one.frame == "tasks.py:3 send")
    assert first.first_us == rqd.record("a").ended_us
    assert first.last_us == rqd.record("b").ended_us
    assert first.example_id in ("a", "b")
    assert first.example_cause == "raised ValueError: no"


def test_groups_of_a_part_go_on_to_the_groups_of_all(rqd: Driver) -> None:
    made(rqd, MANY)
    parts = [search(rqd).failure_groups(Filter(), budget_s=0.0)]
    while not parts[-1].is_whole:
        parts.append(search(rqd).failure_groups(Filter(), 0.0, parts[-1]))

    assert len(parts) > 10
    assert parts[0].looked_at < parts[-1].looked_at == parts[-1].total == MANY
    assert [(one.function, one.frame, one.jobs) for one in parts[-1].groups] == [
        (f"tasks.f{number}", "app.Bad", MANY // 10) for number in range(9, -1, -1)
    ]
    last = parts[-1].groups[0]
    assert (last.first_us, last.last_us, last.example_id) == (10, MANY, f"low-{MANY - 1:05d}")


def test_frames_without_end_fill_no_memory(rqd: Driver) -> None:
    count = MOST_GROUPS + 500
    made(rqd, count)
    with rqd.redis.pipeline(transaction=False) as pipe:
        for number in range(count):
            pipe.hset(rqd.keys.job(f"low-{number:05d}"), "frame", f"f.py:{number} f")
        pipe.execute()

    found = search(rqd).failure_groups(Filter(), None)

    assert (len(found.groups), found.ungrouped) == (MOST_GROUPS, 500)
