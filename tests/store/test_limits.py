"""Limits by key: never more at a time than it says, and nobody waits without a reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from rqd.model.limits import RateLimit
from rqd.model.records import Claim, NewJob
from rqd.model.terms import dump_terms
from tests.fuzzing import fuzz, time_limit_s
from tests.servers import RedisServer
from tests.store.driving import LEASE_US, Driver, ids, job, settlement
from tests.store.scenes import misplaced
from tests.waiting import eventually

HOLDERS, STATE, LIMITS = "{rqd}:limit:holders:k", "{rqd}:limit:state:k", "{rqd}:limits"
ALL_QUEUES = ("high", "low")


def limited(job_id: str, concurrency: int | None = 1, queue: str = "low", **options: Any) -> NewJob:
    numbers = {name: options.pop(name) for name in ("rate", "per", "burst") if name in options}
    limit = RateLimit(options.pop("key", "k"), concurrency, **numbers)
    return job(job_id, queue, terms=dump_terms({"limit": limit.term()}), **options)


def paced(job_id: str, burst: int = 1, **options: Any) -> NewJob:
    """Of a limit of one start in 1,000 seconds."""
    return limited(job_id, None, rate=1, per=1000, burst=burst, **options)


def holders(rqd: Driver) -> set[str]:
    return {raw.decode() for raw in rqd.redis.zrange(HOLDERS, 0, -1)}


def waiting(rqd: Driver, queue: str = "low") -> list[str]:
    """Who waits for the limit; the queue's index says the same, but for the expired."""
    keys = f"{{rqd}}:limit:waiting:{queue},k", rqd.keys.index(queue, "limited")
    found, also = ([raw.decode() for raw in rqd.redis.zrange(key, 0, -1)] for key in keys)
    assert [name for name in found if name in also] == also
    assert not any(rqd.views.job(name) for name in set(found) - set(also))
    return found


def let_time_pass(rqd: Driver, seconds: int) -> None:
    """As if so much time had passed for limit k."""
    rqd.redis.hset(STATE, "tat", int(rqd.redis.hget(STATE, "tat")) - seconds * 10**6)
    if due := rqd.redis.zscore(rqd.keys.scheduled, ":limit:k"):
        rqd.redis.zadd(rqd.keys.scheduled, {":limit:k": due - seconds * 10**6})


# -- concurrency


def test_what_can_not_start_waits_aside_and_keeps_its_place(rqd: Driver) -> None:
    rqd.enqueue(limited("a"), limited("b"), limited("c"), job("plain"), limited("d", priority=9))

    claims = rqd.claim(4)

    assert ids(claims) == ["d", "plain"]
    assert rqd.ready() == []
    assert waiting(rqd) == ["a", "b", "c"]
    assert {rqd.status(name) for name in "abc"} == {"queued"}
    rqd.settle(claims[0])
    assert (rqd.ready(), waiting(rqd)) == (["a"], ["b", "c"])
    assert rqd.has_marker()


def test_blocked_jobs_wake_nobody_and_cost_a_claim_nothing(rqd: Driver) -> None:
    rqd.enqueue(*(limited(f"j{number}") for number in range(1000)))
    while not waiting(rqd) or rqd.ready():
        rqd.claim(4)
    rqd.take_marker()
    before = rqd.redis.info("commandstats")["cmdstat_evalsha"]["usec"]

    assert rqd.claim(4) == []

    assert not rqd.has_marker()
    assert rqd.redis.info("commandstats")["cmdstat_evalsha"]["usec"] - before < 5000
    assert rqd.redis.smembers("{rqd}:nonempty") == set()


def test_a_job_without_a_limit_or_a_unique_key_pays_nothing_for_them(rqd: Driver) -> None:
    with rqd.redis.monitor() as monitor:
        rqd.enqueue(job("a", retries=3), job("later", delay_us=1))
        for decision in ("put_back", "retry", "fail", "finish"):
            rqd.settle(rqd.claim_one(), decision)
        rqd.redis.ping()
        asked = []
        for told in monitor.listen():
            if told["command"] == "PING":
                break
            asked.append(told["command"])

    assert len(asked) > 50
    by_scripts = [one for one in asked if not one.startswith("EVAL")]
    assert not [one for one in by_scripts if "limit" in one or "unique" in one]


LEAVE: dict[str, Callable[[Driver, Claim], object]] = {
    "finish": lambda rqd, held: rqd.settle(held),
    "fail": lambda rqd, held: rqd.settle(held, "fail", cause="crashed"),
    "retry": lambda rqd, held: rqd.settle(held, "retry", delay_us=10**9),
    "park": lambda rqd, held: rqd.settle(held, "park", delay_us=10**9),
    "delete": lambda rqd, held: rqd.store.delete(held.id),
}


@pytest.mark.parametrize("end", LEAVE)
def test_a_slot_is_free_after_whatever_end(rqd: Driver, end: str) -> None:
    rqd.enqueue(limited("a", retries=3), limited("b"))
    (held,) = rqd.claim(2)

    LEAVE[end](rqd, held)

    assert (holders(rqd), rqd.ready()) == (set(), ["b"])
    assert ids(rqd.claim(2)) == ["b"]
    assert holders(rqd) == {"b"}


@pytest.mark.parametrize("how", ["put back", "lost", "taken over"])
def test_what_comes_back_is_before_those_that_waited(rqd: Driver, how: str) -> None:
    rqd.store.hello("m", "b", 15, {"workers": 2})
    rqd.enqueue(limited("a"), limited("b"))
    (held,) = rqd.claim(2)

    if how == "put back":
        rqd.settle(held, "put_back")
    elif how == "lost":
        rqd.expire_leases("a")
        rqd.beat(master="n")
    else:
        rqd.store.hello("m", "c", 15, {"workers": 2}, "b")

    assert holders(rqd) == set()
    assert ids(rqd.claim(2)) == ["a"]
    assert waiting(rqd) == ["b"]


def test_a_turn_sent_again_takes_no_second_slot(rqd: Driver) -> None:
    rqd.enqueue(limited("a", 2), limited("b", 2), limited("c", 2))
    first = rqd.claim(1, request="r")
    before = rqd.redis.zrange(HOLDERS, 0, -1, withscores=True)

    assert rqd.claim(1, request="r") == first
    assert rqd.redis.zrange(HOLDERS, 0, -1, withscores=True) == before
    assert ids(rqd.claim(3)) == ["b"]


def test_a_free_slot_is_offered_to_each_queue_so_that_an_unserved_one_blocks_nobody(
    rqd: Driver,
) -> None:
    rqd.enqueue(limited("a"), limited("b", queue="high"), limited("c"), limited("d", queue="high"))
    first = rqd.claim_one(*ALL_QUEUES)
    assert first.id == "b"
    rqd.claim(1, *ALL_QUEUES)
    assert (waiting(rqd), waiting(rqd, "high")) == (["a", "c"], ["d"])

    rqd.settle(first)

    assert (rqd.ready(), rqd.ready("high")) == (["a"], ["d"])
    assert ids(rqd.claim(2, "low")) == ["a"]
    assert ids(rqd.claim(2, *ALL_QUEUES)) == []
    assert waiting(rqd, "high") == ["d"]


@pytest.mark.parametrize("how", ["cancel", "delete"])
def test_who_was_let_on_and_leaves_lets_the_next_one_on(rqd: Driver, how: str) -> None:
    rqd.enqueue(limited("a"), limited("b"), limited("c"), limited("d"))
    (held,) = rqd.claim(2)
    getattr(rqd.store, how)("c")
    assert waiting(rqd) == ["b", "d"]
    rqd.settle(held)
    assert rqd.ready() == ["b"]

    getattr(rqd.store, how)("b")

    assert (rqd.ready(), waiting(rqd)) == (["d"], [])


def test_an_emptied_queue_has_no_waiters_and_lets_other_queues_on(rqd: Driver) -> None:
    rqd.enqueue(*(limited(f"j{number}") for number in range(250)), limited("h", queue="high"))
    held = rqd.claim_one()
    rqd.claim(1, "high")
    while rqd.ready():
        rqd.claim(4)
    rqd.settle(held)
    assert rqd.ready("high") == ["h"]

    assert rqd.store.empty("low") == 249

    assert waiting(rqd) == rqd.ready() == []
    assert ids(rqd.claim(1, "high")) == ["h"]
    assert not any(rqd.views.job(f"j{number}") for number in range(1, 250))


def test_an_emptied_queue_leaves_nothing_of_its_limits(rqd: Driver) -> None:
    rqd.enqueue(limited("a"), limited("b"), limited("c"))
    (held,) = rqd.claim(2)
    rqd.settle(held)
    assert (rqd.ready(), waiting(rqd)) == (["b"], ["c"])

    assert rqd.store.empty("low") == 2

    assert not [name for name in rqd.names() if ":limit" in name]


def test_who_waits_goes_on_where_somebody_died_while_emptying_the_queue(rqd: Driver) -> None:
    rqd.enqueue(*(limited(f"j{number}") for number in range(250)))
    held = rqd.claim_one()
    while rqd.ready():
        rqd.claim(4)
    rqd.settle(held)

    rqd.store.ask("empty", "low")

    left = 0
    while claims := rqd.claim(4):
        left += len(claims)
        for claim in claims:
            rqd.settle(claim)
    assert left == 149
    assert misplaced(rqd) == {}


def test_an_emptied_queue_lets_on_who_waits_in_the_seventeenth_queue(rqd: Driver) -> None:
    queues = [f"q{number}" for number in range(17)]
    rqd.enqueue(limited("held"))
    held = rqd.claim_one()
    rqd.enqueue(*(limited(queue, queue=queue) for queue in queues))
    rqd.claim(1, *queues)
    rqd.settle(held)
    let_on = [queue for queue in queues if rqd.ready(queue)]
    assert len(let_on) == 16

    for queue in let_on:
        rqd.store.empty(queue)

    assert len(rqd.claim(1, *queues)) == 1


def test_a_waiter_that_expired_is_passed_over(rqd: Driver) -> None:
    rqd.enqueue(*(limited(name, ttl_s=900 if name in "bc" else None) for name in "abcd"))
    (held,) = rqd.claim(2)
    rqd.redis.delete(rqd.keys.job("b"), rqd.keys.job("c"))

    rqd.settle(held)

    assert rqd.ready() == ["d"]


@pytest.mark.parametrize(("queue", "key"), [("low", "other"), ("high", "k")])
def test_who_waits_anew_under_the_id_of_a_waiter_that_expired_is_not_forgotten(
    rqd: Driver, queue: str, key: str
) -> None:
    rqd.enqueue(limited("a"), limited("b", ttl_s=900), limited("c", key="other"))
    held = {one.id: one for one in rqd.claim(3)}
    rqd.redis.delete(rqd.keys.job("b"))
    rqd.enqueue(limited("b", queue=queue, key=key))
    assert rqd.claim(1, "low", "high") == []

    rqd.settle(held["a"])
    rqd.settle(held["c"])

    assert ids(rqd.claim(1, "low", "high")) == ["b"]


def test_who_expires_when_let_on_holds_nobody_up(rqd: Driver) -> None:
    rqd.enqueue(*(limited(name) for name in "abcd"), limited("e", queue="high"))
    assert ids(rqd.claim_for(range(1, 9), "low", "high")) == ["a"]
    for number, name in enumerate("bce"):
        rqd.redis.pexpire(rqd.keys.job(name), 30 + 10 * number)
    rqd.store.delete("a")
    assert rqd.ready() == ["b"]
    assert rqd.ready("high") == ["e"]
    eventually(lambda: not rqd.redis.exists(*(rqd.keys.job(name) for name in "bce")))

    assert eventually(lambda: ids(rqd.claim(2))) == ["d"]


def test_the_next_look_at_a_limit_is_the_earliest_that_is_of_use(rqd: Driver) -> None:
    rqd.enqueue(*(limited(name) for name in "abc"), limited("d", queue="high"))
    assert ids(rqd.claim_for(range(1, 9), "low", "high")) == ["a"]
    rqd.redis.pexpire(rqd.keys.job("b"), 500_000)
    rqd.redis.pexpire(rqd.keys.job("d"), 400_000)
    rqd.store.delete("a")

    answer = rqd.turn()

    assert answer.next_due_us is not None
    assert answer.next_due_us - answer.now_us == pytest.approx(400 * 10**6, abs=10**6)
    assert ids(rqd.claim(1)) == ["b"]
    rqd.redis.zadd(rqd.keys.scheduled, {":limit:k": 1})
    assert rqd.turn().next_due_us is None
    assert waiting(rqd) == ["c"]


def test_any_number_of_expired_waiters_is_passed_over(rqd: Driver) -> None:
    rqd.enqueue(*(limited(f"j{number:03}") for number in range(252)))
    (held,) = rqd.claim(300)
    rqd.redis.delete(*(rqd.keys.job(f"j{number:03}") for number in range(1, 251)))
    rqd.settle(held)

    assert ids(rqd.claim(1)) == ["j251"]


@pytest.mark.parametrize("field", ["func_name", "payload"])
def test_who_is_set_aside_when_let_on_lets_the_next_one_on(rqd: Driver, field: str) -> None:
    rqd.enqueue(limited("a"), limited("b"), limited("c"))
    assert ids(rqd.claim(3)) == ["a"]
    if field == "func_name":
        rqd.redis.hdel(rqd.keys.job("b"), field)
    else:
        rqd.redis.hset(rqd.keys.job("b"), field, "x" * 70_000)
    rqd.store.delete("a")

    assert ids(rqd.claim(1)) == ["c"]
    assert rqd.status("b") == "failed"


def test_a_holder_that_does_not_run_is_found_by_a_beat(rqd: Driver) -> None:
    rqd.enqueue(limited("a"), limited("b"))
    (held,) = rqd.claim(2)
    rqd.redis.delete(rqd.keys.job("a"))  # by hand
    rqd.settle(held)
    assert holders(rqd) == {"a"}

    rqd.beat()

    assert holders(rqd) == set()
    assert ids(rqd.claim(2)) == ["b"]


def test_waiters_whose_limits_keys_were_deleted_are_found_by_a_beat(rqd: Driver) -> None:
    rqd.enqueue(limited("a"), limited("b"), limited("c"))
    rqd.claim(2)
    rqd.redis.delete("{rqd}:limit:waiting:low,k", "{rqd}:limit:queues:k", LIMITS, HOLDERS, STATE)

    rqd.beat()

    assert sorted(rqd.ready()) == ["b", "c"]
    assert rqd.redis.zcard(rqd.keys.index("low", "limited")) == 0


@pytest.mark.parametrize("key", [HOLDERS, STATE, "{rqd}:limit:queues:k"])
def test_a_limit_whose_key_holds_something_else_fails_its_jobs_alone(rqd: Driver, key: str) -> None:
    rqd.redis.set(key, "x")
    rqd.enqueue(limited("a"), job("b"))

    assert ids(rqd.claim(2)) == ["b"]
    assert rqd.record("a").cause.startswith("damaged: a key of its limit")


def test_a_limit_that_is_not_used_any_more_leaves_nothing(rqd: Driver) -> None:
    before = set(rqd.names())
    rqd.enqueue(limited("a", result_ttl_s=0), limited("b", result_ttl_s=0))
    for _ in range(2):
        rqd.settle(rqd.claim_one())

    left = {name for name in set(rqd.names()) - before if "limit" in name}
    assert left == set()


# -- rate


def test_a_burst_starts_at_once_and_the_next_one_when_its_token_comes(rqd: Driver) -> None:
    rqd.enqueue(*(paced(name, burst=2) for name in "abcde"))
    answer = rqd.turn(free=4)
    assert ids(answer.claims) == ["a", "b"]
    assert waiting(rqd) == ["c", "d", "e"]
    due_s = (rqd.redis.zscore(rqd.keys.scheduled, ":limit:k") - answer.now_us) / 1e6
    assert due_s == pytest.approx(1000)
    assert rqd.turn().next_due_us == rqd.redis.zscore(rqd.keys.scheduled, ":limit:k")
    assert rqd.claim(4) == []

    let_time_pass(rqd, 1000)
    assert ids(rqd.claim(4)) == ["c"]
    let_time_pass(rqd, 2000)
    assert ids(rqd.claim(4)) == ["d", "e"]
    assert rqd.claim(4) == []


def test_tokens_do_not_pile_up_past_the_burst(rqd: Driver) -> None:
    rqd.enqueue(paced("a", burst=2))
    rqd.claim(1)
    let_time_pass(rqd, 10**6)
    rqd.enqueue(*(paced(name, burst=2) for name in "bcd"))

    assert ids(rqd.claim(4)) == ["b", "c"]


def test_a_timer_that_was_lost_is_set_again_by_a_beat(rqd: Driver) -> None:
    rqd.enqueue(paced("a"), paced("b"))
    rqd.claim(2)
    due = rqd.redis.zscore(rqd.keys.scheduled, ":limit:k")
    rqd.redis.delete(rqd.keys.scheduled)

    rqd.beat()

    assert rqd.redis.zscore(rqd.keys.scheduled, ":limit:k") == due


def test_an_attempt_that_was_put_back_gives_its_token_back_and_a_lost_one_does_not(
    rqd: Driver,
) -> None:
    rqd.enqueue(paced("a"), paced("b"))
    rqd.settle(rqd.claim_one(), "put_back")
    (held,) = rqd.claim(2)
    assert held.id == "a"
    rqd.settle(held, "lose")

    assert rqd.claim(2) == []
    assert waiting(rqd) == ["a", "b"]


def test_a_taken_job_whose_answer_was_lost_uses_one_start_of_its_rate(rqd: Driver) -> None:
    rqd.enqueue(paced("a", burst=2), paced("b", burst=2), paced("c", burst=2))

    for _ in range(2):
        assert rqd.store.take("a", "m", LEASE_US, "lost")

    assert ids(rqd.claim(2)) == ["b"]


def test_a_rate_is_one_for_all_masters_and_queues(rqd: Driver) -> None:
    rqd.enqueue(*(paced(f"l{number}", burst=3) for number in range(5)))
    rqd.enqueue(*(paced(f"h{number}", burst=3, queue="high") for number in range(5)))

    claims = [rqd.claim(2, *ALL_QUEUES, master=master) for master in ("m", "n", "o")]

    assert sum(map(len, claims)) == 3


def test_rate_and_concurrency_hold_together(rqd: Driver) -> None:
    rqd.enqueue(*(limited(name, 2, rate=1, per=1000, burst=3) for name in "abcde"))
    first, second = rqd.claim(4)
    assert rqd.redis.zscore(rqd.keys.scheduled, ":limit:k") is None  # it's the slots that lack
    rqd.settle(first)
    (third,) = rqd.claim(4)
    rqd.settle(second)
    rqd.settle(third)
    assert rqd.claim(4) == []
    let_time_pass(rqd, 1000)
    assert ids(rqd.claim(4)) == ["d"]


@pytest.mark.parametrize("tat", ["x", "1e300", "9e15", "-5", ""])
def test_a_damaged_state_blocks_nobody_for_long(rqd: Driver, tat: str) -> None:
    rqd.redis.hset(STATE, "tat", tat)
    rqd.enqueue(paced("a", burst=2))
    if not rqd.claim(1):
        let_time_pass(rqd, 1000)
        assert ids(rqd.claim(1)) == ["a"]


def test_who_waits_for_a_token_does_not_wait_until_a_clock_that_went_back_has_caught_up(
    rqd: Driver,
) -> None:
    rqd.enqueue(paced("a"), paced("b"))
    rqd.claim(2)
    let_time_pass(rqd, -86_400)

    (told,) = rqd.views.limits()
    rqd.beat()

    in_turn_us = rqd.views.now_us() + 1000 * 10**6
    assert told.next_us == pytest.approx(in_turn_us, abs=10**7)
    assert rqd.turn(free=1).next_due_us == pytest.approx(in_turn_us, abs=10**7)
    let_time_pass(rqd, 1000)
    assert ids(rqd.claim(1)) == ["b"]


def test_a_rate_is_known_until_its_tokens_are_back(rqd: Driver) -> None:
    rqd.enqueue(paced("a", burst=2, result_ttl_s=0))
    rqd.settle(rqd.claim_one())

    assert rqd.ttl_s(STATE) == rqd.left_of(1000)
    assert rqd.redis.zscore(LIMITS, "k") < rqd.views.now_us() + 1001 * 10**6

    rqd.redis.zadd(LIMITS, {"k": 1})
    rqd.enqueue(limited("b", key="other"))
    rqd.claim(1)
    assert rqd.redis.zscore(LIMITS, "k") is None


# -- whatever happens


class AnyOrder(RuleBasedStateMachine):
    """Two queues, two masters that may die, an operator, and jobs of one limit of two at a time."""

    server: RedisServer
    most = 2

    def __init__(self) -> None:
        super().__init__()
        self.server.empty()
        self.rqd = Driver(self.server.url)
        self.names: list[str] = []
        self.held: dict[str, Claim] = {}
        self.boots = {"m": 0, "n": 0}
        for master in self.boots:
            self.rqd.store.hello(master, "0", 900, {"workers": 2})

    @rule(
        count=st.integers(1, 4),
        queue=st.sampled_from(ALL_QUEUES),
        plain=st.booleans(),
        front=st.booleans(),
        kept=st.booleans(),
    )
    def enqueue(self, count: int, queue: str, plain: bool, front: bool, kept: bool) -> None:
        for _ in range(count):
            name = f"j{len(self.names)}"
            options = {"at_front": front, "retries": 99, "result_ttl_s": 500 * kept}
            new = job(name, queue, **options)
            self.rqd.enqueue(new if plain else limited(name, self.most, queue, **options))
            self.names.append(name)

    @rule(
        master=st.sampled_from(["m", "n"]),
        queues=st.sampled_from([ALL_QUEUES, ("low",), ("high",)]),
        again=st.booleans(),
    )
    def claim(self, master: str, queues: tuple[str, ...], again: bool) -> None:
        places = [n for n in (1, 2) if f"{master}{n}" not in self.held]
        if not places:
            return
        request = self.rqd.store.request_id()
        claims = self.rqd.claim_for(places, *queues, master=master, request=request)
        if again and claims:  # the reply was lost
            assert self.rqd.claim_for(places, *queues, master=master, request=request) == claims
        for claim in claims:
            self.held[f"{master}{claim.worker}"] = claim

    @rule(
        data=st.data(),
        decision=st.sampled_from(["finish", "fail", "retry", "put_back", "park", "lose"]),
        delay_us=st.sampled_from([0, 10**9]),
    )
    def settle(self, data: st.DataObject, decision: str, delay_us: int) -> None:
        if self.held:
            place = data.draw(st.sampled_from(sorted(self.held)))
            told = settlement(self.held.pop(place), decision, delay_us=delay_us)
            self.rqd.turn(told, master=place[0])

    @rule(master=st.sampled_from(["m", "n"]))
    def die(self, master: str) -> None:
        before, self.boots[master] = str(self.boots[master]), self.boots[master] + 1
        self.rqd.store.hello(master, str(self.boots[master]), 900, {"workers": 2}, before)
        self.held = {place: one for place, one in self.held.items() if place[0] != master}

    @rule(data=st.data(), what=st.sampled_from(["cancel", "delete", "requeue", "lose", "expire"]))
    def operate(self, data: st.DataObject, what: str) -> None:
        if not self.names:
            return
        name = data.draw(st.sampled_from(self.names))
        record = self.rqd.views.job(name)
        if what == "lose":
            if record and record.status == "started":
                self.rqd.expire_leases(name)
                self.rqd.beat(master="other", workers=0)
        elif what == "expire":
            if record and record.status == "queued":
                self.rqd.redis.delete(self.rqd.keys.job(name))
                # What was let on can't tell any more: the next beat does.
                self.rqd.beat(master="other", workers=0)
        else:
            getattr(self.rqd.store, what)(name)

    @rule(queue=st.sampled_from(ALL_QUEUES))
    def empty(self, queue: str) -> None:
        self.rqd.store.empty(queue)

    @rule()
    def promote(self) -> None:
        if found := self.rqd.redis.zrange(self.rqd.keys.scheduled, 0, 0):
            self.rqd.redis.zadd(self.rqd.keys.scheduled, {found[0]: 1})
            self.rqd.turn(master="promoter")

    @invariant()
    def holders_are_those_that_run_and_never_too_many(self) -> None:
        records = [self.rqd.views.job(name) for name in self.names]
        running = {one.id for one in records if one and one.status == "started" and one.terms}
        assert holders(self.rqd) == running
        assert len(running) <= self.most
        free = self.most - len(running)
        ready = set()
        for queue in ALL_QUEUES:
            aside = [name for name in waiting(self.rqd, queue) if self.rqd.views.job(name)]
            there = self.rqd.ready(queue)
            for one in records:
                if one and one.origin == queue and one.status == "queued":
                    assert (one.id in there) + (one.id in aside) == 1, one.id
            limited_ready = {one.id for one in records if one and one.id in there and one.terms}
            ready |= limited_ready
            # Each queue has somebody who will be looked at as soon as somebody serves it.
            assert not (free and aside) or limited_ready, aside

    def teardown(self) -> None:
        """Everybody gets through."""
        for place, claim in self.held.items():
            self.rqd.turn(settlement(claim, "put_back"), master=place[0])
        for name in self.names:
            if self.rqd.redis.zscore(self.rqd.keys.scheduled, name):
                self.rqd.redis.zadd(self.rqd.keys.scheduled, {name: 1})
        self.rqd.turn(master="last")
        while claims := self.rqd.claim(4, *ALL_QUEUES, master="last"):
            for claim in claims:
                self.rqd.settle(claim)
        for name in self.names:
            record = self.rqd.views.job(name)
            assert record is None or record.status in ("finished", "failed", "canceled")
        assert not [name for name in self.rqd.names() if ":limit" in name]


@pytest.mark.timeout(time_limit_s(60))
def test_in_any_order_of_events_a_limit_holds_and_nobody_starves(server: RedisServer) -> None:
    machine = type("OnServer", (AnyOrder,), {"server": server})
    run_state_machine_as_test(machine, settings=fuzz(25, stateful_step_count=40))
