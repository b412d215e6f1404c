"""When a master's next turn goes, and what it asks for; no server is asked."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from redis.exceptions import OutOfMemoryError, ResponseError

from rqd.daemon.claims import Claims
from rqd.daemon.config import Config
from rqd.daemon.dispatcher import Dispatcher
from rqd.daemon.redis_client import Marker, Refused
from rqd.daemon.timers import OPEN, Timers
from rqd.daemon.workers.attempt import Attempt
from rqd.daemon.workers.reader import Ended
from rqd.daemon.workers.worker import Worker
from rqd.daemon.workers.workers import Workers
from rqd.model.outcome import Report, Succeeded
from rqd.store.messages import Turn
from rqd.store.wire import is_staged
from tests.place import claim_of


class Link:
    """In place of a connection to Redis that answers nothing yet."""

    def __init__(self) -> None:
        self.retry_at = 0.0
        self.turns = SimpleNamespace(is_under_way=False, connect=lambda: None, ask=lambda *_: None)
        self.wake_listener = SimpleNamespace(
            is_listening=True,
            ignores_queues=True,
            next_at=lambda: float("inf"),
            listen=lambda *_: None,
        )
        self.store = SimpleNamespace(request_id=lambda: "r", turn_command=self.note)
        self.store.has_forgotten = lambda _: False
        self.sent: list[Turn] = []
        self.is_full = False
        self.refused = ""  # the job whose outcome can't be recorded

    def note(self, turn: Turn) -> list[Any]:
        if any(one.id == self.refused for one in turn.settlements):
            raise ResponseError
        if self.is_full and any(map(is_staged, turn.settlements)):
            raise OutOfMemoryError
        self.sent.append(turn)
        return []

    def failed(self, error: Exception, now: float) -> None:  # noqa: ARG002 - as RedisLink's
        raise Refused("so it is", will_pass=isinstance(error, OutOfMemoryError)) from error

    def succeeded(self, now: float) -> None:
        """It is there all the while."""

    def log_rejection(self, *_: object) -> None:
        """Nobody listens."""


@pytest.fixture
def link() -> Link:
    return Link()


@pytest.fixture
def workers() -> Workers:
    return Workers()


@pytest.fixture
def pool(workers: Workers) -> Any:
    """And all else that it asks."""
    others: Any = SimpleNamespace(name="m", boot="b", workers=workers, is_ready=True)
    others.start_assigned = lambda _: None
    others.error = lambda *_, **_more: None
    return others


@pytest.fixture
def timers() -> Timers:
    return Timers()


@pytest.fixture
def dispatch(link: Link, pool: Any, timers: Timers) -> Dispatcher:
    config = Config(url="redis://", queues=("low",))
    return Dispatcher(config, pool, link, pool, timers, pool)  # type: ignore[arg-type]  # all it asks


@pytest.fixture
def claims(dispatch: Dispatcher) -> Claims:
    return dispatch.claims


def test_a_turn_that_was_put_off_and_has_no_reason_any_more_wakes_nobody(
    dispatch: Dispatcher, workers: Workers, timers: Timers
) -> None:
    workers.by_number[1] = Worker(1)  # free, without a process
    dispatch.send_turn(1.0)
    dispatch.listen(1.0)
    assert timers.next_at(OPEN) == pytest.approx(1.002)

    dispatch.claims.is_paused = True
    dispatch.send_turn(1.001)
    dispatch.listen(1.001)

    assert timers.next_at(OPEN) == float("inf")


def test_a_turn_asks_for_no_more_jobs_than_one_may(
    dispatch: Dispatcher, workers: Workers, link: Link
) -> None:
    for number in range(1, 501):
        workers.by_number[number] = Worker(number, pace_s=0.001)
        workers.assign(claim_of(f"j{number}", worker=number), now=1.0)
    workers.by_number[501] = Worker(501)

    dispatch.send_turn(1.0)
    dispatch.send_turn(1.006)

    (turn,) = link.sent
    assert turn.free_workers == (501,)
    assert len(turn.ahead) == 63


def test_whether_a_turn_was_answered_is_told(
    dispatch: Dispatcher, workers: Workers, link: Link
) -> None:
    workers.by_number[1] = Worker(1)
    dispatch.send_turn(1.0)
    dispatch.send_turn(1.006)
    turns: Any = link.turns
    turns.has_answer = lambda ready: 5 in ready
    turns.answer = lambda: [b'["1000000",[],[],""]']
    turns.overdue_at = 2.0

    assert [dispatch.on_turn_reply(ready, 1.0) for ready in (set[int](), {5})] == [False, True]
    assert dispatch.claims.found_nothing


def test_who_has_nothing_asks_redis_before_it_takes_what_others_hold(
    dispatch: Dispatcher, workers: Workers, link: Link
) -> None:
    workers.by_number[1] = Worker(1)
    expects = [dispatch.expects_jobs]
    dispatch.send_turn(1.0)
    dispatch.send_turn(1.006)
    expects.append(dispatch.expects_jobs)
    turns: Any = link.turns
    turns.has_answer, turns.answer = bool, lambda: [b'["1000000",[],[],""]']

    assert dispatch.on_turn_reply({5}, 1.1)
    expects.append(dispatch.expects_jobs)

    assert expects == [True, True, False]


def test_who_has_claimed_all_it_may_does_not_wait_for_redis_before_it_takes_what_others_hold(
    dispatch: Dispatcher,
) -> None:
    dispatch.claims.request()
    dispatch.claims._left = 0

    assert not dispatch.expects_jobs


UNABLE: dict[str, tuple[str, str, object]] = {
    "all are at work": ("workers", "by_number", {}),
    "paused": ("claims", "is_paused", True),
    "stopping": ("claims", "is_open", False),
    "no zygote serves": ("pool", "is_ready", False),
    "all were claimed": ("claims", "_left", 0),
}


@pytest.mark.parametrize("why", [None, *UNABLE])
def test_a_marker_is_passed_on_by_who_can_claim_nothing(
    request: pytest.FixtureRequest,
    dispatch: Dispatcher,
    workers: Workers,
    link: Link,
    why: str | None,
) -> None:
    passed_on: list[str] = []
    listener: Any = link.wake_listener
    listener.read = lambda _ready, _now: Marker("low", "look")
    listener.pass_on = lambda queue, _now: passed_on.append(queue)
    workers.by_number[1] = Worker(1)
    if why is not None:
        whose, name, value = UNABLE[why]
        setattr(request.getfixturevalue(whose), name, value)

    dispatch.on_wake({5}, 1.0)

    assert passed_on == ([] if why is None else ["low"])


def ended(name: str, result_bytes: int) -> Ended:
    return Ended(Attempt(claim_of(name), 1), Report(Succeeded(b"x" * result_bytes)))


def settled(turn: Turn) -> list[str]:
    return [one.id for one in turn.settlements]


def test_outcomes_go_at_once_without_the_large_results_that_have_no_room(
    dispatch: Dispatcher, link: Link
) -> None:
    link.is_full = dispatch.claims.is_paused = True
    dispatch.add_ended([ended("a", 99_000), ended("b", 9), ended("c", 99_000)])

    dispatch.send_turn(1.0)

    assert [settled(turn) for turn in link.sent] == [["b"]]
    assert [attempt.claim.id for attempt in dispatch.unrecorded] == ["b", "a", "c"]


def test_one_outcome_that_redis_refuses_keeps_no_other_from_being_recorded(
    dispatch: Dispatcher, link: Link
) -> None:
    dispatch.claims.is_paused, link.refused = True, "a"
    dispatch.add_ended([ended("a", 9), ended("b", 9), ended("c", 9)])

    for now in (1.0, 2.0, 3.0):
        dispatch.send_turn(now)

    assert [settled(turn) for turn in link.sent] == [["b", "c"]]
    assert [attempt.claim.id for attempt in dispatch.unrecorded] == ["b", "c"]


def test_a_turn_that_may_have_been_carried_out_is_not_taken_apart(
    dispatch: Dispatcher, link: Link
) -> None:
    dispatch.claims.is_paused = True
    dispatch.add_ended([ended("a", 99_000), ended("b", 9)])
    dispatch.send_turn(1.0)
    link.is_full = True
    dispatch.send_turn(2.0)  # its answer was lost
    link.is_full = False
    dispatch.send_turn(4.0)

    first, again = link.sent
    assert first is again
    assert settled(again) == ["a", "b"]


def test_what_was_heard_and_is_not_told_yet_is_unfinished(workers: Workers, link: Link) -> None:
    pool: Any = SimpleNamespace(name="m", workers=workers, ended_meanwhile=[None])
    config = Config(url="redis://", queues=("low",))
    dispatch = Dispatcher(config, pool, link, pool, Timers(), pool)  # type: ignore[arg-type]  # all it asks

    assert dispatch.has_unfinished
    pool.ended_meanwhile = []
    assert not dispatch.has_unfinished
