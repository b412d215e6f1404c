"""Jobs are retried, deleted or canceled by the hundred: the matching ones, and each once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from rqd.model.errors import ConfigurationError
from rqd.model.filter import Filter
from rqd.store.bulk import CANCEL, DELETE, MOST_A_STEP, RETRY, Bulk, Progress
from tests.store.driving import Driver, job, settlement
from tests.store.scenes import misplaced

EVERY = Filter()
UNIQUE = '{"unique":{"key":"k","until":"finished"}}'


def bulk(rqd: Driver) -> Bulk:
    return Bulk(rqd.store)


def fail(
    rqd: Driver, *names: str, cause: str = "raised ValueError: no", queue: str = "low"
) -> None:
    rqd.enqueue(*(job(name, queue) for name in names))
    while claims := rqd.claim(256, queue):
        rqd.turn(*(settlement(one, "fail", cause=cause) for one in claims))


def do(rqd: Driver, act: str, wanted: Filter = EVERY, **options: Any) -> list[str]:
    return [one.id for step in bulk(rqd).steps(act, wanted, **options) for one in step.jobs]


def last(steps: Iterator[Progress]) -> Progress:
    return list(steps)[-1]


def facts(progress: Progress) -> tuple[int, int, dict[str, int]]:
    return progress.done, progress.changed, dict(progress.refused)


# -- retry


def test_all_failed_jobs_run_again_in_the_order_of_their_failures(rqd: Driver) -> None:
    fail(rqd, "b")
    fail(rqd, "a")
    fail(rqd, "other", queue="high")
    rqd.take_marker()

    assert do(rqd, RETRY, Filter(queue=("low",))) == ["b", "a"]

    assert rqd.ready() == ["b", "a"]
    assert rqd.has_marker()
    assert rqd.status("other") == "failed"
    assert rqd.record("a").cause == ""
    assert misplaced(rqd) == {}
    assert do(rqd, RETRY, Filter(queue=("low",))) == []


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("function:tasks.f", ["a", "k"]),
        ("function:task*", ["a", "k"]),
        ("function:tasks.* cause:SIGKILL", ["k"]),
        ("function:tasks", []),
        ("cause:ValueError", ["a"]),
        ("'cause:stopped by'", ["s"]),
        ("cause:stopped", ["s"]),
        ("state:stopped", ["s"]),
        ("until:1h", []),
        ("since:2990-01-01", []),
    ],
)
def test_the_counted_jobs_are_retried_and_no_others(
    rqd: Driver, words: str, meant: list[str]
) -> None:
    fail(rqd, "a")
    fail(rqd, "k", cause="crashed: SIGKILL")
    rqd.enqueue("s")
    rqd.settle(rqd.claim_one(), "stop", cause="stopped by ops@host")
    before, wanted = rqd.dump(), Filter.parse(words)

    assert bulk(rqd).count(RETRY, wanted).jobs == len(meant)
    assert do(rqd, RETRY, wanted, looks_only=True) == meant
    assert rqd.dump() == before
    assert do(rqd, RETRY, wanted) == meant
    assert rqd.ready() == meant


def test_hundreds_come_in_steps_and_each_once(rqd: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    # A step ends after its jobs or its time, whichever is first: here the jobs, on any machine.
    monkeypatch.setattr("rqd.store.bulk._STEP_S", 60.0)
    names = [f"j{number}" for number in range(2 * MOST_A_STEP + 50)]
    fail(rqd, *names)

    steps = list(bulk(rqd).steps(RETRY, EVERY))

    assert [len(one.jobs) for one in steps] == [MOST_A_STEP, MOST_A_STEP, 50]
    assert facts(steps[-1]) == (len(names), 0, {})
    assert [one.looked_at for one in steps] == [MOST_A_STEP, 2 * MOST_A_STEP, len(names)]
    assert {one.total for one in steps} == {len(names)}
    assert sorted(rqd.ready()) == sorted(names)
    assert misplaced(rqd) == {}


def test_a_job_that_fails_again_meanwhile_is_left_alone(rqd: Driver) -> None:
    names = [f"j{number}" for number in range(MOST_A_STEP + 1)]
    fail(rqd, *names)
    steps = bulk(rqd).steps(RETRY, EVERY)
    next(steps)
    (again,) = rqd.claim(1)
    rqd.settle(again, "fail", cause="again")

    assert last(steps).done == len(names)
    assert rqd.status(again.id) == "failed"


def test_a_job_whose_unique_key_another_one_has_by_now_is_refused_and_counted(rqd: Driver) -> None:
    rqd.enqueue(job("a", terms=UNIQUE))
    rqd.settle(rqd.claim_one(), "fail", cause="x")
    rqd.enqueue(job("b", terms=UNIQUE))

    end = last(bulk(rqd).steps(RETRY, EVERY))

    assert facts(end) == (0, 0, {"another job has its unique key by now": 1})
    assert rqd.status("a") == "failed"


def test_a_paused_queue_stays_so(rqd: Driver) -> None:
    fail(rqd, "a")
    rqd.store.pause("low")
    assert do(rqd, RETRY) == ["a"]
    assert rqd.claim() == []


# -- delete and cancel


def test_the_matching_jobs_are_deleted_and_no_others(rqd: Driver) -> None:
    fail(rqd, "a", "b", cause="crashed: SIGKILL")
    fail(rqd, "c")

    assert do(rqd, DELETE, Filter(cause="crashed")) == ["a", "b"]

    assert [rqd.views.job(name) is None for name in "abc"] == [True, True, False]
    assert misplaced(rqd) == {}


def test_waiting_jobs_are_canceled_in_each_of_their_states(rqd: Driver) -> None:
    rqd.enqueue("q", job("later", delay_us=10**9), "q2")
    rqd.enqueue(job("child", terms='{"depends_on":{"ids":["later"]}}'))

    assert do(rqd, CANCEL, Filter("queued")) == ["q", "q2"]
    assert do(rqd, CANCEL, Filter("deferred")) == ["child"]
    assert do(rqd, CANCEL, Filter("scheduled", id="la")) == ["later"]
    assert {rqd.status(name) for name in ("q", "q2", "later", "child")} == {"canceled"}
    assert misplaced(rqd) == {}


@pytest.mark.parametrize(
    ("act", "state"),
    [(RETRY, "queued"), (RETRY, "finished"), (CANCEL, "failed"), (DELETE, "started")],
)
def test_a_state_whose_jobs_can_not_be_changed_so_is_refused_at_once(
    rqd: Driver, act: str, state: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"{act} can't be done to {state} jobs: write "):
        bulk(rqd).steps(act, Filter(state))
    with pytest.raises(ConfigurationError):
        bulk(rqd).count(act, Filter(state))


# -- others at work


class Meanwhile(Bulk):
    """Something happens between the search of each step and its changes."""

    def __init__(self, rqd: Driver, happens: Any) -> None:
        super().__init__(rqd.store)
        self._happens = happens

    def _act(self, *args: Any) -> Progress:
        self._happens()
        return super()._act(*args)


@pytest.mark.parametrize("act", [RETRY, DELETE])
def test_a_job_that_left_its_state_meanwhile_is_counted_and_left_alone(
    rqd: Driver, act: str
) -> None:
    fail(rqd, "gone", "runs", "canceled", "stays")

    def happens() -> None:
        rqd.store.delete("gone")
        rqd.store.requeue("runs")
        rqd.claim(1)
        rqd.store.requeue("canceled")
        rqd.store.cancel("canceled")

    end = last(Meanwhile(rqd, happens).steps(act, EVERY))

    assert facts(end) == (1, 3, {})
    assert rqd.status("runs") == "started"
    assert rqd.status("canceled") == "canceled"
    assert misplaced(rqd) == {}


def test_a_canceled_job_that_was_claimed_meanwhile_runs_on(rqd: Driver) -> None:
    rqd.enqueue("a", "b")

    end = last(Meanwhile(rqd, lambda: rqd.claim(1)).steps(CANCEL, Filter("queued")))

    assert facts(end) == (1, 1, {})
    assert (rqd.status("a"), rqd.status("b")) == ("started", "canceled")


@pytest.mark.parametrize("act", [RETRY, DELETE])
def test_two_at_once_change_each_job_once(rqd: Driver, act: str) -> None:
    names = [f"j{number}" for number in range(3 * MOST_A_STEP)]
    fail(rqd, *names)

    def act_once(_: int) -> Progress:
        return last(Bulk(Driver(rqd.url).store).steps(act, EVERY))

    with ThreadPoolExecutor(2) as both:
        ends = list(both.map(act_once, range(2)))

    assert sum(one.done for one in ends) == len(names)
    assert [dict(one.refused) for one in ends] == [{}, {}]
    assert sorted(rqd.ready()) == (sorted(names) if act == RETRY else [])
    assert misplaced(rqd) == {}


def test_what_was_stopped_between_two_steps_goes_on_there(rqd: Driver) -> None:
    names = [f"j{number}" for number in range(2 * MOST_A_STEP + 1)]
    fail(rqd, *names)
    fail(rqd, "h", queue="high")
    rqd.enqueue(job("u", "high", terms=UNIQUE))
    rqd.settle(rqd.claim_one("high"), "fail", cause="x")
    rqd.enqueue(job("holder", "high", terms=UNIQUE))

    stopped = next(bulk(rqd).steps(RETRY, EVERY))
    while not stopped.is_over:
        assert len(rqd.ready()) + len(rqd.ready("high")) == stopped.done + 1
        stopped = next(bulk(rqd).steps(RETRY, EVERY, so_far=replace(stopped, jobs=())))

    assert facts(stopped) == (len(names) + 1, 0, {"another job has its unique key by now": 1})
    assert (stopped.is_over, stopped.looked_at) == (True, stopped.total)


def test_jobs_that_fail_after_a_stop_are_left_alone(rqd: Driver) -> None:
    fail(rqd, *(f"j{number}" for number in range(MOST_A_STEP + 1)))
    stopped = next(bulk(rqd).steps(RETRY, EVERY))
    fail(rqd, "later", queue="zz")

    assert last(bulk(rqd).steps(RETRY, EVERY, so_far=stopped)).done == MOST_A_STEP + 1
    assert rqd.status("later") == "failed"


def test_queues_that_others_made_up_are_passed_over(rqd: Driver) -> None:
    fail(rqd, "a")
    rqd.redis.sadd(rqd.keys.queues, "no queue", b"\xff")
    for name in ("no queue", "nothing"):
        rqd.redis.zadd(rqd.keys.index(name, "failed"), {"a": 1})

    assert do(rqd, RETRY) == ["a"]
    end = last(bulk(rqd).steps(RETRY, Filter(queue=("none",))))
    assert (end.done, end.total, end.is_over) == (0, 0, True)


@pytest.mark.parametrize("is_script_known", [True, False])
def test_an_error_of_redis_is_counted_by_its_words(rqd: Driver, is_script_known: bool) -> None:
    fail(rqd, "a", "b")
    if is_script_known:
        rqd.store.ask_each("requeue", [("nobody", "", "failed")])
    else:
        rqd.redis.script_flush()
    rqd.redis.delete(rqd.keys.ready("low"))
    rqd.redis.set(rqd.keys.ready("low"), "x")

    ((reason, count),) = last(bulk(rqd).steps(RETRY, EVERY)).refused.items()

    assert count == 2
    assert "holds something that is not rqd's" in reason


def test_a_server_that_knows_no_script_yet_is_given_it(rqd: Driver) -> None:
    fail(rqd, "a", "b")
    rqd.redis.script_flush()

    assert do(rqd, DELETE) == ["a", "b"]
