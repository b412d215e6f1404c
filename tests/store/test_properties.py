"""Whatever is done in whatever order, a job is in one place, and nobody else's token moves it."""

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
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
from tests.servers import RedisServer
from tests.store.driving import Driver, job, settlement

IDS = st.sampled_from([f"j{number}" for number in range(6)])
QUEUES = st.sampled_from(["high", "low"])
LIVE = {"queued", "started", "scheduled"}


class AnyOrder(RuleBasedStateMachine):
    """Producers, two masters and an operator, as they come."""

    server: RedisServer

    def __init__(self) -> None:
        super().__init__()
        self.server.empty()
        self.rqd = Driver(self.server.url)
        self.claims: list[Claim] = []
        self.last_fence = 0
        self.last_enqueue: tuple[Any, str] | None = None

    @rule(job_id=IDS, queue=QUEUES, later=st.booleans(), front=st.booleans(), ttl_0=st.booleans())
    def enqueue(self, job_id: str, queue: str, later: bool, front: bool, ttl_0: bool) -> None:
        alive = self.status(job_id) in LIVE
        new = job(
            job_id,
            queue,
            at_front=front,
            delay_us=10**9 if later else None,
            retries=1,
            result_ttl_s=0 if ttl_0 else 500,
        )
        request = self.rqd.store.request_id()
        try:
            self.rqd.enqueue(new, request=request)
        except DuplicateJobError:
            assert alive
        else:
            assert not alive
            self.last_enqueue = (new, request)

    @precondition(lambda self: self.last_enqueue)
    @rule()
    def enqueue_again(self) -> None:
        assert self.last_enqueue
        new, request = self.last_enqueue
        before = self.rqd.dump()
        self.rqd.enqueue(new, request=request)
        assert self.rqd.dump() == before

    @rule(master=st.sampled_from(["m", "n"]), count=st.integers(1, 3))
    def claim(self, master: str, count: int) -> None:
        for claim in self.rqd.claim(count, "high", "low", master=master):
            assert claim.fence > self.last_fence
            self.last_fence = claim.fence
            self.claims.append(claim)

    @precondition(lambda self: self.claims)
    @rule(
        data=st.data(),
        decision=st.sampled_from(["finish", "fail", "retry", "put_back"]),
        delay_us=st.sampled_from([0, 10**9]),
    )
    def settle(self, data: st.DataObject, decision: str, delay_us: int) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        held = self.rqd.field(claim.id, "lease") == claim.token.encode()
        before = self.rqd.views.job(claim.id)
        (verdict,) = self.rqd.turn(settlement(claim, decision, delay_us=delay_us)).verdicts
        assert (verdict == "settled") == held
        if not held:
            assert self.rqd.views.job(claim.id) == before

    @rule(job_id=IDS)
    def lose(self, job_id: str) -> None:
        if self.status(job_id) == "started":
            self.rqd.expire_leases(job_id)
            self.rqd.beat()

    @rule(job_id=IDS, what=st.sampled_from(["cancel", "requeue", "delete"]))
    def operate(self, job_id: str, what: str) -> None:
        getattr(self.rqd.store, what)(job_id)

    @rule(queue=QUEUES)
    def empty(self, queue: str) -> None:
        self.rqd.store.empty(queue)

    @rule()
    def promote(self) -> None:
        if ids := self.rqd.redis.zrange(self.rqd.keys.scheduled, 0, 0):
            self.rqd.redis.zadd(self.rqd.keys.scheduled, {ids[0]: 1})
            self.rqd.turn()

    @invariant()
    def each_job_is_where_its_status_says(self) -> None:
        rqd = self.rqd
        places: dict[str, set[str]] = {}
        for queue in ("high", "low"):
            for job_id in rqd.ready(queue):
                places.setdefault(job_id, set()).add(f"queued in {queue}")
            for index in ("started", "scheduled", "finished", "failed", "canceled"):
                for job_id in rqd.views.index_ids(queue, index):
                    places.setdefault(job_id, set()).add(f"{index} in {queue}")
        for number in range(6):
            record = rqd.views.job(f"j{number}")
            told = {f"{record.status} in {record.origin}"} if record else set()
            assert places.get(f"j{number}", set()) == told

    @invariant()
    def leases_are_of_started_jobs(self) -> None:
        rqd = self.rqd
        leased = {raw.decode() for raw in rqd.redis.zrange(rqd.keys.leases, 0, -1)}
        assert leased == {f"j{n}" for n in range(6) if self.status(f"j{n}") == "started"}

    @invariant()
    def queues_with_work_are_known(self) -> None:
        nonempty = {raw.decode() for raw in self.rqd.redis.smembers("{rqd}:nonempty")}
        assert {queue for queue in ("high", "low") if self.rqd.ready(queue)} <= nonempty

    @invariant()
    def attempts_are_charged_as_they_ended(self) -> None:
        for number in range(6):
            record = self.rqd.views.job(f"j{number}")
            if record and record.status not in ("started",):
                ended = self.rqd.views.attempts(record.id)
                abandoned = sum("abandoned" in attempt.text("cause") for attempt in ended)
                assert len(ended) - abandoned <= record.attempt

    def status(self, job_id: str) -> str:
        record = self.rqd.views.job(job_id)
        return str(record.status) if record else "none"


@pytest.mark.timeout(60)
def test_any_order_of_events_keeps_the_jobs_in_order(server: RedisServer) -> None:
    machine = type("OnServer", (AnyOrder,), {"server": server})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
