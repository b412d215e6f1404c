"""turn.lua, the half that settles: what an attempt's outcome makes of a job, once."""

from typing import Any

import pytest
from redis.exceptions import ResponseError

from rqd.model.records import Claim
from rqd.store.wire import INLINE_LIMIT_BYTES
from tests.store.driving import Driver, ids, job, settlement
from tests.store.scenes import misplaced

BIG = b"x" * (INLINE_LIMIT_BYTES + 1)


def claimed(rqd: Driver, **fields: Any) -> Claim:
    rqd.enqueue(job("a", **fields))
    return rqd.claim_one()


def test_a_finished_job_has_its_result_and_its_times(rqd: Driver) -> None:
    claim = claimed(rqd)

    answer = rqd.turn(settlement(claim, result=b"42", pid=7))

    assert answer.verdicts == ("settled",)
    record = rqd.record("a")
    assert record.status == "finished"
    assert record.ended_us == answer.now_us
    assert record.fence == claim.fence
    (attempt,) = rqd.views.attempts("a")
    assert (attempt.type, attempt.attempt, attempt.text("pid")) == ("successful", 1, "7")
    assert attempt.created_us == answer.now_us
    assert rqd.views.result_bytes("a", attempt) == b"42"
    assert rqd.views.index_ids("low", "finished") == ["a"]
    assert rqd.views.index_ids("low", "started") == []
    assert not rqd.redis.exists(rqd.keys.leases)
    assert rqd.redis.hget(rqd.keys.stats("low"), "finished") == b"1"


def test_a_failed_job_has_its_cause(rqd: Driver) -> None:
    rqd.settle(claimed(rqd), "fail", cause="raised ValueError", exc_string="Traceback")

    record = rqd.record("a")
    assert (record.status, record.cause) == ("failed", "raised ValueError")
    (attempt,) = rqd.views.attempts("a")
    assert (attempt.type, attempt.text("exc_string")) == ("failed", "Traceback")
    assert rqd.views.index_ids("low", "failed") == ["a"]
    assert rqd.redis.hget(rqd.keys.stats("low"), "failed") == b"1"


@pytest.mark.parametrize("decision", ["finish", "fail", "retry", "stop"])
def test_a_moved_job_names_the_worker_that_ran_it(rqd: Driver, decision: str) -> None:
    rqd.settle(claimed(rqd), decision, worker="m:2", cause="why")

    assert rqd.record("a").worker == "m:2"
    (attempt,) = rqd.views.attempts("a")
    assert (attempt.text("worker"), attempt.text("cause")) == ("", "why")


def test_the_workers_row_counts_what_it_did_and_is_idle_again(rqd: Driver) -> None:
    rqd.enqueue("a", "b", "c")
    for decision in ("finish", "fail", "put_back"):
        rqd.settle(rqd.claim_one(), decision)

    row = rqd.redis.hgetall(rqd.keys.worker("m", 1))
    assert (row[b"done"], row[b"failed"], row[b"state"], row[b"job"]) == (b"1", b"1", b"idle", b"")
    assert rqd.ttl_s(rqd.keys.worker("m", 1)) > 0


def test_a_worker_that_gets_its_next_job_in_the_same_turn_stays_busy(rqd: Driver) -> None:
    rqd.enqueue("a", "b")
    claim = rqd.claim_one()

    rqd.turn(settlement(claim), free=1)

    row = rqd.redis.hgetall(rqd.keys.worker("m", 1))
    assert (row[b"state"], row[b"job"], row[b"done"]) == (b"busy", b"b", b"1")


@pytest.mark.parametrize("decision", ["finish", "repeat", "fail", "retry", "put_back"])
def test_a_settle_sent_twice_counts_once(rqd: Driver, decision: str) -> None:
    claim = claimed(rqd, retries=1)
    assert rqd.settle(claim, decision) == "settled"
    record, attempts = rqd.record("a"), rqd.views.attempts("a")

    assert rqd.settle(claim, decision) == "already"

    assert rqd.record("a") == record
    assert rqd.views.attempts("a") == attempts


@pytest.mark.parametrize("decision", ["finish", "repeat", "fail", "retry", "put_back"])
def test_a_stale_token_changes_nothing(rqd: Driver, decision: str) -> None:
    stale = claimed(rqd)
    rqd.expire_leases("a")
    rqd.beat(master="other")
    held = rqd.claim_one()
    record = rqd.record("a")

    assert rqd.settle(stale, decision) == "stale"

    assert rqd.record("a") == record
    assert rqd.views.attempts("a") == []
    assert rqd.settle(held) == "settled"
    assert rqd.settle(stale, decision) == "stale"


def test_the_token_of_a_deleted_jobs_claim_does_not_settle_the_one_made_anew(rqd: Driver) -> None:
    stale = claimed(rqd)
    rqd.store.delete("a")
    assert rqd.settle(stale) == "gone"

    rqd.enqueue("a")
    assert rqd.settle(stale) == "stale"
    assert rqd.status("a") == "queued"


def test_verdicts_come_in_the_order_of_the_settlements(rqd: Driver) -> None:
    rqd.enqueue("a", "b", "c")
    a, b, c = rqd.claim(3)
    rqd.store.delete("b")
    rqd.settle(c)

    answer = rqd.turn(settlement(a), settlement(b), settlement(c))

    assert answer.verdicts == ("settled", "gone", "already")


# -- put back


def test_a_job_put_back_keeps_its_place_and_is_charged_nothing(rqd: Driver) -> None:
    rqd.enqueue("a", "b", "c")
    a, b = rqd.claim(2)
    rqd.enqueue(job("d", at_front=True))

    rqd.turn(settlement(b, "put_back"), settlement(a, "put_back"))

    assert rqd.ready() == ["d", "a", "b", "c"]
    record = rqd.record("a")
    assert (record.status, record.attempt, record.retries_left) == ("queued", 0, 0)
    assert rqd.views.attempts("a") == []
    assert rqd.views.index_ids("low", "started") == []
    assert not rqd.redis.exists(rqd.keys.leases)
    assert rqd.has_marker()


def test_a_job_put_back_is_claimed_again_as_the_same_attempt(rqd: Driver) -> None:
    first = claimed(rqd)
    rqd.settle(first, "put_back")

    again = rqd.claim_one()

    assert again.attempt == first.attempt == 1
    assert again.fence > first.fence


def test_a_turn_may_put_back_and_claim_the_same_job(rqd: Driver) -> None:
    claim = claimed(rqd)

    answer = rqd.turn(settlement(claim, "put_back"), free=1)

    assert answer.verdicts == ("settled",)
    assert ids(answer.claims) == ["a"]


# -- retries


def test_a_retry_now_waits_behind_the_others_with_one_retry_less(rqd: Driver) -> None:
    rqd.enqueue(job("a", retries=2), "b")
    claim = rqd.claim_one()

    answer = rqd.turn(settlement(claim, "retry", cause="raised KeyError"))

    assert rqd.ready() == ["b", "a"]
    record = rqd.record("a")
    assert (record.status, record.retries_left, record.attempt) == ("queued", 1, 1)
    assert (record.cause, record.enqueued_us) == ("raised KeyError", answer.now_us)
    assert rqd.views.attempts("a")[0].type == "retried"
    rqd.claim_one()
    second = rqd.claim_one()
    assert (second.attempt, second.retries_left, second.retries_used) == (2, 1, 1)


def test_a_retry_later_is_scheduled_and_the_answer_tells_when(rqd: Driver) -> None:
    claim = claimed(rqd, retries=1)

    answer = rqd.turn(settlement(claim, "retry", delay_us=60_000_000))

    assert answer.next_due_us == answer.now_us + 60_000_000
    assert rqd.status("a") == "scheduled"
    assert rqd.views.index_ids("low", "scheduled") == ["a"]
    assert rqd.ready() == []


def test_the_cause_of_a_retry_is_gone_after_success(rqd: Driver) -> None:
    rqd.settle(claimed(rqd, retries=1), "retry", cause="raised KeyError")
    rqd.settle(rqd.claim_one())

    assert rqd.record("a").cause == ""
    assert [attempt.type for attempt in rqd.views.attempts("a")] == ["successful", "retried"]


def test_the_ten_latest_attempts_stay(rqd: Driver) -> None:
    rqd.enqueue(job("a", retries=20))
    for _ in range(12):
        rqd.settle(rqd.claim_one(), "retry")

    assert [attempt.attempt for attempt in rqd.views.attempts("a")] == list(range(12, 2, -1))


def test_what_a_retry_followed_is_counted_once_and_comes_with_the_next_claim(rqd: Driver) -> None:
    claim = claimed(rqd, retries=3)
    assert claim.tally == {}
    for _ in range(2):  # its answer was lost
        rqd.settle(claim, "retry", run_again_for="timeout")
    asked = rqd.claim_one()
    rqd.settle(asked, "retry", run_again_for="asked")

    last, again = rqd.claim_one(request="r"), rqd.claim_one(request="r")

    assert asked.tally == {"timeout": 1}
    assert last.tally == again.tally == {"timeout": 1, "asked": 1}
    assert (last.attempt, last.retries_left, last.retries_used) == (3, 2, 1)
    row = rqd.redis.hgetall(rqd.keys.worker("m", 1))
    assert row[b"failed"] == b"1"


@pytest.mark.parametrize("damaged", ["nonsense", "[1]", '{"asked":[]}', '{"asked":1e99}', "7"])
def test_a_damaged_tally_begins_anew(rqd: Driver, damaged: str) -> None:
    claim = claimed(rqd)
    rqd.redis.hset(rqd.keys.job("a"), "tally", damaged)

    assert rqd.settle(claim, "retry", run_again_for="asked") == "settled"

    assert rqd.claim_one().tally["asked"] == 1


# -- repeats


def test_a_repeated_job_waits_for_its_next_run_and_keeps_what_it_returned(rqd: Driver) -> None:
    claim = claimed(rqd, terms='{"repeat":{"times":2,"intervals":[60]}}')

    answer = rqd.turn(settlement(claim, "repeat", delay_us=60_000_000, result=b"1", pid=7))
    again = rqd.turn(settlement(claim, "repeat", delay_us=60_000_000, result=b"1", pid=7))

    assert (answer.verdicts, again.verdicts) == (("settled",), ("already",))
    assert answer.next_due_us == answer.now_us + 60_000_000
    assert rqd.status("a") == "scheduled"
    assert rqd.record("a").tally == '{"repeats":1}'
    (attempt,) = rqd.views.attempts("a")
    assert attempt.type == "successful"
    assert rqd.views.result_bytes("a", attempt) == b"1"
    assert not rqd.redis.exists(rqd.keys.leases)
    assert rqd.ttl_s(rqd.keys.job("a")) == rqd.ttl_s(rqd.keys.results("a")) == -1
    assert rqd.redis.hgetall(rqd.keys.stats("low")) == {
        b"enqueued": b"1",
        b"repeated": b"1",
    }
    assert rqd.redis.hget(rqd.keys.worker("m", 1), "done") == b"1"


def test_each_repeated_run_has_all_the_retries_that_were_signed(rqd: Driver) -> None:
    new = job("a", retries=2, signature="0123abcd:ffff")
    rqd.enqueue(new)
    rqd.settle(rqd.claim_one(), "retry")
    rqd.settle(rqd.claim_one(), "repeat")

    claim = rqd.claim_one()

    assert (claim.retries_left, claim.retries_used, claim.tally) == (2, 0, {"repeats": 1})
    assert claim.envelope is not None
    assert claim.envelope.facts == new.signed_facts()


def test_of_a_repeated_jobs_large_results_the_latest_stays_and_is_nobody_elses(rqd: Driver) -> None:
    rqd.settle(claimed(rqd), "repeat", result=BIG)
    rqd.settle(rqd.claim_one(), "repeat", result=b"small")
    rqd.settle(rqd.claim_one(), "repeat", result=BIG + b"2")
    rqd.settle(rqd.claim_one(), result=b"last")

    results = [rqd.views.result_bytes("a", attempt) for attempt in rqd.views.attempts("a")]

    assert results == [b"last", BIG + b"2", b"small", None]


# -- times to live


@pytest.mark.parametrize("decision", ["finish", "fail"])
def test_every_key_of_an_ended_job_expires(rqd: Driver, decision: str) -> None:
    ttl_s = {"result_ttl_s": 100, "failure_ttl_s": 100}
    rqd.settle(claimed(rqd, payload=BIG, **ttl_s), decision, result=BIG)

    keys = [name for name in rqd.names() if ":job:" in name]
    assert {rqd.keys.job("a"), rqd.keys.results("a"), rqd.keys.payload("a")} <= set(keys)
    assert all(rqd.ttl_s(key) == rqd.left_of(100) for key in keys), {k: rqd.ttl_s(k) for k in keys}


def test_minus_one_keeps_the_record_and_its_large_result_for_ever(rqd: Driver) -> None:
    rqd.settle(claimed(rqd, result_ttl_s=-1, payload=BIG), result=BIG)

    for key in (rqd.keys.job("a"), rqd.keys.results("a"), rqd.keys.payload("a")):
        assert rqd.ttl_s(key) == -1
    # It came staged, under a name with a time to live of its own.
    assert rqd.ttl_s(rqd.keys.result("a")) == -1
    assert rqd.views.index_ids("low", "finished") == ["a"]


@pytest.mark.parametrize("result", [b"small", BIG])
def test_result_ttl_0_leaves_nothing_but_the_result_for_those_who_wait(
    rqd: Driver, result: bytes
) -> None:
    assert rqd.settle(claimed(rqd, result_ttl_s=0, payload=BIG), result=result) == "settled"

    assert rqd.views.job("a") is None
    assert rqd.views.index_ids("low", "finished") == []
    (attempt,) = rqd.views.attempts("a")
    assert rqd.views.result_bytes("a", attempt) == result
    for key in (name for name in rqd.names() if ":job:" in name):
        assert 0 < rqd.ttl_s(key) <= 60


def test_endings_clear_the_index_of_records_that_have_expired(rqd: Driver) -> None:
    index = rqd.keys.index("low", "finished")
    rqd.redis.zadd(index, {"old1": 1, "old2": 2, "kept": "+inf"})

    rqd.settle(claimed(rqd))

    assert rqd.redis.zrange(index, 0, -1) == [b"a", b"kept"]


# -- large results


def test_a_large_result_travels_beside_the_script(rqd: Driver) -> None:
    rqd.settle(claimed(rqd, result_ttl_s=100), result=BIG)

    assert rqd.redis.get(rqd.keys.result("a")) == BIG
    assert rqd.ttl_s(rqd.keys.result("a")) == rqd.left_of(100)
    (attempt,) = rqd.views.attempts("a")
    assert "result" not in attempt.fields
    assert rqd.views.result_bytes("a", attempt) == BIG
    assert not [name for name in rqd.names() if "staged" in name]


def test_a_refused_settles_large_result_fades(rqd: Driver) -> None:
    claim = claimed(rqd)
    rqd.store.delete("a")

    assert rqd.settle(claim, result=BIG) == "gone"

    (staged,) = (name for name in rqd.names() if "staged" in name)
    assert 0 < rqd.ttl_s(staged) <= 600


def test_a_result_lost_on_its_way_stops_the_turn_before_anything_is_written(
    rqd: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    rqd.enqueue("a", "b")
    a, b = rqd.claim(2)
    turn = (settlement(a), settlement(b, result=BIG))
    before = rqd.dump()
    with monkeypatch.context() as patch:
        patch.setattr(rqd.store, "_stage", lambda _: None)
        with pytest.raises(ResponseError, match="staged result of job b is gone"):
            rqd.turn(*turn, request="t1")
    assert rqd.dump() == before

    assert rqd.turn(*turn, request="t1").verdicts == ("settled", "settled")


# -- what must not keep a job from its end


@pytest.mark.parametrize("key", ["job:a:results", "stats:low", "queue:low:finished"])
def test_a_side_key_that_is_not_rqds_does_not_keep_a_job_from_its_end(
    rqd: Driver, key: str
) -> None:
    claim = claimed(rqd)
    rqd.redis.set(f"{{rqd}}:{key}", "not ours")

    assert rqd.settle(claim) == "settled"

    assert rqd.status("a") == "finished"
    assert len(rqd.views.attempts("a")) == 1


def test_a_job_key_that_became_something_else_is_gone_for_its_settle(rqd: Driver) -> None:
    rqd.enqueue("a", "b")
    a, b = rqd.claim(2)
    rqd.redis.delete(rqd.keys.job("a"))
    rqd.redis.set(rqd.keys.job("a"), "not ours")

    assert rqd.turn(settlement(a), settlement(b)).verdicts == ("gone", "settled")


def test_a_job_lost_with_its_zygote_keeps_its_place_uncharged(rqd: Driver) -> None:
    rqd.enqueue("a", "b")
    claim = rqd.claim_one()

    assert rqd.settle(claim, "lose", cause="lost as its zygote died") == "settled"

    assert rqd.ready() == ["a", "b"]
    assert (rqd.record("a").attempt, rqd.record("a").losses) == (0, 1)
    assert rqd.settle(claim, "lose") == "already"


def test_the_third_loss_in_a_row_gives_a_job_up(rqd: Driver) -> None:
    rqd.enqueue("a")
    verdicts = [rqd.settle(rqd.claim_one(), "lose", cause="lost as x") for _ in range(3)]

    assert verdicts == ["settled", "settled", "abandoned"]
    record = rqd.record("a")
    assert (record.status, record.cause) == ("failed", "abandoned: lost as x, loss 3 in a row")
    assert not rqd.redis.exists(rqd.keys.leases)


def test_an_abandoned_job_without_a_record_leaves_nothing(rqd: Driver) -> None:
    rqd.enqueue(job("a", failure_ttl_s=0))
    for _ in range(3):
        rqd.settle(rqd.claim_one(), "lose", cause="lost as x")

    assert not rqd.redis.exists(rqd.keys.job("a"))


def test_an_ending_of_its_own_ends_the_row_of_losses(rqd: Driver) -> None:
    rqd.enqueue(job("a", retries=1))
    for decision in ("lose", "lose", "retry"):
        rqd.settle(rqd.claim_one(), decision, cause="x")
    claim = rqd.claim_one()
    assert claim.losses == 0
    rqd.settle(claim, "lose", cause="x")

    assert rqd.record("a").losses == 1
    assert rqd.status("a") == "queued"


def test_a_job_that_goes_back_before_it_began_waits_no_longer_than_it_may(rqd: Driver) -> None:
    rqd.enqueue(job("a", ttl_s=30, payload=b"x" * 200_000))
    rqd.settle(rqd.claim_one(), "put_back", began=0)
    for key in (rqd.keys.job("a"), rqd.keys.payload("a")):
        assert rqd.ttl_s(key) == rqd.left_of(30)

    claim = rqd.claim_one()
    assert rqd.ttl_s(rqd.keys.job("a")) == -1
    rqd.settle(claim, "put_back", began=0)
    rqd.redis.pexpire(rqd.keys.job("a"), 10_000)
    rqd.settle(rqd.claim_one(), "put_back", began=0)
    assert rqd.ttl_s(rqd.keys.job("a")) == rqd.left_of(10)


def test_a_parked_job_waits_no_longer_than_it_may_and_leaves_nothing_behind(rqd: Driver) -> None:
    rqd.enqueue(job("a", ttl_s=30))
    for _ in range(2):
        rqd.settle(rqd.claim_one(), "park", delay_us=10**9)
        assert rqd.ttl_s(rqd.keys.job("a")) == rqd.left_of(30)
        rqd.redis.zadd(rqd.keys.scheduled, {"a": 1})
        rqd.turn()  # looked at again: its wait goes on
        assert rqd.ready() == ["a"]
        assert rqd.ttl_s(rqd.keys.job("a")) == rqd.left_of(30)

    rqd.settle(rqd.claim_one(), "park", delay_us=10**9)
    rqd.redis.delete(rqd.keys.job("a"))  # as its time to live does
    rqd.redis.zadd(rqd.keys.scheduled, {"a": 1})

    assert rqd.claim() == []
    rqd.beat()
    assert misplaced(rqd) == {}


def test_a_job_that_began_once_waits_without_an_end(rqd: Driver) -> None:
    rqd.enqueue(job("a", ttl_s=30))
    rqd.settle(rqd.claim_one(), "put_back")
    assert rqd.ttl_s(rqd.keys.job("a")) == -1

    rqd.settle(rqd.claim_one(), "put_back", began=0)

    assert rqd.ttl_s(rqd.keys.job("a")) == -1


@pytest.mark.parametrize("tally", ['{"x":1e999}', '{"x":NaN,"repeats":3}', "[[[]],null]", "{"])
def test_a_damaged_tally_keeps_no_job_of_its_turn_from_its_end(rqd: Driver, tally: str) -> None:
    rqd.enqueue("a", "b")
    a, b = rqd.claim(2)
    rqd.redis.hset(rqd.keys.job("b"), "tally", tally)

    answer = rqd.turn(settlement(a), settlement(b, "repeat"))

    assert answer.verdicts == ("settled", "settled")
    assert rqd.redis.zscore(rqd.keys.index("low", "finished"), "a") is not None
    assert b'"repeats":' in rqd.redis.hget(rqd.keys.job("b"), "tally")


def test_without_memory_an_outcome_is_recorded_all_the_same_and_none_before_it_is_lost(
    rqd: Driver,
) -> None:
    rqd.turn(settlement(claimed(rqd, retries=1), "retry"))
    claim = rqd.claim_one()

    rqd.redis.config_set("maxmemory", 1)
    try:
        verdict = rqd.settle(claim)
    finally:
        rqd.redis.config_set("maxmemory", 0)

    assert verdict == "settled"
    assert [one.type for one in rqd.views.attempts("a")] == ["successful", "retried"]
