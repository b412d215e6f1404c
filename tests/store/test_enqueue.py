"""enqueue.lua: all of the jobs or none, in order, once."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import redis

from rqd.model.errors import (
    ConfigurationError,
    DuplicateJobError,
    InvalidJobOperation,
    NoSuchJobError,
    PartlyEnqueuedError,
    RqdError,
)
from rqd.model.limits import RateLimit, Unique
from rqd.model.records import NewJob
from rqd.model.terms import dump_terms
from rqd.store.errors import no_server
from rqd.store.wire import INLINE_LIMIT_BYTES, portions
from tests.store.driving import Driver, ids, in_group, job, waits_for

BIG = b"x" * (INLINE_LIMIT_BYTES + 1)


def test_jobs_wait_in_the_order_of_their_enqueue(rqd: Driver) -> None:
    rqd.enqueue("a", "b")
    rqd.enqueue("c")

    assert rqd.ready() == ["a", "b", "c"]
    assert rqd.views.position("low", "c") == 2
    assert rqd.views.queue_names() == ["low"]


def test_an_enqueued_job_has_its_times_from_redis(rqd: Driver) -> None:
    now_us = rqd.enqueue("a")

    record = rqd.record("a")
    assert record.status == "queued"
    assert record.created_us == record.enqueued_us == now_us
    assert record.started_us is record.ended_us is None


def test_at_front_comes_before_all_that_wait_the_latest_first(rqd: Driver) -> None:
    rqd.enqueue("a")
    rqd.enqueue(job("b", at_front=True), job("c", at_front=True))

    assert rqd.ready() == ["c", "b", "a"]


@pytest.mark.parametrize("highest", [1, 4095])
def test_a_higher_priority_goes_first_even_before_at_front(rqd: Driver, highest: int) -> None:
    rqd.enqueue("a", job("b", priority=highest), job("c", priority=-highest))
    rqd.enqueue(job("d", at_front=True))

    assert rqd.ready() == ["b", "d", "a", "c"]


def test_a_scheduled_job_waits_apart_until_its_time(rqd: Driver) -> None:
    due_us = rqd.views.now_us() + 3_600_000_000
    rqd.enqueue(job("a", due_us=due_us))
    now_us = rqd.enqueue(job("b", delay_us=7_000_000))

    assert rqd.ready() == []
    assert now_us is not None
    assert rqd.record("a").due_us == due_us
    assert rqd.record("b").due_us == now_us + 7_000_000
    assert rqd.record("a").enqueued_us is None
    assert rqd.views.index_ids("low", "scheduled") == ["b", "a"]
    assert rqd.status("a") == "scheduled"


@pytest.mark.parametrize("how", ["queued", "scheduled", "started"])
def test_the_id_of_a_live_job_is_refused_with_the_whole_batch(rqd: Driver, how: str) -> None:
    rqd.enqueue(job("a", delay_us=10**9 if how == "scheduled" else None))
    if how == "started":
        rqd.claim_one()
    before = rqd.dump()

    with pytest.raises(DuplicateJobError, match="'a' is still alive"):
        rqd.enqueue("b", "a", "c")

    assert rqd.dump() == before


def test_an_id_given_twice_refuses_the_whole_batch(rqd: Driver) -> None:
    with pytest.raises(DuplicateJobError, match=r"'a'.*given twice"):
        rqd.enqueue(job("a"), job("a", queue="high"))

    assert rqd.names() == []


@pytest.mark.parametrize("decision", ["finish", "fail"])
def test_the_id_of_an_ended_job_is_used_again_and_its_old_record_is_gone(
    rqd: Driver, decision: str
) -> None:
    rqd.enqueue(job("a", payload=BIG))
    rqd.settle(rqd.claim_one(), decision, result=BIG)

    rqd.enqueue(job("a", queue="high"))

    assert rqd.status("a") == "queued"
    assert rqd.record("a").payload == b"call"
    assert rqd.record("a").attempt == 0
    assert rqd.views.attempts("a") == []
    for index in ("finished", "failed"):
        assert rqd.views.index_ids("low", index) == []
    assert [name for name in rqd.names() if ":precedence:" not in name] == [
        "{rqd}:counters",
        "{rqd}:job:a",
        "{rqd}:nonempty",
        "{rqd}:queue:high",
        "{rqd}:queues",
        "{rqd}:stats:high",
        "{rqd}:stats:low",
        "{rqd}:turn:m",
        "{rqd}:wake:queue:high",
        "{rqd}:wake:queue:low",
        "{rqd}:worker:m:1",
    ]


@pytest.mark.parametrize(
    "end", ["none", "claim", "finish", "finish_ttl_0", "finish_ttl_1", "delete"]
)
def test_an_enqueue_sent_twice_gives_the_first_answer_and_changes_nothing(
    rqd: Driver, end: str
) -> None:
    result_ttl_s = {"finish_ttl_0": 0, "finish_ttl_1": 1}.get(end, 500)
    batch = [job("a", result_ttl_s=result_ttl_s), job("b", delay_us=10**9)]
    first = rqd.enqueue(*batch, request="r1")
    if end not in ("none", "delete"):
        claim = rqd.claim_one()
        if end != "claim":
            assert rqd.settle(claim) == "settled"
    if end == "delete":
        rqd.store.delete("a")
    if end == "finish_ttl_1":
        rqd.redis.delete(rqd.keys.job("a"))  # as its time to live does, a second later
    before = rqd.dump()

    assert rqd.enqueue(*batch, request="r1") == first

    assert rqd.dump() == before


def test_a_job_that_expired_while_it_waited_is_not_made_again_by_a_replay(rqd: Driver) -> None:
    first = rqd.enqueue(job("a", ttl_s=1), request="r1")
    rqd.redis.delete(rqd.keys.job("a"))

    assert rqd.enqueue(job("a", ttl_s=1), request="r1") == first

    assert rqd.views.job("a") is None


@pytest.mark.parametrize(
    ("how", "options"),
    [
        ("scheduled", {"delay_us": 1}),
        ("deferred", {"terms": waits_for("p")}),
        ("requeued", {"delay_us": 10**9}),
        ("put back", {"delay_us": 1}),
    ],
)
def test_nor_is_one_whose_wait_began_later(rqd: Driver, how: str, options: dict[str, Any]) -> None:
    rqd.enqueue("p")
    first = rqd.enqueue(job("a", ttl_s=30, **options), request="r1")
    if how == "requeued":
        rqd.store.cancel("a")
        rqd.store.requeue("a")
    rqd.settle(rqd.claim_one())  # that of "p"
    if how == "put back":
        rqd.settle(rqd.claim_one(), "put_back", began=0)
    assert rqd.ready() == ["a"]
    rqd.redis.delete(rqd.keys.job("a"))

    assert rqd.enqueue(job("a", ttl_s=30, **options), request="r1") == first

    assert rqd.views.job("a") is None


def test_the_memory_of_a_replay_fades_and_is_kept_for_new_jobs_only(rqd: Driver) -> None:
    rqd.enqueue("new", "old")
    hour_ago_us = rqd.views.now_us() - 3_600_000_000
    rqd.redis.hset(rqd.keys.job("old"), "created_at", hour_ago_us)

    rqd.store.delete("new")
    rqd.store.delete("old")

    assert 0 < rqd.ttl_s(rqd.keys.request("new")) <= 60
    assert not rqd.redis.exists(rqd.keys.request("old"))


def test_a_large_payload_travels_beside_the_script(rqd: Driver) -> None:
    rqd.enqueue(job("a", payload=BIG))

    assert rqd.redis.get(rqd.keys.payload("a")) == BIG
    assert rqd.ttl_s(rqd.keys.payload("a")) == -1
    assert rqd.field("a", "payload") is None
    assert rqd.views.payload(rqd.record("a")) == BIG
    assert not [name for name in rqd.names() if "staged" in name]


def test_a_payload_lost_on_its_way_refuses_the_batch_before_anything_is_written(
    rqd: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rqd.store, "_stage", lambda _: None)

    with pytest.raises(RqdError, match="payload of job b"):
        rqd.enqueue(job("a"), job("b", payload=BIG))

    assert rqd.names() == []


@pytest.mark.parametrize(
    ("key", "batch"),
    [
        ("queues", [job("a")]),
        ("nonempty", [job("a")]),
        ("counters", [job("a")]),
        ("queue:low", [job("a")]),
        ("wake:queue:low", [job("a")]),
        ("job:a", [job("a")]),
        ("scheduled", [job("a", delay_us=1)]),
        ("masters", [job("a", delay_us=1)]),
        ("queue:low:scheduled", [job("a", delay_us=1)]),
    ],
)
def test_a_key_that_is_not_rqds_refuses_an_enqueue_before_its_first_write(
    rqd: Driver, key: str, batch: list[Any]
) -> None:
    rqd.redis.set(f"{{rqd}}:{key}", "not ours")
    before = rqd.dump()

    with pytest.raises(ConfigurationError, match=rf"\{{rqd\}}:{key} holds.*another --namespace"):
        rqd.enqueue(job("z"), *batch)

    assert rqd.dump() == before


def test_an_enqueue_leaves_one_marker_a_queue(rqd: Driver) -> None:
    rqd.enqueue("a", "b", job("c", queue="high"))

    for queue in ("low", "high"):
        assert rqd.redis.zrange(rqd.keys.wake_queue(queue), 0, -1) == [b"look"]


def test_an_earlier_due_time_wakes_the_masters_a_later_one_does_not(rqd: Driver) -> None:
    rqd.beat(master="m")
    wake = rqd.keys.wake_master("m")

    rqd.enqueue(job("a", delay_us=10**9))
    assert rqd.redis.delete(wake)
    rqd.enqueue(job("b", delay_us=10**10))
    assert not rqd.redis.exists(wake)
    rqd.enqueue(job("c", delay_us=10**8))
    assert rqd.redis.exists(wake)


@pytest.fixture
def in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ten plain jobs."""
    monkeypatch.setattr("rqd.store.wire.PORTION_US", 145)


def named(count: int) -> list[str]:
    return [f"j{number}" for number in range(count)]


@pytest.mark.usefixtures("in_portions")
def test_more_jobs_than_a_script_should_take_go_in_portions(rqd: Driver) -> None:
    rqd.redis.config_resetstat()
    rqd.enqueue(*named(25))

    assert rqd.ready() == named(25)
    stats = rqd.redis.info("commandstats")
    assert stats["cmdstat_evalsha"]["calls"] + stats.get("cmdstat_eval", {"calls": 0})["calls"] >= 6


UNIQUE = dump_terms({"unique": Unique("key").term()})
REPLACING = dump_terms({"unique": Unique("key", on_conflict="replace").term()})


@pytest.mark.usefixtures("in_portions")
@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ([job("alive")], DuplicateJobError),
        ([job("j3")], DuplicateJobError),
        ([job("new", terms=dump_terms({"unique": Unique("taken").term()}))], DuplicateJobError),
        ([job("one", terms=UNIQUE), *map(job, named(15)), job("b", terms=UNIQUE)], None),
        ([job("one", terms=UNIQUE), *map(job, named(15)), job("b", terms=REPLACING)], None),
        ([job("new", terms=waits_for("nobody"))], NoSuchJobError),
        ([job("new", terms=waits_for("later")), job("later")], NoSuchJobError),
        ([job("new", terms=waits_for("group:none"))], NoSuchJobError),
        ([job("member", terms=waits_for("waiting", group="g"))], InvalidJobOperation),
    ],
)
def test_what_is_refused_in_any_portion_is_refused_before_the_first_one_is_written(
    rqd: Driver, bad: list[NewJob], error: type[Exception] | None
) -> None:
    rqd.enqueue("alive", job("has-it", terms=dump_terms({"unique": Unique("taken").term()})))
    rqd.enqueue(job("first", terms=in_group("g")), job("waiting", terms=waits_for("group:g")))
    before = rqd.dump()
    batch = bad if error is None else [*map(job, named(25)), *bad]

    with pytest.raises(error or DuplicateJobError):
        rqd.enqueue(*batch)

    assert rqd.dump() == before


@pytest.mark.usefixtures("in_portions")
def test_a_job_finds_parents_groups_and_the_holder_of_its_key_in_portions_before_its_own(
    rqd: Driver,
) -> None:
    existing = dump_terms({"unique": Unique("key", on_conflict="existing").term()})
    batch = [job("one", terms=UNIQUE), job("member", terms=in_group("g")), *map(job, named(25))]
    batch += [job("left", terms=existing), job("child", terms=waits_for("j0", "one", "group:g"))]

    rqd.enqueue(*batch)

    assert batch[-2].holder_id == "one"
    assert rqd.views.job("left") is None
    assert rqd.status("child") == "deferred"
    for claim in rqd.claim(30):
        rqd.settle(claim)
    assert rqd.ready() == ["child"]


@pytest.mark.usefixtures("in_portions")
def test_a_key_that_got_free_between_the_look_and_the_enqueue_leaves_nobody_out(
    rqd: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    existing = dump_terms({"unique": Unique("key", on_conflict="existing").term()})
    rqd.enqueue(job("has-it", terms=UNIQUE))
    batch = [*map(job, named(25)), job("new", terms=existing)]
    between_look_and_enqueue(rqd, monkeypatch, lambda: rqd.store.cancel("has-it"))

    rqd.enqueue(*batch)

    assert batch[-1].holder_id == ""
    assert rqd.status("new") == "queued"


@pytest.mark.usefixtures("in_portions")
def test_a_refusal_that_comes_between_two_portions_says_which_jobs_are_enqueued(
    rqd: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Driver(rqd.url)
    between_look_and_enqueue(rqd, monkeypatch, lambda: other.enqueue("j24"))

    with pytest.raises(PartlyEnqueuedError, match=r"first 20 of 25 .*'j24' is still alive") as told:
        rqd.enqueue(*named(25))

    assert isinstance(told.value.__cause__, DuplicateJobError)
    assert list(told.value.job_ids) == named(20)
    assert rqd.ready() == ["j24", *named(20)]


@pytest.mark.usefixtures("in_portions")
def test_a_server_lost_between_two_portions_leaves_it_known_which_jobs_are_enqueued(
    rqd: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue = rqd.store._enqueue

    def lose(jobs: Sequence[NewJob], *how: Any) -> Any:
        if jobs[0].id == "j10":
            raise no_server(redis.ConnectionError("gone"), "redis://")
        return enqueue(jobs, *how)

    monkeypatch.setattr(rqd.store, "_enqueue", lose)
    with pytest.raises(PartlyEnqueuedError, match=r"10 of 25 jobs .* next 10 may be") as told:
        rqd.enqueue(*named(25))

    assert list(told.value.job_ids) == named(10) == rqd.ready()


@pytest.mark.usefixtures("in_portions")
def test_each_portion_is_safe_to_send_twice(rqd: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    run = rqd.store._run

    def twice(name: str, *args: Any) -> Any:
        first = run(name, *args)
        assert run(name, *args) == first or "look" in args
        return first

    monkeypatch.setattr(rqd.store, "_run", twice)
    rqd.enqueue(*named(25), job("child", terms=waits_for("j0", "j24")))

    assert rqd.ready() == named(25)


def between_look_and_enqueue(
    rqd: Driver, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]
) -> None:
    """Has this happen when a batch in portions was looked at, and nothing is written yet."""
    enqueue = rqd.store._enqueue_portions

    def meanwhile(*what: Any) -> Any:
        act()
        return enqueue(*what)

    monkeypatch.setattr(rqd.store, "_enqueue_portions", meanwhile)


def test_what_one_script_carries_is_bounded_in_bytes_too(
    rqd: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rqd.store.wire.PORTION_US", 100)
    large = [job(f"j{number}", payload=b"1" * 60_000) for number in range(5)]
    assert len(list(portions(large))) == 5

    rqd.enqueue(*large)

    assert len(rqd.ready()) == 5


def test_ttl_ends_the_wait_of_a_job_and_all_that_belongs_to_it(rqd: Driver) -> None:
    rqd.enqueue(job("a", ttl_s=30, payload=BIG))

    assert rqd.ttl_s(rqd.keys.job("a")) == rqd.left_of(30)
    assert rqd.ttl_s(rqd.keys.payload("a")) == rqd.left_of(30)

    rqd.claim_one()
    assert rqd.ttl_s(rqd.keys.job("a")) == -1
    assert rqd.ttl_s(rqd.keys.payload("a")) == -1


def test_an_expired_job_is_skipped_and_the_next_one_claimed(rqd: Driver) -> None:
    rqd.enqueue(job("gone", ttl_s=5), "b")
    rqd.redis.delete(rqd.keys.job("gone"))

    assert ids(rqd.claim(1)) == ["b"]
    assert rqd.ready() == []


def test_the_id_of_an_expired_job_made_anew_in_another_queue_runs_once_and_there(
    rqd: Driver,
) -> None:
    rqd.enqueue(job("a", ttl_s=5))
    rqd.redis.delete(rqd.keys.job("a"))
    rqd.enqueue(job("a", queue="high"))

    (claim,) = rqd.claim(2, "low", "high")

    assert (claim.id, claim.queue) == ("a", "high")
    assert rqd.views.index_ids("low", "started") == []


def test_times_to_live_and_limits_are_kept_to_the_second(rqd: Driver) -> None:
    rqd.enqueue(
        job("a", timeout_s=1_234_567.0, result_ttl_s=0.25, failure_ttl_s=-1, ttl_s=7_654_321.5),
        job("b", retries=2, retry_intervals=(1_234_567.0, 0.5)),
    )

    a, b = rqd.record("a"), rqd.record("b")
    assert (a.timeout_s, a.result_ttl_s, a.failure_ttl_s) == (1_234_567, 0.25, -1)
    assert a.ttl_s == 7_654_321.5
    assert b.retry_intervals == (1_234_567, 0.5)


def test_text_that_has_no_utf8_does_not_keep_a_job_from_redis(rqd: Driver) -> None:
    rqd.enqueue(job("a", description="caf\udce9"))

    assert rqd.record("a").description == "caf?"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"priority": -7, "retries": 2, "retry_intervals": (1, 60)},
        {"terms": dump_terms({"limit": RateLimit("k", 1).term()})},
        {"meta": b"m", "signature": "s", "meta_signature": "ms", "payload": b"x" * 60_000},
    ],
)
def test_a_job_enqueued_alone_stands_as_one_of_a_batch(rqd: Driver, fields: dict[str, Any]) -> None:
    rqd.enqueue(job("a", **fields), request="r")
    rqd.enqueue(job("b", **fields), job("c", **fields), request="r")

    alone, first, second = (rqd.redis.hgetall(rqd.keys.job(name)) for name in "abc")
    assert alone[b"created_at"] == alone[b"enqueued_at"] < first[b"created_at"]
    assert int(first[b"score"]) - int(alone[b"score"]) == 1
    assert alone.keys() == first.keys()
    for name in ("created_at", "enqueued_at", "score"):
        alone[name.encode()] = first[name.encode()] = second[name.encode()] = b""
    assert alone == first == second
    assert rqd.ready() == ["a", "b", "c"]


def test_an_enqueue_while_there_is_work_puts_the_marker_back(rqd: Driver) -> None:
    rqd.enqueue("a")
    assert rqd.redis.delete(rqd.keys.wake_queue("low"))

    rqd.enqueue("b")

    assert rqd.has_marker()


def test_an_id_used_again_shows_nothing_of_the_job_before_it(rqd: Driver) -> None:
    rqd.enqueue(job("a", result_ttl_s=0))
    rqd.settle(rqd.claim_one())
    assert rqd.views.attempts("a")  # for whoever still waits for it

    rqd.enqueue("a")

    assert rqd.views.attempts("a") == []
    rqd.settle(rqd.claim_one(), "retry", cause="raised", delay_us=10**9)
    assert rqd.ttl_s(rqd.keys.results("a")) == -1
