"""turn.lua, the half that claims: precedence, fences, promotion, markers."""

from dataclasses import replace

import pytest
from redis.exceptions import ResponseError

from rqd.store.messages import Turn
from rqd.store.wire import INLINE_LIMIT_BYTES
from tests.store.driving import LEASE_US, Driver, ids, job, settlement

BIG = b"x" * (INLINE_LIMIT_BYTES + 1)


def test_a_claim_carries_what_a_worker_needs(rqd: Driver) -> None:
    rqd.enqueue(job("a", timeout_s=7.5, retries=2, retry_intervals=(1, 2), serializer="json"))

    answer = rqd.turn(free=[3])

    (claim,) = answer.claims
    assert (claim.id, claim.queue, claim.worker, claim.attempt) == ("a", "low", 3, 1)
    assert (claim.func_name, claim.payload, claim.serializer) == ("tasks.f", b"call", "json")
    assert (claim.timeout_s, claim.retries_left, claim.retries_used) == (7.5, 2, 0)
    assert list(claim.retry_intervals) == [1, 2]
    assert answer.verdicts == ()
    assert answer.next_due_us is None


def test_a_claimed_job_is_started_leased_and_shown_with_its_worker(rqd: Driver) -> None:
    rqd.enqueue("a")

    answer = rqd.turn(free=[3])

    record = rqd.record("a")
    assert (record.status, record.attempt, record.worker) == ("started", 1, "m:3")
    assert record.started_us == answer.now_us
    assert record.fence == answer.claims[0].fence
    assert rqd.redis.zscore(rqd.keys.leases, "a") == answer.now_us + LEASE_US
    assert rqd.views.index_ids("low", "started") == ["a"]
    row = rqd.redis.hgetall(rqd.keys.worker("m", 3))
    assert (row[b"state"], row[b"job"], row[b"func_name"]) == (b"busy", b"a", b"tasks.f")
    assert 0 < rqd.ttl_s(rqd.keys.worker("m", 3)) <= LEASE_US / 1e6


def test_queues_are_served_in_strict_precedence(rqd: Driver) -> None:
    rqd.enqueue("l1", "l2", job("h1", queue="high"), job("n1", queue="normal"))
    order = ("high", "normal", "low")

    assert ids(rqd.claim(1, *order)) == ["h1"]
    rqd.enqueue(job("h2", queue="high"))
    assert ids(rqd.claim(3, *order)) == ["h2", "n1", "l1"]
    assert ids(rqd.claim(3, *order)) == ["l2"]
    assert ids(rqd.claim(3, *order)) == []


def test_a_queue_that_is_not_asked_for_is_left_alone(rqd: Driver) -> None:
    rqd.enqueue(job("h", queue="high"), "l")

    assert ids(rqd.claim(5, "low")) == ["l"]
    assert rqd.ready("high") == ["h"]


def test_fences_rise_with_every_claim_even_after_a_delete(rqd: Driver) -> None:
    fences = []
    for _ in range(3):
        rqd.enqueue("a", "b")
        claims = rqd.claim(2)
        fences += [claim.fence for claim in claims]
        rqd.store.delete("a")
        rqd.store.delete("b")

    assert fences == sorted(set(fences))


def test_fences_rise_when_the_counter_is_lost_and_when_the_clock_went_back(rqd: Driver) -> None:
    rqd.enqueue("a", "b", "c")
    first = rqd.claim_one().fence
    rqd.redis.hdel("{rqd}:counters", "fence")
    second = rqd.claim_one().fence
    ahead = rqd.views.now_us() + 10**12
    rqd.counters(fence=ahead)

    assert first < second
    assert rqd.claim_one().fence == ahead + 1


def test_a_turn_sent_twice_gives_the_first_verdicts_and_the_claims_still_held(rqd: Driver) -> None:
    from tests.store.driving import settlement

    rqd.enqueue("a", "b", job("c", payload=BIG))
    ended = settlement(rqd.claim_one())
    first = rqd.turn(ended, free=2, request="t1")
    before = rqd.dump()

    again = rqd.turn(ended, free=2, request="t1")

    assert first.verdicts == again.verdicts == ("settled",)
    assert ids(first.claims) == ["b", "c"]
    assert again.claims == first.claims
    assert again.claims[1].payload is None
    assert rqd.dump() == before

    rqd.store.delete("b")
    assert ids(rqd.turn(ended, free=2, request="t1").claims) == ["c"]


def test_a_turn_sent_twice_does_not_give_a_job_that_another_master_has_claimed_meanwhile(
    rqd: Driver,
) -> None:
    rqd.enqueue("a")
    assert ids(rqd.claim(request="t1")) == ["a"]
    rqd.expire_leases("a")
    rqd.beat(master="n")
    (theirs,) = rqd.claim(master="n")

    assert rqd.turn(free=1, request="t1").claims == ()
    assert rqd.field("a", "lease") == theirs.token.encode()


def test_a_turn_without_free_workers_claims_nothing(rqd: Driver) -> None:
    rqd.enqueue("a")

    assert rqd.turn().claims == ()
    assert rqd.ready() == ["a"]


def test_a_large_payload_is_fetched_on_its_own(rqd: Driver) -> None:
    rqd.enqueue(job("a", payload=BIG))

    assert rqd.claim_one().payload is None
    assert rqd.store.fetch_payload("a", 1 << 20) == BIG
    assert rqd.store.fetch_payload("a", 1000) == BIG[:1000]
    assert rqd.store.fetch_payload("b", 1 << 20) == b""


# -- scheduled jobs


def test_a_due_job_is_promoted_and_claimed_in_the_same_turn(rqd: Driver) -> None:
    rqd.enqueue("a", job("b", due_us=1))
    later_us = rqd.views.now_us() + 10**9
    rqd.enqueue(job("c", due_us=later_us), job("d", due_us=later_us + 5))

    answer = rqd.turn(free=3)

    assert ids(answer.claims) == ["a", "b"]
    assert answer.next_due_us == later_us
    assert rqd.views.index_ids("low", "scheduled") == ["c", "d"]
    assert rqd.record("b").enqueued_us == answer.now_us


def test_a_promoted_job_keeps_its_priority_and_its_place_at_the_front(rqd: Driver) -> None:
    rqd.enqueue("a", job("front", due_us=1, at_front=True), job("high", due_us=1, priority=5))

    assert ids(rqd.claim(3)) == ["high", "front", "a"]


def test_the_time_to_live_of_a_scheduled_job_begins_when_it_is_due(rqd: Driver) -> None:
    rqd.enqueue(job("a", due_us=1, ttl_s=30))
    assert rqd.ttl_s(rqd.keys.job("a")) == -1

    rqd.turn()

    assert rqd.ttl_s(rqd.keys.job("a")) == rqd.left_of(30)


def test_promotion_is_bounded_and_the_rest_is_due_at_once(rqd: Driver) -> None:
    rqd.enqueue(*(job(f"j{number:03}", due_us=1 + number) for number in range(103)))

    answer = rqd.turn()

    assert len(rqd.ready()) == 100
    assert answer.next_due_us is not None
    assert answer.next_due_us < answer.now_us
    assert rqd.turn().next_due_us is None
    assert len(rqd.ready()) == 103


def test_a_deleted_or_canceled_scheduled_job_is_not_promoted(rqd: Driver) -> None:
    rqd.enqueue(job("a", due_us=1), job("b", due_us=1))
    rqd.store.delete("a")
    rqd.store.cancel("b")

    assert rqd.turn(free=2).claims == ()
    assert rqd.turn().next_due_us is None


# -- markers


def test_a_scheduled_job_whose_hash_was_deleted_by_hand_leaves_no_trace(rqd: Driver) -> None:
    rqd.enqueue(job("a", due_us=1), job("b", due_us=1))
    rqd.redis.delete(rqd.keys.job("a"))

    assert [claim.id for claim in rqd.claim(2)] == ["b"]
    rqd.beat()

    assert rqd.redis.zrange(rqd.keys.index("low", "scheduled"), 0, -1) == []
    assert rqd.redis.zrange(rqd.keys.scheduled, 0, -1) == []


def test_a_claim_that_leaves_work_leaves_a_marker_for_the_next_idle_master(rqd: Driver) -> None:
    rqd.enqueue("a", "b")
    rqd.take_marker()

    rqd.claim(1)
    assert rqd.take_marker()
    rqd.claim(1)
    assert not rqd.has_marker()


def test_every_queue_with_work_left_has_its_marker_as_masters_serve_different_ones(
    rqd: Driver,
) -> None:
    rqd.enqueue(job("h1", queue="high"), job("h2", queue="high"), "l")
    for queue in ("high", "low"):
        rqd.take_marker(queue)

    rqd.claim(1, "high", "low")

    assert rqd.has_marker("high")
    assert rqd.has_marker("low")


def test_claims_that_drain_the_queues_leave_no_marker_and_no_trace_of_work(rqd: Driver) -> None:
    rqd.enqueue("a", job("h", queue="high"))
    for queue in ("high", "low"):
        rqd.take_marker(queue)

    rqd.claim(2, "high", "low")

    assert not rqd.has_marker("high")
    assert not rqd.has_marker("low")
    assert not rqd.redis.exists("{rqd}:nonempty")


def test_a_master_that_waits_for_itself_only_is_nudged_when_a_worker_stays_free(
    rqd: Driver,
) -> None:
    rqd.enqueue("a")
    wake = rqd.keys.wake_master("m")

    rqd.turn(free=1, nudge=True)
    assert not rqd.redis.exists(wake)
    rqd.turn(free=1, nudge=False)
    assert not rqd.redis.exists(wake)
    rqd.turn(free=1, nudge=True)
    assert rqd.redis.exists(wake)


# -- what can't be claimed


@pytest.mark.parametrize("lost", ["func_name", "serializer", "timeout"])
def test_a_job_whose_record_is_damaged_fails_and_its_neighbours_run(rqd: Driver, lost: str) -> None:
    rqd.enqueue("a", "b")
    rqd.redis.hdel(rqd.keys.job("a"), lost)

    answer = rqd.turn(free=2)
    assert ids(answer.claims) == ["b"]

    record = rqd.record("a")
    assert answer.set_aside == (("a", "low", record.cause),)
    assert record.status == "failed"
    assert record.cause.startswith("damaged")
    assert rqd.views.index_ids("low", "failed") == ["a"]
    assert rqd.ready() == []


@pytest.mark.parametrize("others", [(), ("b",)])
def test_a_turn_sent_twice_tells_again_which_jobs_failed_at_their_claim(
    rqd: Driver, others: tuple[str, ...]
) -> None:
    rqd.enqueue("a", *others)
    rqd.redis.hdel(rqd.keys.job("a"), "timeout")
    first = rqd.turn(free=2, request="t1")
    before = rqd.dump()

    again = rqd.turn(free=2, request="t1")

    assert replace(again, now_us=first.now_us) == first
    assert [job for job, *_ in first.set_aside] == ["a"]
    assert rqd.dump() == before
    assert rqd.turn(free=2, request="t2").set_aside == ()


def test_garbage_in_a_record_does_not_stop_the_master_that_claims_it(rqd: Driver) -> None:
    rqd.enqueue("a", "b", "c")
    rqd.redis.hset(rqd.keys.job("a"), "timeout", "soon")
    rqd.redis.hset(rqd.keys.job("b"), mapping={"func_name": b"\xff", "retry_intervals": b"x,\xfe"})

    claims = rqd.claim(3)

    assert ids(claims) == ["b", "c"]
    assert claims[0].retry_intervals == ()


def test_a_job_key_that_is_no_hash_is_skipped(rqd: Driver) -> None:
    rqd.enqueue("a", "b")
    rqd.redis.delete(rqd.keys.job("a"))
    rqd.redis.set(rqd.keys.job("a"), "not ours")

    assert ids(rqd.claim(2)) == ["b"]


@pytest.mark.parametrize("key", ["nonempty", "counters", "leases", "scheduled"])
def test_a_key_that_is_not_rqds_refuses_a_turn_before_its_first_write(
    rqd: Driver, key: str
) -> None:
    rqd.enqueue("a")
    rqd.redis.delete(f"{{rqd}}:{key}")
    rqd.redis.rpush(f"{{rqd}}:{key}", "not ours")
    before = rqd.dump()

    with pytest.raises(ResponseError, match=rf"WRONGTYPE \{{rqd\}}:{key} holds"):
        rqd.turn(free=1)

    assert rqd.dump() == before


NO_WORKERS = b"\0\0\0\0" * 2
GARBLED = (
    b"",
    b"\0\0\0\0",
    b"\0\0\0\xffab",
    b"\0\0\0\x04\0\0\0\x02" + NO_WORKERS,  # a settle without its texts
    b"\0\0\0\x04\xff\xff\xff\xff" + NO_WORKERS,
    b"\0\0\0\x09\0\0\0\x01\0\0\0\x01a" + NO_WORKERS,  # with one of seven
    b"\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\0",  # a worker with no pid
)


@pytest.mark.parametrize("packed", GARBLED)
def test_a_turn_whose_argument_is_garbled_does_nothing(rqd: Driver, packed: bytes) -> None:
    rqd.enqueue("a")
    rqd.turn()  # the server knows the script by now
    before = rqd.dump()
    command = rqd.store.turn_command(Turn("r", "m", LEASE_US, (), (1,), ("low",)))
    assert command[0] == "EVALSHA"

    with pytest.raises(ResponseError):
        rqd.redis.execute_command(*command[:8], packed, *command[9:])

    assert rqd.dump() == before


@pytest.mark.parametrize(
    "text", [None, b"\xc1not ours", b"r", b"r ", b"r \xc1", b"r \x81\xa1a\x01"]
)
def test_what_stands_in_the_place_of_a_turns_answer_makes_room(
    rqd: Driver, text: bytes | None
) -> None:
    rqd.enqueue("a")
    if text is None:
        rqd.redis.rpush("{rqd}:turn:m", "not ours")
    else:
        rqd.redis.set("{rqd}:turn:m", text)

    answer = rqd.turn(free=1, request="r")

    assert ids(answer.claims) == ["a"]
    assert rqd.turn(free=1, request="r").claims == answer.claims


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("timeout", "0x10"),
        ("timeout", "inf"),
        ("timeout", ""),
        ("retries_left", "1.5"),
        ("retries_used", "-1"),
        ("attempt", "x"),
        ("losses", "9" * 20),
        ("losses", "0" * 5000),
        ("origin", None),
        ("func_name", None),
    ],
)
def test_a_job_that_no_worker_can_use_fails_at_its_claim_and_says_why(
    rqd: Driver, field: str, value: str | None
) -> None:
    rqd.enqueue("damaged", "good")
    if value is None:
        rqd.redis.hdel(rqd.keys.job("damaged"), field)
    else:
        # Some are read only of a job that was claimed before.
        fields = {"attempt": "1", field: value}
        rqd.redis.hset(rqd.keys.job("damaged"), mapping=fields)

    assert ids(rqd.claim(2)) == ["good"]

    record = rqd.record("damaged")
    assert (record.status, record.origin) == ("failed", "low")
    assert record.cause == "damaged: its record in Redis lacks what a worker needs"
    assert rqd.views.index_ids("low", "failed") == ["damaged"]
    assert [attempt.type for attempt in rqd.views.attempts("damaged")] == ["failed"]


@pytest.mark.parametrize("key", ["queue:bad", "queue:bad:started"])
def test_a_queue_whose_keys_are_not_rqds_does_not_keep_others_waiting(
    rqd: Driver, key: str
) -> None:
    rqd.enqueue(job("b", queue="bad"), "a")
    rqd.redis.delete(f"{{rqd}}:{key}")
    rqd.redis.set(f"{{rqd}}:{key}", "not ours")

    assert ids(rqd.claim(2, "bad", "low")) == ["a"]


def test_many_expired_ids_are_cleared_without_holding_up_the_server_for_long(rqd: Driver) -> None:
    rqd.enqueue(*(job(f"j{number}", ttl_s=5) for number in range(250)), "live")
    rqd.redis.delete(*(rqd.keys.job(f"j{number}") for number in range(250)))

    assert rqd.claim(1) == []
    assert rqd.has_marker()  # work may be left: whoever is idle looks again
    assert ids(rqd.claim(1)) == ["live"]


# -- which queues have work


@pytest.mark.parametrize("with_work", [5, 200])
def test_of_many_queues_those_first_in_precedence_are_served(rqd: Driver, with_work: int) -> None:
    """Whether few of the queues have work or many, in slices or one by one."""
    names = [f"q{number:03}" for number in range(200)]
    rqd.enqueue(*(job(f"in-{name}", name) for name in names[:with_work]))
    served = [*names[100:], *reversed(names[:100])]

    expected = [f"in-{name}" for name in served if name in names[:with_work]]

    assert ids(rqd.claim(4, *served)) == expected[:4]
    assert ids(rqd.claim(3, *served)) == expected[4:7]


def test_work_in_queues_of_others_hides_no_work_at_the_end_of_a_precedence(rqd: Driver) -> None:
    rqd.enqueue(*(job(f"j{number}", f"other{number}") for number in range(60)))
    rqd.enqueue(job("mine", "q149"))

    assert ids(rqd.claim(1, *(f"q{number}" for number in range(150)))) == ["mine"]


def test_a_server_that_has_forgotten_the_precedence_is_told_again(rqd: Driver) -> None:
    rqd.enqueue(job("a", "low"), job("b", "high"), job("c", "high"))
    assert ids(rqd.claim(1, "high", "low")) == ["b"]
    for key in rqd.redis.keys("*precedence*"):
        rqd.redis.delete(key)

    assert ids(rqd.claim(2, "high", "low")) == ["c", "a"]
    assert all(rqd.ttl_s(key) > 0 for key in rqd.redis.keys("*precedence*"))


def test_jobs_behind_the_one_that_runs_are_claimed_and_the_row_still_shows_that_one(
    rqd: Driver,
) -> None:
    rqd.enqueue("a", "b", "c", "d")
    (first,) = rqd.claim()
    row = rqd.keys.worker("m", 1)

    behind = rqd.turn(ahead=[1, 1], busy=[1]).claims

    assert ids(behind) == ["b", "c"]
    assert {one.worker for one in behind} == {1}
    assert rqd.status("b") == "started"
    assert rqd.redis.hget(row, "job") == b"a"

    rqd.turn(settlement(first), busy=[1])
    assert rqd.redis.hmget(row, "job", "state", "done") == [b"a", b"busy", b"1"]

    rqd.turn(*map(settlement, behind))
    assert rqd.redis.hmget(row, "job", "state", "done") == [b"", b"idle", b"3"]


def test_who_is_free_comes_before_who_takes_one_ahead(rqd: Driver) -> None:
    rqd.enqueue("a", "b")

    claims = rqd.turn(free=[2], ahead=[1, 1], busy=[1]).claims

    assert [(one.id, one.worker) for one in claims] == [("a", 2), ("b", 1)]
    assert rqd.redis.hget(rqd.keys.worker("m", 2), "job") == b"a"


def test_a_claim_for_later_that_finds_too_little_wakes_nobody(rqd: Driver) -> None:
    rqd.enqueue("a")
    rqd.turn(ahead=[1, 1], busy=[1], nudge=True)

    assert not rqd.redis.exists(rqd.keys.wake_master("m"))


def test_more_jobs_than_lua_lists_at_once_are_claimed_with_their_leases(rqd: Driver) -> None:
    count = 4100
    rqd.enqueue(*(job(f"j{number}") for number in range(count)))

    claims = rqd.turn(ahead=[1] * count).claims

    assert len(claims) == count
    assert rqd.redis.zcard(rqd.keys.leases) == count
