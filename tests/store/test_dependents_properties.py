"""Jobs that wait for one another, whatever is done in whatever order; beside a small model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from rqd.model.errors import DuplicateJobError, InvalidJobOperation, NoSuchJobError
from tests.fuzzing import fuzz, time_limit_s
from tests.servers import RedisServer
from tests.store.driving import Driver, in_group, job, settlement, waits_for
from tests.store.scenes import misplaced

NAMES = [f"j{number}" for number in range(7)]
IDS = st.sampled_from(NAMES)
CHOICES = st.sampled_from(["", "run", "cancel"])
LIVE = {"queued", "deferred", "open"}
GROUP = "group:g"
ENDED_BADLY = {"failed", "canceled"}


@dataclass
class Known:
    status: str
    on_failure: str = ""
    waits_for: set[str] = field(default_factory=set)
    is_member: bool = False


class Family(RuleBasedStateMachine):
    """Each step is sent twice: the second time is a replay, and changes nothing."""

    server: RedisServer

    def __init__(self) -> None:
        super().__init__()
        self.server.empty()
        self.rqd = Driver(self.server.url)
        self.model: dict[str, Known] = {}
        # Jobs of the one group there is, "open" or as they ended; the record may be gone by then.
        self.members: dict[str, str] = {}

    @initialize(data=st.data())
    def enqueue_a_family(self, data: st.DataObject) -> None:
        for number, job_id in enumerate(NAMES[:5]):
            earlier = st.sampled_from(NAMES[: max(1, number)])
            parents = data.draw(st.sets(earlier, min_size=1, max_size=3)) if number else set()
            self.add(job_id, parents, data.draw(CHOICES), is_member=data.draw(st.booleans()))

    @rule(job_id=IDS, is_member=st.booleans())
    def enqueue(self, job_id: str, is_member: bool) -> None:
        self.add(job_id, set(), "", is_member)

    @precondition(lambda self: self.model)
    @rule(job_id=IDS, data=st.data(), on_failure=CHOICES)
    def enqueue_a_dependent(self, job_id: str, data: st.DataObject, on_failure: str) -> None:
        there = st.sampled_from([*self.model] * 3 + NAMES + [GROUP] * 3)
        parents = data.draw(st.sets(there, min_size=1, max_size=3))
        self.add(
            job_id, parents, on_failure, is_member=GROUP not in parents and data.draw(st.booleans())
        )

    def add(self, job_id: str, parents: set[str], on_failure: str, is_member: bool) -> None:
        is_awaited = any(job_id in one.waits_for for one in self.model.values())
        group = "g" if is_member else ""
        terms = in_group("g") if is_member else ""
        if parents:
            terms = waits_for(*sorted(parents), on_failure=on_failure, group=group)
        request = self.rqd.store.request_id()

        def send() -> object:
            return self.rqd.enqueue(job(job_id, terms=terms), request=request)

        if self.status(job_id) in LIVE or (parents and is_awaited):
            with pytest.raises(DuplicateJobError):
                send()
            return
        if any(not self.status(parent) for parent in parents) or job_id in parents:
            with pytest.raises(NoSuchJobError):
                send()
            return
        if is_member and any(self.waits_for_group(parent, job_id) for parent in parents):
            with pytest.raises(InvalidJobOperation):
                send()
            return
        self.twice(send)
        self.join_or_leave_the_group(job_id, is_member)
        new = self.model[job_id] = Known("deferred", on_failure, set(parents), is_member)
        for parent in sorted(parents):
            if new.status == "deferred":
                self.hear_of(job_id, parent, self.status(parent))
        if not parents:
            new.status = "queued"

    def join_or_leave_the_group(self, job_id: str, is_member: bool) -> None:
        before = self.model.get(job_id)
        if is_member:
            self.members[job_id] = "open"
        elif before is not None and before.is_member:
            self.members.pop(job_id, None)

    @rule(ending=st.sampled_from(["finish", "fail", "lose for good"]), kept=st.booleans())
    def run_the_next(self, ending: str, kept: bool) -> None:
        claims = self.rqd.claim(1)
        assert bool(claims) == any(one.status == "queued" for one in self.model.values())
        for claim in claims:
            ttl_s = 500 if kept else 0
            self.rqd.redis.hset(self.rqd.keys.job(claim.id), "result_ttl", ttl_s)
            if ending == "lose for good":
                self.rqd.redis.hset(self.rqd.keys.job(claim.id), "losses", 2)
                self.rqd.expire_leases(claim.id)
                self.rqd.beat()
                self.end(claim.id, "failed")
                continue
            request = self.rqd.store.request_id()
            told = settlement(claim, ending)
            self.twice(lambda: self.rqd.turn(told, request=request))  # noqa: B023 - called here
            self.end(claim.id, "finished" if ending == "finish" else "failed")
            if ending == "finish" and not kept:
                del self.model[claim.id]  # of the group's counts it stays a part

    @rule(job_id=IDS, lets_go_on=st.booleans())
    def cancel(self, job_id: str, lets_go_on: bool) -> None:
        before = self.status(job_id)
        self.twice(lambda: self.rqd.store.cancel(job_id, enqueue_dependents=lets_go_on))
        if before in LIVE:
            self.end(job_id, "canceled", counts_as="finished" if lets_go_on else "canceled")
        elif before == "canceled" and lets_go_on:
            self.tell(job_id, "finished")

    @rule(job_id=IDS, takes_all=st.booleans())
    def delete(self, job_id: str, takes_all: bool) -> None:
        self.twice(lambda: self.rqd.store.delete(job_id, delete_dependents=takes_all))
        if job_id in self.model:
            self.remove(job_id, takes_all)

    @rule(job_id=IDS)
    def expire(self, job_id: str) -> None:
        """A record whose time to live is over, which a daemon notices in a while."""
        if self.status(job_id) not in ("", "deferred"):
            keys = self.rqd.keys
            self.rqd.redis.delete(keys.job(job_id))
            places = [keys.ready("low"), *(keys.index("low", i) for i in ("failed", "canceled"))]
            for key in [*places, keys.index("low", "finished")]:
                self.rqd.redis.zrem(key, job_id)
            self.remove(job_id, takes_all=False, is_seen=False)
            for _ in range(30):
                self.rqd.beat()

    @rule(job_id=IDS)
    def requeue(self, job_id: str) -> None:
        before = self.status(job_id)
        self.twice(lambda: self.rqd.store.requeue(job_id))
        if before in ENDED_BADLY:
            self.model[job_id].status = "queued"
            if self.model[job_id].is_member and job_id in self.members:
                self.members[job_id] = "open"

    @invariant()
    def all_is_as_the_model_has_it(self) -> None:
        assert misplaced(self.rqd) == {}
        assert self.rqd.redis.exists("{rqd}:endings") == 0
        for job_id in NAMES:
            record, known = self.rqd.views.job(job_id), self.model.get(job_id)
            assert (str(record.status) if record else "") == self.status(job_id), job_id
            awaited = {
                raw.decode() for raw in self.rqd.redis.smembers(self.rqd.keys.awaited(job_id))
            }
            assert awaited == (known.waits_for if known else set()), job_id
            waiting = {name for name, one in self.model.items() if job_id in one.waits_for}
            assert set(self.rqd.views.dependent_ids(job_id)) == waiting
            assert not known or (known.status == "deferred") == bool(known.waits_for)

    @invariant()
    def the_group_has_who_belongs_to_it(self) -> None:
        counts = self.rqd.views.group_counts("g")
        assert (counts is not None) == bool(self.members)
        assert set(self.rqd.views.group_job_ids("g")) == self.members.keys()
        if counts is not None:
            how = [*self.members.values()]
            told = (counts.total, counts.open, counts.finished, counts.failed, counts.canceled)
            states = ("open", "finished", "failed", "canceled")
            assert told == (len(how), *(how.count(state) for state in states))
        waiting = {name for name, one in self.model.items() if GROUP in one.waits_for}
        for key in (self.rqd.keys.group("g"), self.rqd.keys.group_jobs("g")):
            is_open = "open" in self.members.values()
            assert self.rqd.ttl_s(key) == -1 if is_open else self.rqd.ttl_s(key) != -1
        found = self.rqd.redis.zrange("{rqd}:group:g:dependents", 0, -1)
        found += self.rqd.redis.zrange("{rqd}:group:g:dependents:any", 0, -1)
        assert {raw.decode() for raw in found} == waiting

    def teardown(self) -> None:
        """Nobody is forgotten: when every job is deleted or has run, nothing is left over."""
        for job_id in [name for name, one in self.model.items() if one.status in ENDED_BADLY]:
            self.rqd.store.requeue(job_id)
        while claims := self.rqd.claim(1):
            self.rqd.settle(claims[0])
        assert not self.rqd.views.index_ids("low", "deferred")
        assert not [name for name in self.rqd.names() if "awaited" in name or "dependents" in name]

    # -- the model

    def waits_for_group(self, name: str, newcomer: str) -> bool:
        """Whether it waits for the group's end, by way of others too."""
        known = self.model.get(name)
        awaited = known.waits_for if known and name != newcomer else set()
        return GROUP in awaited or any(self.waits_for_group(one, newcomer) for one in awaited)

    def status(self, job_id: str) -> str:
        if job_id == GROUP:
            states = self.members.values()
            return "open" if "open" in states else "finished" if states else ""
        return self.model[job_id].status if job_id in self.model else ""

    def end(self, job_id: str, status: str, counts_as: str = "") -> None:
        self.model[job_id].status = status
        self.model[job_id].waits_for = set()
        self.tell(job_id, counts_as or status)
        if self.model[job_id].is_member and self.members.get(job_id) == "open":
            self.members[job_id] = status
            if self.status(GROUP) != "open":
                self.tell(GROUP, "finished")

    def remove(self, job_id: str, takes_all: bool, is_seen: bool = True) -> None:
        was = self.model.pop(job_id)
        for name, one in list(self.model.items()):
            if takes_all and job_id in one.waits_for and name in self.model:
                self.remove(name, takes_all=True)
        self.tell(job_id, "")
        if was.is_member and (is_seen or self.members.get(job_id) == "open"):
            self.members.pop(job_id, None)
            if self.status(GROUP) != "open":
                self.tell(GROUP, "finished")

    def tell(self, parent: str, status: str) -> None:
        for name, one in list(self.model.items()):
            if parent in one.waits_for:
                self.hear_of(name, parent, status)

    def hear_of(self, job_id: str, parent: str, status: str) -> None:
        one = self.model[job_id]
        is_over = status not in LIVE
        if status == "finished" or (is_over and one.on_failure == "run"):
            one.waits_for.discard(parent)
            if not one.waits_for:
                one.status = "queued"
        elif is_over and (one.on_failure == "cancel" or not status):
            self.end(job_id, "canceled")

    def twice(self, send: Callable[[], object]) -> None:
        send()
        before = self.rqd.dump()
        send()
        assert self.rqd.dump() == before


@pytest.mark.timeout(time_limit_s(60))
def test_whatever_becomes_of_the_parents_no_job_waits_in_vain(server: RedisServer) -> None:
    machine = type("OnServer", (Family,), {"server": server})
    run_state_machine_as_test(machine, settings=fuzz(20, stateful_step_count=25))
