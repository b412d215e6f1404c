"""Nobody waits for ever: whatever was done, all jobs come to their end once masters are free."""

from __future__ import annotations

import re

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from rqd.model.errors import DuplicateJobError, InvalidJobOperation, NoSuchJobError
from rqd.model.limits import RateLimit, Unique
from rqd.model.records import Claim
from rqd.model.terms import dump_terms
from rqd.store.keys import ALL_QUEUES
from tests.fuzzing import fuzz, time_limit_s
from tests.servers import RedisServer
from tests.store.driving import Driver, job, settlement
from tests.store.scenes import misplaced

NAMES = [f"j{number}" for number in range(5)]
IDS = st.sampled_from(NAMES)
QUEUES = ("high", "low")
ANY_QUEUES = st.sampled_from([QUEUES, ("low",), ("high",)])
MASTERS = st.sampled_from(["m", "n"])
PAUSED = st.sampled_from([*QUEUES, ALL_QUEUES])
DECISIONS = ["finish", "fail", "retry", "put_back", "park", "lose", "stop", "repeat"]
LIMITS = {
    "": None,
    "one": RateLimit("one", 1),
    "two": RateLimit("two", 2, rate=100_000, burst=2),
    "often": RateLimit("often", None, rate=100_000, burst=1),
}
UNIQUE = ["u", "v"]
QUIET_ROUNDS = 4


class Crowd(RuleBasedStateMachine):
    """Jobs that wait for limits, for one another, for a time, for a pause's end; two masters."""

    server: RedisServer

    def __init__(self) -> None:
        super().__init__()
        self.server.empty()
        self.rqd = Driver(self.server.url)
        self.held: dict[tuple[str, int], Claim] = {}
        self.boots = {"m": 0, "n": 0}
        # What expired nobody has seen; only a beat finds who waits for it.
        self.has_expired = False
        for master in self.boots:
            self.rqd.store.hello(master, "0", 900, {"workers": 3})

    @rule(
        job_id=IDS,
        queue=st.sampled_from(QUEUES),
        limit=st.sampled_from([*LIMITS] + ["one"] * 2),
        parents=st.sets(st.sampled_from([*NAMES, "group:g"]), max_size=2),
        on_failure=st.sampled_from(["", "run", "cancel"]),
        unique=st.sampled_from(["", "", *UNIQUE]),
        how=st.sampled_from(
            [
                (),
                ("ttl",),
                ("ttl",),
                ("ttl", "late"),
                ("front",),
                ("group",),
                ("group", "ttl"),
                ("group", "kept"),
            ]
        ),
    )
    def enqueue(
        self,
        job_id: str,
        queue: str,
        limit: str,
        parents: set[str],
        on_failure: str,
        unique: str,
        how: tuple[str, ...],
    ) -> None:
        there = sorted(one for one in parents if one != job_id and self.is_there(one))
        parts: dict[str, object] = {}
        if (shared := LIMITS[limit]) is not None:
            parts["limit"] = shared.term()
        if there:
            failing = {"on_failure": on_failure} if on_failure else {}
            parts["depends_on"] = {"ids": there, **failing}
        if unique:
            parts["unique"] = Unique(unique, "finished", "replace").term()
        if "group" in how:
            parts["group"] = {"name": "g"}
        new = job(
            job_id,
            queue,
            terms=dump_terms(parts) if parts else "",
            ttl_s=900 if "ttl" in how else None,
            delay_us=10**9 if "late" in how else None,
            at_front="front" in how,
            retries=99,
            **({"result_ttl_s": -1, "failure_ttl_s": -1} if "kept" in how else {}),
        )
        try:
            self.rqd.enqueue(new)
        except (DuplicateJobError, NoSuchJobError, InvalidJobOperation):
            pass

    @rule(master=MASTERS, queues=ANY_QUEUES, has_ahead=st.booleans())
    def claim(self, master: str, queues: tuple[str, ...], has_ahead: bool) -> None:
        free = [n for n in (1, 2, 3) if (master, n) not in self.held]
        free, ahead = (free[:1], free[1:]) if has_ahead else (free, [])
        if not free:
            return
        claims = self.rqd.turn(free=free, ahead=ahead, queues=queues, master=master).claims
        for claim in claims:
            self.held[master, claim.worker] = claim

    @rule(
        data=st.data(),
        decision=st.sampled_from(DECISIONS),
        delay_us=st.sampled_from([0, 10**9]),
        has_begun=st.booleans(),
    )
    def settle(self, data: st.DataObject, decision: str, delay_us: int, has_begun: bool) -> None:
        if not self.held:
            return
        place = data.draw(st.sampled_from(sorted(self.held)))
        began = {} if has_begun or decision != "put_back" else {"began": 0}
        told = settlement(self.held.pop(place), decision, delay_us=delay_us, **began)
        self.rqd.turn(told, master=place[0])

    @rule(master=MASTERS)
    def die(self, master: str) -> None:
        before, self.boots[master] = str(self.boots[master]), self.boots[master] + 1
        self.rqd.store.hello(master, str(self.boots[master]), 900, {"workers": 3}, before)
        left = {place: one for place, one in self.held.items() if place[0] == master}
        for place, claim in left.items():
            del self.held[place]
            assert self.rqd.field(claim.id, "lease") != claim.token.encode()

    @rule(job_id=IDS, what=st.sampled_from(["cancel", "delete", "requeue"]), more=st.booleans())
    def operate(self, job_id: str, what: str, more: bool) -> None:
        try:
            getattr(self.rqd.store, what)(job_id, **({_MORE[what]: more}))
        except DuplicateJobError:
            pass

    @rule(job_id=IDS)
    def stop(self, job_id: str) -> None:
        self.rqd.store.stop(job_id, self.rqd.store.request_id(), "somebody", 5)

    @rule()
    def expire(self) -> None:
        for name in self.live():
            if self.rqd.ttl_s(self.rqd.keys.job(name)) > 0:
                self.rqd.redis.delete(self.rqd.keys.job(name))
                self.has_expired = True
                for key in map(self.rqd.keys.unique, UNIQUE):  # expires with its job
                    if self.rqd.ttl_s(key) > 0 and name.encode() in self.rqd.redis.get(key).split():
                        self.rqd.redis.delete(key)

    @rule(queue=st.sampled_from(QUEUES), is_cut_short=st.booleans())
    def empty(self, queue: str, is_cut_short: bool) -> None:
        if is_cut_short:  # who asked for it dies after the first portion
            self.rqd.store.ask("empty", queue)
        else:
            self.rqd.store.empty(queue)

    @rule(what=PAUSED, for_s=st.sampled_from([None, 10**6]))
    def pause(self, what: str, for_s: float | None) -> None:
        self.rqd.store.pause(what, for_s)

    @rule(what=PAUSED)
    def resume(self, what: str) -> None:
        self.rqd.store.resume(what)

    @rule()
    def promote(self) -> None:
        if found := self.rqd.redis.zrange(self.rqd.keys.scheduled, 0, 0):
            self.rqd.redis.zadd(self.rqd.keys.scheduled, {found[0]: 1})
            self.rqd.turn(master="promoter")

    @rule(master=MASTERS)
    def beat(self, master: str) -> None:
        mine = [claim for place, claim in self.held.items() if place[0] == master]
        self.rqd.beat(*mine, master=master, boot=str(self.boots[master]), workers=3)

    def teardown(self) -> None:
        """All is resumed, due and put back; then two masters run what there is."""
        for what in (*QUEUES, ALL_QUEUES):
            self.rqd.store.resume(what)
        for place, claim in sorted(self.held.items()):
            self.rqd.turn(settlement(claim, "put_back", began=0), master=place[0])
        self.drain()
        assert set(self.live().values()) <= {"deferred"}, self.live()
        for _ in NAMES:  # one that has failed may be waited for, by one that is waited for
            for name in NAMES:
                self.requeue_or_make_room(name)
            self.drain()
        assert self.live() == {}
        assert self.has_expired or misplaced(self.rqd) == {}
        for name in NAMES:
            self.rqd.store.delete(name)
        for _ in range(10):
            self.rqd.beat(master="other", workers=0)
        assert [name for name in self.rqd.names() if not self.may_stay(name)] == []

    def may_stay(self, name: str) -> bool:
        """Whether a key is none that all jobs' ends should have taken away, or goes by itself."""
        return bool(_OF_NO_JOB.match(name)) or self.rqd.ttl_s(name) >= 0

    def requeue_or_make_room(self, job_id: str) -> None:
        """As an operator who is told that another job has its unique key, and may wait for it."""
        try:
            self.rqd.store.requeue(job_id)
        except DuplicateJobError as error:
            self.rqd.store.delete(error.job_id)

    def drain(self) -> None:
        """Masters turn until there is nothing left for them."""
        quiet = 0
        while quiet < QUIET_ROUNDS:
            if due := self.rqd.redis.zrange(self.rqd.keys.scheduled, 0, -1):
                self.rqd.redis.zadd(self.rqd.keys.scheduled, dict.fromkeys(due, 1))
            ran = [self.run_a_turn(master) for master in self.boots]
            if self.has_expired:
                self.rqd.beat(master="other", workers=0)
            quiet = 0 if any(ran) else quiet + 1

    def run_a_turn(self, master: str) -> bool:
        claims = self.rqd.claim_for((1, 2, 3), *QUEUES, master=master)
        if claims:
            self.rqd.turn(*map(settlement, claims), master=master)
        return bool(claims)

    def live(self) -> dict[str, str]:
        """The jobs that have not ended, and how they stand."""
        records = {name: self.rqd.views.job(name) for name in NAMES}
        states = {name: str(one.status) for name, one in records.items() if one is not None}
        return {
            name: state
            for name, state in states.items()
            if state in ("queued", "scheduled", "deferred", "started")
        }

    def is_there(self, parent: str) -> bool:
        name = parent if parent.startswith("group:") else f"job:{parent}"
        return bool(self.rqd.redis.exists(f"{{rqd}}:{name}"))


_OF_NO_JOB = re.compile(r"{rqd}:(queues|counters|masters|stats:\w+|(wake|control):.*)$")
_MORE = {
    "cancel": "enqueue_dependents",
    "delete": "delete_dependents",
    "requeue": "at_front",
}


@pytest.mark.timeout(time_limit_s(90))
def test_whatever_was_done_all_jobs_come_to_their_end(server: RedisServer) -> None:
    machine = type("OnServer", (Crowd,), {"server": server})
    run_state_machine_as_test(machine, settings=fuzz(30, stateful_step_count=40))
