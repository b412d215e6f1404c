"""Whatever is done in whatever order, a job is in one place, and nobody else's token moves it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from rqd.model.errors import DuplicateJobError
from rqd.model.records import Claim
from rqd.store.keys import ALL_QUEUES
from tests.fuzzing import fuzz, time_limit_s
from tests.servers import RedisServer
from tests.store.driving import Driver, job, settlement
from tests.store.scenes import misplaced

NAMES = [f"j{number}" for number in range(6)]
IDS = st.sampled_from(NAMES)
QUEUES = st.sampled_from(["high", "low"])
MASTERS = st.sampled_from(["m", "n"])
DECISIONS = st.sampled_from(["finish", "fail", "retry", "put_back", "park", "lose", "stop"])
PAUSED = st.sampled_from(["high", "low", ALL_QUEUES])
LIVE = {"queued", "started", "scheduled"}
WAITING = {"queued", "scheduled"}
ENDED_BADLY = {"failed", "stopped", "canceled"}
# Keys that belong to the namespace, to a master or to a queue; jobs' keys are looked at by id.
SHARED = {
    *("queues", "nonempty", "counters", "leases", "scheduled", "masters"),
    *("paused", "suspended"),
}
GROUPS = {"queue", "by-end", "stats", "wake", "turn", "master", "worker", "control", "precedence"}


@dataclass
class Known:
    """What the model knows of a job."""

    queue: str
    status: str
    is_kept: bool
    attempt: int = 0
    losses: int = 0
    starts: int = 0
    allowed: int = 1  # starts: the first, and one for each time it went back
    token: str = ""
    is_to_stop: bool = False  # this attempt

    def go_back(self, is_charged: bool, later: bool = False) -> None:
        self.status = "scheduled" if later else "queued"
        self.attempt -= not is_charged
        self.allowed += 1
        self.token = ""

    def be_lost(self) -> bool:
        """True if that was one loss too many, or it was told to stop."""
        if self.is_to_stop:
            self.status, self.token = "stopped", ""
            return True
        self.losses += 1
        if self.losses < 3:
            self.go_back(is_charged=False)
            return False
        self.status, self.token = "failed", ""
        return True


class AnyOrder(RuleBasedStateMachine):
    """Producers, two masters that may die, and an operator, as they come; beside a small model."""

    server: RedisServer

    def __init__(self) -> None:
        super().__init__()
        self.server.empty()
        self.rqd = Driver(self.server.url)
        self.model: dict[str, Known] = {}
        self.boots = {"m": "m0", "n": "n0"}
        self.places: dict[tuple[str, int], Claim] = {}
        self.old: list[Claim] = []
        self.last_fence = 0
        self.replays: dict[str, Callable[[], object]] = {}
        self.paused: set[str] = set()
        for master in self.boots:
            self.greet(master, "")

    # -- producers

    @rule(job_id=IDS, queue=QUEUES, later=st.booleans(), front=st.booleans(), kept=st.booleans())
    def enqueue(self, job_id: str, queue: str, later: bool, front: bool, kept: bool) -> None:
        new = job(
            job_id,
            queue,
            at_front=front,
            delay_us=10**9 if later else None,
            retries=100,
            result_ttl_s=500 if kept else 0,
        )
        request = self.rqd.store.request_id()
        try:
            self.rqd.enqueue(new, request=request)
        except DuplicateJobError:
            assert self.status(job_id) in LIVE
        else:
            assert self.status(job_id) not in LIVE
            self.model[job_id] = Known(queue, "scheduled" if later else "queued", kept)
            # Its producer is the last one that may still send its request again.
            self.replays[job_id] = lambda: self.rqd.enqueue(new, request=request)

    # -- masters

    @rule(master=MASTERS, count=st.integers(1, 3))
    def claim(self, master: str, count: int) -> None:
        free = [n for n in (1, 2, 3) if (master, n) not in self.places][:count]
        if not free:
            return
        request = self.rqd.store.request_id()

        def ask() -> list[Claim]:
            return self.rqd.claim_for(free, "high", "low", master=master, request=request)

        expected = sum(
            one.status == "queued" and self.is_open(one.queue) for one in self.model.values()
        )
        claims = ask()
        assert len(claims) == min(expected, len(free))
        self.replays[master] = ask
        if not claims:
            del self.replays[master]  # nothing was done: sent again, it may claim
        for claim in claims:
            known = self.model[claim.id]
            assert (known.status, known.queue) == ("queued", claim.queue)
            assert claim.fence > self.last_fence
            self.last_fence = claim.fence
            known.status, known.token, known.is_to_stop = "started", claim.token, False
            known.attempt += 1
            known.starts += 1
            assert claim.attempt == known.attempt
            self.places[master, claim.worker] = claim

    @precondition(lambda self: self.places)
    @rule(data=st.data(), decision=DECISIONS, delay_us=st.sampled_from([0, 10**9]))
    def settle(self, data: st.DataObject, decision: str, delay_us: int) -> None:
        place = data.draw(st.sampled_from(sorted(self.places)))
        claim = self.places.pop(place)
        self.old.append(claim)
        request = self.rqd.store.request_id()

        def tell() -> tuple[str, ...]:
            told = settlement(claim, decision, delay_us=delay_us)
            return self.rqd.turn(told, master=place[0], request=request).verdicts

        self.replays[place[0]] = tell
        known = self.model.get(claim.id)
        if known is None or known.token != claim.token:
            self.refused(tell)
            return
        assert tell() == (self.note_settled(claim.id, known, decision, delay_us),)

    @precondition(lambda self: self.old)
    @rule(data=st.data(), decision=DECISIONS)
    def settle_late(self, data: st.DataObject, decision: str) -> None:
        claim = data.draw(st.sampled_from(self.old))
        self.refused(lambda: self.rqd.turn(settlement(claim, decision), master="late").verdicts)

    @rule(master=MASTERS)
    def beat(self, master: str) -> None:
        mine = {place: claim for place, claim in self.places.items() if place[0] == master}
        boot = self.boots[master]
        answer = self.rqd.beat(*mine.values(), master=master, boot=boot, workers=3)
        assert not answer.is_replaced
        for place, claim in mine.items():
            known = self.model.get(claim.id)
            is_lost = known is None or known.token != claim.token
            assert (claim.token in answer.lost) == is_lost
            if is_lost:
                self.old.append(self.places.pop(place))
        assert answer.reaped == ()

    @rule(job_id=IDS, master=MASTERS)
    def lose(self, job_id: str, master: str) -> None:
        if self.status(job_id) == "started":
            self.rqd.expire_leases(job_id)
            self.rqd.beat(master=master, boot=self.boots[master], workers=0)
            self.model[job_id].be_lost()

    @rule(master=MASTERS)
    def take_over(self, master: str) -> None:
        mine = [place for place in self.places if place[0] == master]
        held = {claim.id: claim for claim in map(self.places.pop, mine)}
        self.old += held.values()
        self.replays.pop(master, None)  # who sent it is dead
        lost = set()
        for job_id, claim in held.items():
            known = self.model.get(job_id)
            if known is not None and known.token == claim.token:
                known.be_lost()
                lost.add(job_id)
        assert self.greet(master, self.boots[master]) == lost

    # -- operators, and time

    @rule(job_id=IDS)
    def cancel(self, job_id: str) -> None:
        before = self.status(job_id)
        assert self.rqd.store.cancel(job_id) == before
        if before in WAITING:
            self.model[job_id].status = "canceled"

    @rule(job_id=IDS)
    def stop(self, job_id: str) -> None:
        before, request = self.status(job_id), self.rqd.store.request_id()

        def ask() -> None:
            assert self.rqd.store.stop(job_id, request, "somebody", 5) == before

        ask()
        if before == "started":
            self.model[job_id].is_to_stop = True

    @rule(what=PAUSED, for_s=st.sampled_from([None, 10**6]))
    def pause(self, what: str, for_s: float | None) -> None:
        self.rqd.store.pause(what, for_s)
        self.paused.add(what)

    @rule(what=PAUSED)
    def resume(self, what: str) -> None:
        assert self.rqd.store.resume(what) == (what in self.paused)
        self.paused.discard(what)

    @rule(job_id=IDS, at_front=st.booleans())
    def requeue(self, job_id: str, at_front: bool) -> None:
        before = self.status(job_id)
        assert self.rqd.store.requeue(job_id, at_front) == before
        if before in ENDED_BADLY:
            self.model[job_id].go_back(is_charged=True)
            self.model[job_id].losses = 0

    @rule(job_id=IDS)
    def delete(self, job_id: str) -> None:
        assert self.rqd.store.delete(job_id) == self.status(job_id)
        self.model.pop(job_id, None)

    @rule(queue=QUEUES)
    def empty(self, queue: str) -> None:
        there = [n for n, k in self.model.items() if (k.status, k.queue) == ("queued", queue)]
        assert self.rqd.store.empty(queue) == len(there)
        for job_id in there:
            del self.model[job_id]

    @rule()
    def promote(self) -> None:
        if ids := self.rqd.redis.zrange(self.rqd.keys.scheduled, 0, 0):
            self.rqd.redis.zadd(self.rqd.keys.scheduled, {ids[0]: 1})
            self.rqd.turn(master="promoter")
            if ids[0].startswith(b":resume:"):
                self.paused.remove(ids[0].decode().removeprefix(":resume:"))
            else:
                self.model[ids[0].decode()].status = "queued"

    # -- replies that were lost

    @precondition(lambda self: self.replays)
    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        again = self.replays[data.draw(st.sampled_from(sorted(self.replays)))]
        before = self.rqd.dump()
        answer = again()
        assert self.rqd.dump() == before
        if isinstance(answer, list):  # of claims: those it still holds
            for claim in answer:
                assert self.model[claim.id].token == claim.token

    # -- what holds all the time

    @invariant()
    def each_job_is_where_its_status_says(self) -> None:
        assert misplaced(self.rqd) == {}
        for job_id in NAMES:
            record, known = self.rqd.views.job(job_id), self.model.get(job_id)
            if known is None or record is None:
                assert known is None, job_id
                assert record is None, job_id
                continue
            lease = (self.rqd.field(job_id, "lease") or b"").decode()
            told = (record.status, record.origin, record.attempt, record.losses, lease)
            assert told == (
                known.status, known.queue, known.attempt, known.losses, known.token,
            )  # fmt: skip
            assert known.starts <= known.allowed

    @invariant()
    def queues_with_work_are_known(self) -> None:
        nonempty = {raw.decode() for raw in self.rqd.redis.smembers("{rqd}:nonempty")}
        with_work = {queue for queue in ("high", "low") if self.rqd.ready(queue)}
        assert {queue for queue in with_work if self.is_open(queue)} <= nonempty
        assert not any(queue in nonempty for queue in ("high", "low") if not self.is_open(queue))

    @invariant()
    def attempts_are_charged_as_they_ended(self) -> None:
        for job_id, known in self.model.items():
            if known.status != "started":
                ended = self.rqd.views.attempts(job_id)
                abandoned = sum("abandoned" in attempt.text("cause") for attempt in ended)
                assert len(ended) - abandoned <= known.attempt

    @invariant()
    def every_key_is_somebodys_and_what_has_ended_expires(self) -> None:
        for name in self.rqd.names():
            kind, _, rest = name.removeprefix("{rqd}:").partition(":")
            if kind in SHARED | GROUPS:
                continue
            assert kind == "job", name
            known = self.model.get(rest.partition(":")[0])
            is_over = known is None or known.status not in LIVE
            assert not is_over or self.rqd.ttl_s(name) > 0, name

    def teardown(self) -> None:
        """Each job that was acknowledged comes to one end."""
        for what in self.paused:
            self.rqd.store.resume(what)
        for place in sorted(self.places):
            claim = self.places[place]
            self.rqd.turn(settlement(claim, "put_back"), master=place[0])
        if waiting := self.rqd.redis.zrange(self.rqd.keys.scheduled, 0, -1):
            self.rqd.redis.zadd(self.rqd.keys.scheduled, dict.fromkeys(waiting, 1))
        self.rqd.turn(master="last")
        while claims := self.rqd.claim(3, "high", "low", master="last"):
            for claim in claims:
                assert self.rqd.settle(claim) == "settled"
        for job_id, known in self.model.items():
            record = self.rqd.views.job(job_id)
            assert record.status in {"finished", *ENDED_BADLY} if record else not known.is_kept
        assert misplaced(self.rqd) == {}

    # -- the model

    def is_open(self, queue: str) -> bool:
        return not {queue, ALL_QUEUES} & self.paused

    def status(self, job_id: str) -> str:
        return self.model[job_id].status if job_id in self.model else ""

    def note_settled(self, job_id: str, known: Known, decision: str, delay_us: int) -> str:
        """What the decision makes of a job that is held; returns the verdict."""
        if decision == "lose":
            return (
                ("stopped" if known.is_to_stop else "abandoned") if known.be_lost() else "settled"
            )
        known.token = ""
        if known.is_to_stop and decision in ("retry", "put_back", "park"):
            known.status, known.losses = "stopped", 0
            return "stopped"
        match decision:
            case "finish":
                known.status, known.losses = "finished", 0
                if not known.is_kept:
                    del self.model[job_id]
            case "fail":
                known.status, known.losses = "failed", 0
            case "stop":
                known.status, known.losses = "stopped", 0
            case "retry":
                known.losses = 0
                known.go_back(is_charged=True, later=delay_us > 0)
            case "park":
                known.go_back(is_charged=False, later=delay_us > 0)
            case "put_back":
                known.go_back(is_charged=False)
        return "settled"

    def refused(self, tell: Callable[[], tuple[str, ...]]) -> None:
        """A token that does not hold the job changes nothing of it."""
        before = {job_id: self.rqd.views.job(job_id) for job_id in NAMES}
        (verdict,) = tell()
        assert verdict in ("stale", "gone", "already")
        assert {job_id: self.rqd.views.job(job_id) for job_id in NAMES} == before

    def greet(self, master: str, predecessor: str) -> set[str]:
        boot = self.boots[master] = f"{master}{int(self.boots[master][1:]) + 1}"
        row: dict[str, str | int] = {"workers": 3}
        greeting = self.rqd.store.hello(master, boot, 900, row, predecessor)
        assert greeting.owner is None
        return {job_id for job_id, _, _ in greeting.reaped}


@pytest.mark.timeout(time_limit_s(60))
def test_any_order_of_events_keeps_the_jobs_in_order(server: RedisServer) -> None:
    machine = type("OnServer", (AnyOrder,), {"server": server})
    run_state_machine_as_test(machine, settings=fuzz(60, stateful_step_count=50))
