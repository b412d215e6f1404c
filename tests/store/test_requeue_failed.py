"""Failed jobs run again by the hundred: those that are meant, and each once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rqd.store.messages import Failures
from tests.store.driving import Driver, job
from tests.store.scenes import misplaced

EVERY = Failures()


def fail(
    rqd: Driver, *names: str, cause: str = "raised ValueError: no", queue: str = "low"
) -> None:
    rqd.enqueue(*(job(name, queue) for name in names))
    for one in rqd.claim(len(names), queue):
        rqd.settle(one, "fail", cause=cause)


def requeue(rqd: Driver, failures: Failures = EVERY, looks_only: bool = False) -> list[str]:
    portions = rqd.store.requeue_failed("low", failures, looks_only)
    return [job_id for portion in portions for job_id in portion.ids]


def test_all_failed_jobs_of_a_queue_run_again_in_the_order_of_their_failures(rqd: Driver) -> None:
    fail(rqd, "b")
    fail(rqd, "a")
    fail(rqd, "other", queue="high")
    rqd.take_marker()

    assert requeue(rqd) == ["b", "a"]

    assert rqd.ready() == ["b", "a"]
    assert rqd.has_marker()
    assert rqd.status("other") == "failed"
    assert rqd.record("a").cause == ""
    assert misplaced(rqd) == {}
    assert requeue(rqd) == []


def test_hundreds_come_in_portions_and_each_once(rqd: Driver) -> None:
    names = [f"j{number}" for number in range(450)]
    fail(rqd, *names)

    portions = list(rqd.store.requeue_failed("low", EVERY))

    assert len(portions) > 2
    assert max(portion.looked_at for portion in portions) < 250
    assert sorted(job_id for portion in portions for job_id in portion.ids) == sorted(names)
    assert len(rqd.ready()) == 450


def test_a_portion_sent_twice_requeues_nothing_twice(rqd: Driver) -> None:
    fail(rqd, "a", "b")
    requeue(rqd)
    before = rqd.dump()

    assert requeue(rqd) == []

    assert rqd.dump() == before


@pytest.mark.parametrize(
    ("failures", "meant"),
    [
        (Failures(function="tasks.f"), ["a", "k"]),
        (Failures(function="task*"), ["a", "k"]),
        (Failures(function="tasks.*", cause="SIGKILL"), ["k"]),
        (Failures(function="tasks"), []),
        (Failures(function="t%w*"), []),
        (Failures(cause="ValueError"), ["a"]),
        (Failures(cause="stopped by"), ["s"]),
        (Failures(cause="no [such] (pattern%"), []),
        (Failures(latest_us=5), []),
        (Failures(earliest_us=2**52), []),
    ],
)
def test_only_those_that_are_meant_run_again(
    rqd: Driver, failures: Failures, meant: list[str]
) -> None:
    fail(rqd, "a")
    fail(rqd, "k", cause="crashed: SIGKILL")
    rqd.enqueue("s")
    rqd.settle(rqd.claim_one(), "stop", cause="stopped by ops@host")
    before = rqd.dump()

    assert requeue(rqd, failures, looks_only=True) == meant
    assert rqd.dump() == before
    assert requeue(rqd, failures) == meant
    assert rqd.ready() == meant


def test_what_fails_again_meanwhile_is_not_meant(rqd: Driver) -> None:
    fail(rqd, "a")
    until_now = replace(EVERY, latest_us=rqd.views.now_us())
    assert requeue(rqd, until_now) == ["a"]
    rqd.settle(rqd.claim_one(), "fail", cause="again")

    assert requeue(rqd, until_now) == []


def test_a_job_whose_unique_key_another_one_has_by_now_stays_failed(rqd: Driver) -> None:
    terms = '{"unique":{"key":"k","until":"finished"}}'
    rqd.enqueue(job("a", terms=terms))
    rqd.settle(rqd.claim_one(), "fail", cause="x")
    rqd.enqueue(job("b", terms=terms))

    assert requeue(rqd) == []
    assert rqd.status("a") == "failed"


def test_a_paused_queue_stays_so(rqd: Driver) -> None:
    fail(rqd, "a")
    rqd.store.pause("low")
    assert requeue(rqd) == ["a"]
    assert rqd.claim() == []
