"""Jobs that a worker holds behind the one it runs: how many, which is next, and who goes back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from rqd.daemon.config import Config
from rqd.daemon.control.commands import Stops
from rqd.daemon.control.heartbeat import Heartbeat
from rqd.daemon.settlement import settlement
from rqd.daemon.timers import OPEN
from rqd.daemon.workers import prefetch
from rqd.daemon.workers.worker import Worker
from rqd.daemon.workers.workers import Workers
from rqd.daemon.zygote import protocol
from rqd.daemon.zygote.protocol import FrameReader
from rqd.daemon.zygotes.learning import Learning
from rqd.model.outcome import Report, Stopped, Succeeded
from tests.place import Box, claim_of

ALWAYS = 1000


@pytest.fixture
def place() -> Iterator[Box]:
    """A worker that is at its first job."""
    made = Box(ALWAYS)
    made.workers.assign(claim_of("a"), now=1.0)
    made.start(1.0)
    made.take()
    yield made
    made.close()


def end(place: Box, name: str, at: float) -> list[str]:
    """The running job answers; what became of whom."""
    used = (b"1", b"1", b"1", b"0")
    place.far.sendall(
        protocol.encode_frame(protocol.SUCCEEDED, b"7:%b" % name.encode(), b"", b"", *used)
    )
    heard = place.hear(at)
    assert heard is not None
    assert isinstance(heard[1].outcome, Succeeded)
    return [heard[0].claim.id, *held(place.workers)]


def held(workers: Workers) -> list[str]:
    return [attempt.claim.id for attempt in workers.held()]


def test_nothing_is_held_ahead_until_a_job_was_quick(place: Box) -> None:
    assert place.numbers(1.0) == []

    end(place, "a", at=1.001)
    place.workers.assign(claim_of("b"), now=1.002)

    assert place.numbers(1.0) == [1] * 20


def test_a_worker_that_has_just_run_dry_gets_more_than_one_job_and_one_that_rests_does_not(
    place: Box,
) -> None:
    end(place, "a", at=1.001)

    assert place.numbers(1.002) == [1] * 20
    assert place.numbers(1.03) == []


@pytest.mark.parametrize(("took_s", "wanted"), [(0.0001, 48), (0.005, 4), (0.019, 1), (0.021, 0)])
def test_as_many_are_held_as_are_soon_run(place: Box, took_s: float, wanted: int) -> None:
    end(place, "a", at=1.0 + took_s)
    place.workers.assign(claim_of("b"), now=2.0)

    assert len(place.numbers(1.0)) == wanted


def test_the_next_one_is_the_workers_as_soon_as_one_has_ended(place: Box) -> None:
    for name in ("b", "c"):
        place.workers.assign(claim_of(name), now=1.0)
    assert held(place.workers) == ["a", "b", "c"]
    assert place.worker.attempt is not None
    assert place.worker.attempt.claim.id == "a"

    assert end(place, "a", at=1.001) == ["a", "b", "c"]
    assert place.worker.attempt.claim.id == "b"
    assert place.worker.attempt.started_at is None
    place.start(1.001)
    assert end(place, "b", at=1.002) == ["b", "c"]


def test_idle_time_is_not_taken_for_a_jobs_pace(place: Box) -> None:
    end(place, "a", at=1.001)
    place.workers.assign(claim_of("b"), now=500.0)
    place.start(500.0)
    end(place, "b", at=500.001)
    place.workers.assign(claim_of("c"), now=500.002)

    assert len(place.numbers(1.0)) == 20


def test_what_waits_behind_a_long_job_goes_back_soon(place: Box) -> None:
    for name in ("b", "c"):
        place.pool.assign(claim_of(name), now=1.0)
    assert place.timers.next_at(OPEN) == pytest.approx(1.05)

    assert prefetch.release_late(place.workers, 1.049) == []
    freed = prefetch.release_late(place.workers, 1.051)

    assert [attempt.claim.id for attempt in freed] == ["b", "c"]
    assert held(place.workers) == ["a"]


def test_nothing_is_held_again_behind_a_long_job(place: Box) -> None:
    end(place, "a", at=1.001)
    for name in ("b", "c"):
        place.workers.assign(claim_of(name), now=1.0)
    place.start(1.001)
    place.take()
    assert prefetch.release_late(place.workers, 1.1)
    assert place.numbers(1.1) == []

    end(place, "b", at=1.101)
    place.workers.assign(claim_of("d"), now=1.102)
    place.start(1.102)
    assert place.numbers(1.102) == []  # its pace is not that of the latest one alone

    for at in range(103, 113, 2):
        end(place, "d", at=1 + at / 1000)
        place.workers.assign(claim_of("d"), now=1.001 + at / 1000)
        place.start(1.001 + at / 1000)
    assert len(place.numbers(1.112)) > 5


def test_nothing_is_claimed_behind_a_job_that_runs_for_long(place: Box) -> None:
    end(place, "a", at=1.001)
    place.workers.assign(claim_of("b"), now=1.002)
    place.start(1.002)

    assert len(place.numbers(1.003)) == 20
    assert len(place.numbers(1.0115)) == 2
    assert place.numbers(1.053) == []


def test_a_place_that_is_taken_away_keeps_nothing(place: Box) -> None:
    for name in ("b", "c"):
        place.workers.assign(claim_of(name), now=1.0)
    place.worker.wanted = False
    end(place, "a", at=1.001)
    place.worker.detach()

    freed = prefetch.release_late(place.workers, 1.001)

    assert [attempt.claim.id for attempt in freed] == ["b", "c"]
    assert not place.worker.is_present


def test_a_stop_takes_back_what_no_process_has_got(place: Box) -> None:
    for name in ("b", "c"):
        place.workers.assign(claim_of(name), now=1.0)

    assert [attempt.claim.id for attempt in place.worker.release_unstarted()] == ["b", "c"]
    assert held(place.workers) == ["a"]

    end(place, "a", at=1.001)
    place.workers.assign(claim_of("d"), now=1.0)
    place.workers.assign(claim_of("e"), now=1.0)
    assert [attempt.claim.id for attempt in place.worker.release_unstarted()] == ["d", "e"]
    assert held(place.workers) == []


def test_a_lost_lease_of_a_job_that_has_not_begun_is_only_forgotten(place: Box) -> None:
    for name in ("b", "c"):
        place.workers.assign(claim_of(name), now=1.0)

    place.pool.lose({"7:a", "7:b"}, 1.0)

    assert held(place.workers) == ["a", "c"]


def test_few_jobs_are_not_all_behind_one_worker(place: Box) -> None:
    place.workers.by_number[2] = Worker(2)
    place.workers.assign(claim_of("x", worker=2), now=1.0)
    for worker in place.workers:
        worker.pace_s = 0.01

    assert place.numbers(1.0) == [1, 2, 1, 2]


def test_nothing_is_held_ahead_beside_a_suspect(place: Box) -> None:
    place.worker.pace_s = 0.001
    place.workers.by_number[2] = Worker(2)
    place.workers.assign(claim_of("x", worker=2, losses=2), now=1.0)

    assert place.numbers(1.0) == []


def test_more_time_for_a_job_that_waits_is_its_own(place: Box) -> None:
    place.workers.assign(claim_of("b"), now=1.0)
    before = [attempt.limit_s for attempt in place.workers.held()]

    place.pool.extend("b", 7, 100.0, 1.0)

    assert [attempt.limit_s for attempt in place.workers.held()] == [before[0], before[1] + 100]


def test_outcomes_wait_for_others_as_long_as_nobody_waits_for_a_job(place: Box) -> None:
    place.worker.pace_s = 0.0025
    child = place.worker.child
    assert child is not None
    assert prefetch.need_jobs_in_s(place.workers, 1.0) == 0

    child.jobs_left = 0
    assert prefetch.need_jobs_in_s(place.workers, 1.0) == pytest.approx(
        0.002
    )  # its next one is forked first

    for name in ("b", "c", "d", "e"):  # half of what it may hold
        assert prefetch.need_jobs_in_s(place.workers, 1.0) == pytest.approx(0.002)
        place.workers.assign(claim_of(name), now=1.0)
    assert prefetch.need_jobs_in_s(place.workers, 1.0) == pytest.approx(0.005)

    place.workers.by_number[2] = Worker(2)
    assert prefetch.need_jobs_in_s(place.workers, 1.0) == pytest.approx(
        0.002
    )  # free, but without a process


def test_a_lost_lease_takes_the_job_that_waits_for_a_process_too(place: Box) -> None:
    for name in ("b", "c"):
        place.workers.assign(claim_of(name), now=1.0)
    end(place, "a", at=1.001)

    place.pool.lose({"7:b"}, 1.0)

    assert held(place.workers) == ["c"]
    assert place.worker.attempt is not None


def test_a_job_that_waits_is_let_go_by_itself(place: Box) -> None:
    _, b, c = [place.workers.held()[0], *(place.workers.assign(claim_of(n), 1.0) for n in "bc")]

    place.worker.drop(b)
    assert held(place.workers) == ["a", "c"]

    end(place, "a", at=1.001)
    place.worker.drop(c)
    assert held(place.workers) == []


def test_an_attempt_that_lost_its_lease_takes_no_later_one_of_its_job_along(place: Box) -> None:
    place.workers.assign(replace(claim_of("b"), token="8:b"), now=1.0)
    place.workers.assign(replace(claim_of("b"), token="9:b"), now=1.0)

    place.pool.lose({"8:b"}, 1.0)

    assert [attempt.claim.token for attempt in place.workers.held()] == ["7:a", "9:b"]


def test_a_job_that_waits_and_is_told_to_stop_does_not_begin(place: Box) -> None:
    for name in ("b", "c"):
        place.workers.assign(claim_of(name), now=1.0)
    silent = SimpleNamespace(info=lambda *_, **__: None)
    stops = Stops(SimpleNamespace(workers=place.workers, stop_prefetch=lambda *_: True), silent)  # type: ignore[arg-type]  # stand-ins

    (ended,) = stops.obey([{"token": "7:c", "by": "ops"}], 1.0)

    assert (ended.attempt.claim.id, ended.report.outcome) == ("c", Stopped("ops"))
    assert held(place.workers) == ["a", "b"]


def test_a_child_that_is_at_a_longer_job_is_heard_ever_less_often(place: Box) -> None:
    end(place, "a", at=1.00001)  # so quick are the latest ones
    for name in ("b", "c"):
        place.workers.assign(claim_of(name), now=1.00001)

    heard, now = 0, 1.00001
    while now < 1.05:
        heard, now = heard + 1, now + prefetch.read_in_s(place.worker, now)

    assert heard < 50


def beside(place: Box, losses: int = 0) -> Worker:
    """Another worker, whose child waits for a job; or it has a suspect."""
    other = place.workers.by_number[2] = Worker(2)
    place.fork(101, worker=2)
    if losses:
        place.workers.assign(claim_of("x", worker=2, losses=losses), now=1.0)
    return other


def jobs_of(worker: Worker) -> list[str]:
    return [attempt.claim.id for attempt in worker.held()]


def test_who_has_nothing_takes_half_of_what_others_hold_the_longest_waiting_first(
    place: Box,
) -> None:
    other = beside(place)
    for name in ("b", "c", "d"):
        place.workers.assign(claim_of(name), now=1.0)

    assert prefetch.steal(place.workers, 1.004) == [other, place.worker]

    assert (jobs_of(place.worker), jobs_of(other)) == (["a", "d"], ["b", "c"])
    assert [attempt.worker for attempt in other.held()] == [2, 2]
    assert prefetch.steal(place.workers, 1.004) == []


def test_several_who_have_nothing_take_what_there_is_and_the_last_of_them_may_get_none(
    place: Box,
) -> None:
    other = beside(place)
    third, fourth = (place.workers.by_number.setdefault(n, Worker(n)) for n in (3, 4))
    for name in ("b", "c"):
        place.workers.assign(claim_of(name), now=1.0)

    changed = prefetch.steal(place.workers, 1.004)

    assert [worker.number for worker in changed] == [2, 1, 3, 1]
    assert [jobs_of(one) for one in (place.worker, other, third)] == [["a"], ["b"], ["c"]]
    assert fourth.attempt is None


def test_of_several_who_hold_jobs_the_one_gives_whose_first_has_waited_longest(
    place: Box,
) -> None:
    for number in (2, 3):
        place.workers.by_number[number] = Worker(number)
        place.workers.assign(claim_of(f"x{number}", worker=number), now=1.0)
    place.workers.by_number[4] = Worker(4)
    for at, number in ((1.003, 1), (1.001, 2), (1.002, 3)):
        place.workers.assign(claim_of(f"y{number}", worker=number), now=at)

    prefetch.steal(place.workers, 1.01)

    assert jobs_of(place.workers.by_number[4]) == ["y2"]


def test_a_job_that_soon_starts_where_it_is_is_not_moved(place: Box) -> None:
    other = beside(place)
    end(place, "a", at=1.001)
    for name in ("b", "c", "d"):
        place.workers.assign(claim_of(name), now=1.001)
    place.start(1.001)

    assert prefetch.steal(place.workers, 1.0015) == []
    assert prefetch.steal(place.workers, 1.003) == [
        other,
        place.worker,
    ]  # its job takes longer than the latest


def test_where_jobs_are_slow_one_is_moved_though_the_one_before_it_has_just_begun(
    place: Box,
) -> None:
    other = beside(place)
    end(place, "a", at=1.02)
    for name in ("b", "c"):
        place.workers.assign(claim_of(name), now=1.02)
    place.start(1.02)

    assert prefetch.steal(place.workers, 1.02) == [other, place.worker]


@pytest.mark.parametrize("why", ["suspect", "taken away", "no child to be had"])
def test_who_can_take_none_gets_none(place: Box, why: str) -> None:
    other = beside(place, losses=2 * (why == "suspect"))
    other.wanted, other.lacks_child = why != "taken away", why == "no child to be had"
    place.workers.assign(claim_of("b"), now=1.0)

    assert prefetch.steal(place.workers, 1.02) == []
    assert jobs_of(place.worker) == ["a", "b"]


def test_a_moved_jobs_outcome_tells_who_ran_it(place: Box) -> None:
    other = beside(place)
    place.workers.assign(claim_of("b"), now=1.0)
    prefetch.steal(place.workers, 1.02)
    assert other.attempt is not None
    assert place.worker.attempt is not None
    report = Report(Succeeded(b"", ""))

    told = settlement(other.attempt, report, master="m")
    assert (told.worker, told.fields[0]) == (2, ("worker", "m:2"))
    assert "worker" not in dict(settlement(place.worker.attempt, report, master="m").fields)


def test_a_job_that_comes_back_to_its_first_worker_is_told_too_as_a_beat_may_have_named_another(
    place: Box,
) -> None:
    other = beside(place)
    for name in ("b", "c", "d"):
        place.workers.assign(claim_of(name), now=1.0)
    assert prefetch.steal(place.workers, 1.02) == [other, place.worker]
    assert jobs_of(other) == ["b", "c"]
    for _ in ("a", "d"):
        place.worker.end_attempt(1.03)

    assert prefetch.steal(place.workers, 1.03) == [place.worker, other]

    assert jobs_of(place.worker) == ["c"]
    assert place.worker.attempt is not None
    assert place.worker.attempt.moved_at == 1.03
    told = settlement(place.worker.attempt, Report(Succeeded(b"", "")), master="m")
    assert told.fields[0] == ("worker", "m:1")


def test_what_a_job_has_waited_elsewhere_is_not_the_pace_of_who_took_it(place: Box) -> None:
    other = beside(place)
    end(place, "a", at=1.001)
    for name in ("b", "c"):
        place.workers.assign(claim_of(name), now=1.001)
    place.start(1.001)
    assert prefetch.steal(place.workers, 1.041) == [other, place.worker]

    assert other.began_at == 1.041


def test_a_moved_job_that_asks_is_told_which_worker_runs_it(place: Box) -> None:
    other = beside(place)
    place.workers.assign(claim_of("b"), now=1.0)
    prefetch.steal(place.workers, 1.02)
    place.start(1.02, other)
    assert other.attempt is not None

    place.pool.answer_ask(other.attempt, {b"origin": b"q", b"worker": b"m:1"})

    *_, (kind, fields) = FrameReader().feed(place.ends[-2].recv(65536))
    assert kind == protocol.RECORD
    assert fields[1:] == [b"origin", b"q", b"worker", b"m:2"]


def test_a_heartbeat_names_the_worker_of_a_moved_job_and_of_no_other(place: Box) -> None:
    beside(place)
    place.workers.assign(claim_of("b"), now=1.0)
    prefetch.steal(place.workers, 1.02)
    told: list[Any] = []
    store = SimpleNamespace(beat=told.append)
    link: Any = SimpleNamespace(store=store, try_call=lambda ask, _now: ask())
    instance: Any = SimpleNamespace(name="m", boot="boot", lock_id="")
    zygotes = SimpleNamespace(
        table=SimpleNamespace(serving=None),
        reloads=SimpleNamespace(latest=None),
        why_none="",
        learning=Learning(),
    )
    pool: Any = SimpleNamespace(workers=place.workers, zygotes=zygotes)
    nothing: Any = None

    Heartbeat(Config("redis://h"), instance, link, nothing).beat("busy", pool, [], "", 1.02)

    assert told[0].running == (("a", "7:a", ""), ("b", "7:b", 2))
