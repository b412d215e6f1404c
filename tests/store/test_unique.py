"""Unique keys: one job at a time has a key, and nothing keeps it longer than was said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from rqd.model.errors import DuplicateJobError
from rqd.model.limits import Unique
from rqd.model.records import NewJob
from rqd.model.terms import dump_terms
from tests.fuzzing import fuzz, time_limit_s
from tests.servers import RedisServer
from tests.store.driving import Driver, job
from tests.store.scenes import misplaced

KEY = "{rqd}:unique:k"


def unique(
    job_id: str,
    until: str | float = "finished",
    on_conflict: str = "refuse",
    key: str = "k",
    **fields: Any,
) -> NewJob:
    terms = dump_terms({"unique": Unique(key, until, on_conflict).term()})
    return job(job_id, terms=terms, **fields)


def refused(rqd: Driver, new: NewJob) -> str:
    """The holder that a refusal names; nothing was written."""
    before = rqd.names(), rqd.redis.get(KEY)
    with pytest.raises(DuplicateJobError, match="unique key 'k'") as error:
        rqd.enqueue(new)
    assert (rqd.names(), rqd.redis.get(KEY)) == before
    return error.value.job_id


END: dict[str, Callable[[Driver], object]] = {
    "finish": lambda rqd: rqd.settle(rqd.claim_one()),
    "fail": lambda rqd: rqd.settle(rqd.claim_one(), "fail", cause="crashed"),
    "cancel": lambda rqd: rqd.store.cancel("a"),
    "delete": lambda rqd: rqd.store.delete("a"),
    "delete while it runs": lambda rqd: (rqd.claim_one(), rqd.store.delete("a")),
    "empty": lambda rqd: rqd.store.empty("low"),
    "abandon": lambda rqd: [rqd.settle(rqd.claim_one(), "lose", cause="x") for _ in range(3)],
    "expire": lambda rqd: rqd.redis.delete(rqd.keys.job("a")),
    "damage": lambda rqd: (rqd.redis.hdel(rqd.keys.job("a"), "func_name"), rqd.claim()),
}


@pytest.mark.parametrize("end", END)
def test_a_key_is_free_after_whatever_end(rqd: Driver, end: str) -> None:
    rqd.enqueue(unique("a"))
    assert refused(rqd, unique("b")) == "a"

    END[end](rqd)

    rqd.enqueue(unique("b"))
    assert refused(rqd, unique("c")) == "b"


def test_a_key_until_the_end_is_kept_while_its_job_comes_and_goes(rqd: Driver) -> None:
    rqd.enqueue(unique("a", retries=2))
    rqd.settle(rqd.claim_one(), "put_back")
    assert refused(rqd, unique("b")) == "a"
    rqd.settle(rqd.claim_one(), "retry", delay_us=10**9)
    assert refused(rqd, unique("b")) == "a"


def test_a_key_until_the_start_is_free_from_then_on(rqd: Driver) -> None:
    rqd.enqueue(unique("a", "started"))
    assert refused(rqd, unique("b", "started")) == "a"
    first = rqd.claim_one()
    rqd.enqueue(unique("b", "started"))

    rqd.settle(first, "put_back")

    assert rqd.ready() == ["a", "b"]
    assert refused(rqd, unique("c", "started")) == "b"
    assert [one.id for one in rqd.claim(2)] == ["a", "b"]
    rqd.enqueue(unique("c", "started"))


def test_a_key_until_the_start_is_had_again_by_a_job_that_did_not_begin(rqd: Driver) -> None:
    rqd.enqueue(unique("a", "started"))
    rqd.settle(rqd.claim_one(), "put_back", began=0)
    assert refused(rqd, unique("b", "started")) == "a"

    first = rqd.claim_one()
    rqd.enqueue(unique("b", "started"))
    rqd.settle(first, "put_back", began=0)

    assert refused(rqd, unique("c", "started")) == "b"


def test_a_parked_job_has_its_key_again_until_its_start_or_the_end_of_its_wait(rqd: Driver) -> None:
    rqd.enqueue(unique("a", "started", ttl_s=900))
    rqd.settle(rqd.claim_one(), "park", delay_us=1)
    assert refused(rqd, unique("b", "started")) == "a"
    assert rqd.ttl_s(KEY) == rqd.left_of(900)

    rqd.claim_one()

    rqd.enqueue(unique("b", "started"))


def test_a_job_that_began_has_its_key_until_the_start_no_more(rqd: Driver) -> None:
    rqd.enqueue(unique("a", "started"))
    rqd.settle(rqd.claim_one(), "put_back")
    rqd.settle(rqd.claim_one(), "put_back", began=0)

    rqd.enqueue(unique("b", "started"))


def test_a_window_is_kept_by_what_has_ended_and_ends_by_itself(rqd: Driver) -> None:
    rqd.enqueue(unique("a", 60, result_ttl_s=0))
    rqd.settle(rqd.claim_one())
    assert refused(rqd, unique("b", 60)) == "a"
    assert refused(rqd, unique("b", 60, "existing")) == "a"  # there is none to return
    assert rqd.ttl_s(KEY) == rqd.left_of(60)

    rqd.redis.pexpire(KEY, 0)

    rqd.enqueue(unique("b", 60))


def test_a_window_ends_with_a_job_that_never_ran(rqd: Driver) -> None:
    rqd.enqueue(unique("a", 60))
    rqd.store.cancel("a")
    rqd.enqueue(unique("b", 60))


def test_a_key_expires_with_a_job_that_waited_too_long(rqd: Driver) -> None:
    rqd.enqueue(unique("a", ttl_s=100))
    assert rqd.ttl_s(KEY) == rqd.left_of(100)
    rqd.claim_one()
    assert rqd.ttl_s(KEY) == -1

    rqd.enqueue(unique("later", key="l", ttl_s=100, delay_us=10**9))
    assert rqd.ttl_s("{rqd}:unique:l") == -1
    rqd.redis.zadd(rqd.keys.scheduled, {"later": 1})
    rqd.turn()
    assert rqd.ttl_s("{rqd}:unique:l") == rqd.left_of(100)


def test_the_existing_job_is_named_and_nothing_is_written(rqd: Driver) -> None:
    rqd.enqueue(unique("a"))
    rqd.claim_one()
    new = unique("b", on_conflict="existing", queue="never")
    before = rqd.dump()

    rqd.enqueue(new)

    assert new.holder_id == "a"
    assert rqd.dump() == before


def test_a_batch_leaves_out_those_that_exist_and_says_so_again(rqd: Driver) -> None:
    rqd.enqueue(unique("a"))
    batch = [unique("b", on_conflict="existing"), job("c")]
    batch += [unique(name, on_conflict="existing", key="other") for name in ("d", "e")]
    rqd.enqueue(*batch, request="r")
    assert [new.holder_id for new in batch] == ["a", "", "", "d"]
    assert rqd.ready() == ["a", "c", "d"]
    rqd.store.cancel("a")
    for new in batch:
        new.holder_id = ""
    before = rqd.dump()

    rqd.enqueue(*batch, request="r")

    assert [new.holder_id for new in batch] == ["a", "", "", "d"]
    assert rqd.dump() == before


def test_what_a_batch_left_out_is_not_decided_anew_when_it_is_sent_again(rqd: Driver) -> None:
    rqd.enqueue(unique("a"))
    batch = [unique("b", on_conflict="existing"), job("c")]
    rqd.enqueue(*batch, request="r")
    rqd.store.cancel("a")
    rqd.enqueue("b")  # another producer's
    batch[0].holder_id = ""

    rqd.enqueue(*batch, request="r")

    assert batch[0].holder_id == "a"


def test_what_ends_with_another_that_is_replaced_ends_once(rqd: Driver) -> None:
    ends_with = {"depends_on": {"ids": ["a"], "on_failure": "cancel"}}
    held = {"unique": Unique("l", "finished", "refuse").term()}
    rqd.enqueue(unique("a"), job("b", terms=dump_terms({**ends_with, **held})))

    rqd.enqueue(*(unique(f"new-{key}", on_conflict="replace", key=key) for key in "kl"))

    assert (rqd.status("a"), rqd.status("b")) == ("canceled", "canceled")
    assert rqd.redis.hget("{rqd}:stats:low", "canceled") == b"2"
    assert rqd.ready() == ["new-k", "new-l"]


def test_a_batch_with_one_refused_job_writes_nothing(rqd: Driver) -> None:
    rqd.enqueue(unique("a"))
    before = rqd.dump()
    with pytest.raises(DuplicateJobError):
        rqd.enqueue(job("b"), unique("c"))
    with pytest.raises(DuplicateJobError):
        rqd.enqueue(unique("b", key="new"), unique("c", key="new"))
    assert rqd.dump() == before


@pytest.mark.parametrize("delay_us", [None, 10**9])
def test_a_waiting_job_is_replaced_in_one_step(rqd: Driver, delay_us: int | None) -> None:
    rqd.enqueue(unique("a", delay_us=delay_us))
    new = unique("b", on_conflict="replace")
    rqd.enqueue(new, request="r")

    assert (rqd.status("a"), rqd.record("a").cause) == ("canceled", "replaced by job b")
    assert rqd.ready() == ["b"]
    assert misplaced(rqd) == {}
    assert rqd.ttl_s(rqd.keys.job("a")) == rqd.left_of(500)  # no failure: kept as a result is
    before = rqd.dump()
    rqd.enqueue(new, request="r")
    assert rqd.dump() == before

    rqd.claim_one()
    assert refused(rqd, unique("c", on_conflict="replace")) == "b"


def test_a_requeued_job_takes_its_key_again_or_is_refused(rqd: Driver) -> None:
    rqd.enqueue(unique("a"))
    rqd.store.cancel("a")
    assert rqd.store.requeue("a") == "canceled"
    assert refused(rqd, unique("b")) == "a"
    rqd.store.cancel("a")
    rqd.enqueue(unique("b"))

    with pytest.raises(DuplicateJobError, match="job b has the unique key of job a"):
        rqd.store.requeue("a")

    assert rqd.status("a") == "canceled"


def test_whatever_stands_under_a_key_keeps_nobody_out(rqd: Driver) -> None:
    rqd.enqueue("other")
    for text in ("x", "finished other", "finished none", "window other", b"\xff"):
        rqd.redis.set(KEY, text)
        rqd.enqueue(unique("a"))
        assert refused(rqd, unique("b")) == "a"
        rqd.store.delete("a")


class OneOfAKey(RuleBasedStateMachine):
    """Two keys, and whatever may happen to their jobs: never two that hold one."""

    server: RedisServer

    def __init__(self) -> None:
        super().__init__()
        self.server.empty()
        self.rqd = Driver(self.server.url)
        self.number = 0
        self.held: list[Any] = []

    @rule(
        key=st.sampled_from("kl"),
        until=st.sampled_from(["started", "finished"]),
        on_conflict=st.sampled_from(["refuse", "existing", "replace"]),
        kept=st.booleans(),
        later=st.booleans(),
    )
    def enqueue(self, key: str, until: str, on_conflict: str, kept: bool, later: bool) -> None:
        self.number += 1
        options = {"result_ttl_s": 500 * kept, "delay_us": 10**9 if later else None}
        new = unique(f"{key}{self.number}", until, on_conflict, key, retries=9, **options)
        holder = self.holder(key)
        try:
            self.rqd.enqueue(new)
        except DuplicateJobError as error:
            assert error.job_id == holder  # noqa: PT017 - a rule may end either way
        else:
            assert new.holder_id in ("", holder)
            assert holder is None or on_conflict != "refuse"

    @rule()
    def claim(self) -> None:
        self.held += self.rqd.claim(1, master=f"m{self.number}")

    @rule(decision=st.sampled_from(["finish", "fail", "retry", "put_back", "lose"]))
    def settle(self, decision: str) -> None:
        if self.held:
            self.rqd.settle(self.held.pop(0), decision)

    @rule(data=st.data(), what=st.sampled_from(["cancel", "delete", "requeue", "forget"]))
    def operate(self, data: st.DataObject, what: str) -> None:
        if not self.number:
            return
        number = data.draw(st.integers(1, self.number))
        for job_id in (f"k{number}", f"l{number}"):
            if what == "forget":  # as an expiry does: the job's hash alone goes
                if self.rqd.views.position("low", job_id) is not None:
                    self.rqd.redis.delete(self.rqd.keys.job(job_id))
                    self.rqd.redis.zrem(self.rqd.keys.ready("low"), job_id)
                continue
            try:
                found = getattr(self.rqd.store, what)(job_id)
                if what == "requeue" and found in ("failed", "canceled"):
                    self.rqd.redis.hdel(self.rqd.keys.job(job_id), "started_at")  # has its key anew
            except DuplicateJobError:
                assert what == "requeue"

    def holder(self, key: str) -> str | None:
        """Who has the key by the jobs' own words; one at most."""
        holders = []
        for number in range(1, self.number + 1):
            record = self.rqd.views.job(f"{key}{number}")
            if record is None or record.status not in ("queued", "scheduled", "started"):
                continue
            is_until_start = '"started"' in record.terms
            if not is_until_start or (record.status != "started" and record.started_us is None):
                holders.append(record.id)
        assert len(holders) <= 1, holders
        return holders[0] if holders else None

    @invariant()
    def a_live_job_has_its_key(self) -> None:
        for key in "kl":
            if holder := self.holder(key):
                assert self.rqd.redis.get(f"{{rqd}}:unique:{key}").endswith(f" {holder}".encode())


@pytest.mark.timeout(time_limit_s(60))
def test_in_any_order_of_events_one_job_has_a_key(server: RedisServer) -> None:
    machine = type("OnServer", (OneOfAKey,), {"server": server})
    run_state_machine_as_test(machine, settings=fuzz(25, stateful_step_count=40))
