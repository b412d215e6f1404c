"""Numbers of attempts: added up in a master, written as fields, read back, and as percentiles."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rqd.daemon.history import History
from rqd.daemon.redis_client import Refused
from rqd.daemon.timers import OPEN, Timers
from rqd.daemon.workers.attempt import Attempt
from rqd.daemon.workers.reader import Ended
from rqd.model.history import (
    MOST_FUNCTIONS,
    SECONDS,
    Histogram,
    Numbers,
    added_up,
    function_label,
    read_numbers,
)
from rqd.model.outcome import Crashed, Outcome, Raised, Released, Report, Stopped, Succeeded, Usage
from rqd.store.messages import QueueNumbers
from tests.place import a_claim

SUCCESS = Succeeded(b"")


class Link:
    """Redis, which is there or not; keeps the requests that it has carried out."""

    def __init__(self) -> None:
        self.is_up = True
        self.retry_at = 0.0
        self.loses_reply = False
        self.refusal: Refused | None = None
        self.logged: list[str] = []
        self.sent: list[tuple[str, QueueNumbers]] = []
        self.store = SimpleNamespace(request_id=self._request_id, add_history=self._add)
        self._ids = iter(range(10**6))

    def _request_id(self) -> str:
        return f"r{next(self._ids)}"

    def _add(self, request: str, _master: str, numbers: QueueNumbers) -> int:
        self.sent.append((request, numbers))
        return 1

    def call(self, call: Callable[[], int], now: float) -> int | None:
        if not self.is_up:
            self.retry_at = now + 0.4
            return None
        if self.refusal is not None:
            raise self.refusal
        answer = call()
        return None if self.loses_reply else answer

    def log_rejection(self, message: str, refusal: Refused, _now: float) -> None:
        self.logged.append(f"{message} {refusal}")

    def totals(self) -> dict[str, int]:
        """The fields of each request once, without those of functions."""
        found: dict[str, int] = {}
        for numbers in dict(self.sent).values():
            for name, value in numbers.fields:
                if name.count(" ") == 1:
                    found[name] = found.get(name, 0) + value
        return found


class Master:
    """The history of a master, and the attempts that it records."""

    def __init__(self) -> None:
        self.link = Link()
        self.timers = Timers()
        link: Any = self.link
        self.history = History(link, "m", self.timers)

    def end(
        self,
        outcome: Outcome = SUCCESS,
        decision: str = "finish",
        verdict: str = "settled",
        function: str = "app.send",
        now: float = 1.0,
    ) -> None:
        claim = a_claim()
        object.__setattr__(claim, "func_name", function)
        attempt = Attempt(claim, 1, claimed_at=0.0, started_at=0.03)
        report = Report(outcome, Usage(wall_s=0.2, cpu_s=0.1, peak_memory_bytes=20 * 2**20))
        self.history.note(Ended(attempt, report), decision, verdict, now)

    def run(self, now: float) -> None:
        self.timers.run_due(now, OPEN)


@pytest.fixture
def master() -> Master:
    return Master()


def test_numbers_are_sent_five_seconds_after_the_first_and_not_without_any(master: Master) -> None:
    assert master.timers.next_at(OPEN) == float("inf")
    for now in (1.0, 2.0):
        master.end(now=now)
    assert master.timers.next_at(OPEN) == 6.0

    master.run(5.9)
    assert master.link.sent == []
    master.run(6.0)

    assert master.link.totals() == {
        "became finished": 2, "wait 3": 2, "wait sum": 60_000, "run 5": 2, "run sum": 400_000,
        "memory 2": 2, "memory sum": 40 * 1024, "cpu sum": 200_000,
    }  # fmt: skip
    assert master.timers.next_at(OPEN) == float("inf")


@pytest.mark.parametrize(
    ("outcome", "decision", "verdict", "expected"),
    [
        (Raised("ValueError", "", ""), "fail", "settled", {"became failed", "cause raised"}),
        (Raised("ValueError", "", ""), "retry", "settled", {"became retried", "cause raised"}),
        (Crashed(11, 0), "retry", "stopped", {"became stopped", "cause crashed"}),
        (Stopped("ops", False), "stop", "settled", {"became stopped", "cause stopped"}),
        (SUCCESS, "repeat", "already", {"became repeated"}),
        (Released("lost"), "lose", "abandoned", {"became failed", "cause abandoned"}),
        (Released("paused"), "put_back", "settled", {"became put_back"}),
        (SUCCESS, "finish", "stale", set()),
        (SUCCESS, "finish", "gone", set()),
    ],
)
def test_an_attempt_counts_by_what_became_of_it_and_by_its_cause(
    master: Master, outcome: Outcome, decision: str, verdict: str, expected: set[str]
) -> None:
    master.end(outcome, decision, verdict)
    master.run(6.0)

    counted = {name for name in master.link.totals() if name.startswith(("became", "cause"))}
    assert counted == expected
    has_run = bool(expected) and "became put_back" not in expected
    assert ("run sum" in master.link.totals()) == has_run


def test_a_request_without_an_answer_is_sent_again_unchanged_and_later_numbers_follow(
    master: Master,
) -> None:
    master.end()
    master.link.is_up = False
    master.run(6.0)
    master.end(now=7.0)
    master.run(11.0)
    assert master.link.sent == []

    master.link.is_up = True
    master.run(16.0)
    assert [request for request, _ in master.link.sent] == ["r0"]
    master.run(21.0)

    assert [request for request, _ in master.link.sent] == ["r0", "r1"]
    assert master.link.totals()["became finished"] == 2


def test_a_lost_reply_has_the_same_request_sent_again(master: Master) -> None:
    master.end()
    master.link.loses_reply, master.link.retry_at = True, 7.0
    master.run(6.0)
    master.link.loses_reply = False
    master.run(11.0)

    assert [request for request, _ in master.link.sent] == ["r0", "r0"]


def test_numbers_for_which_redis_has_no_memory_are_sent_once_it_has_some(master: Master) -> None:
    master.end()
    master.link.refusal = Refused("OOM", will_pass=True)
    master.run(6.0)
    master.end(now=7.0)
    assert (master.link.sent, len(master.link.logged)) == ([], 1)

    master.link.refusal = None
    master.run(11.0)
    master.run(16.0)

    assert [request for request, _ in master.link.sent] == ["r0", "r1"]
    assert master.link.totals()["became finished"] == 2


def test_a_request_that_redis_can_never_carry_out_keeps_no_later_one_from_it(
    master: Master,
) -> None:
    master.end()
    master.link.refusal = Refused("a script failed")
    master.run(6.0)
    master.link.refusal = None
    master.end(now=7.0)
    master.run(12.0)

    assert [request for request, _ in master.link.sent] == ["r1"]


def test_the_end_of_a_master_after_an_outage_flushes_what_came_in_it(master: Master) -> None:
    master.end()
    master.link.is_up = False
    master.run(6.0)
    master.end(now=7.0)
    master.link.is_up = True
    master.history.flush(7.5)

    assert master.link.totals()["became finished"] == 2


def test_functions_without_end_cost_a_master_no_memory_and_no_count_is_lost(master: Master) -> None:
    for number in range(3 * MOST_FUNCTIONS):
        master.end(function=f"made.up_{number}")
    assert len(master.history._queues["q"]) == MOST_FUNCTIONS + 1
    master.run(6.0)

    assert master.link.totals()["became finished"] == 3 * MOST_FUNCTIONS
    assert max(len(numbers.functions) for _, numbers in master.link.sent) <= 25
    runs = sum(
        value
        for _, numbers in master.link.sent
        for name, value in numbers.fields
        if name.startswith("run ") and "sum" not in name and name.count(" ") == 2
    )
    assert runs == 3 * MOST_FUNCTIONS


def test_the_end_of_a_master_flushes_unless_redis_is_away(master: Master) -> None:
    master.end()
    master.link.is_up = False
    master.history.flush(1.5)
    assert master.link.sent == []
    master.link.is_up = True
    master.history.flush(1.6)
    assert master.link.totals()["became finished"] == 1


@given(st.lists(st.floats(0, 30_000)))
def test_a_percentile_lies_in_the_bucket_of_its_value(values: list[float]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)

    for percent in (50, 95, 99):
        estimate = histogram.percentile(percent)
        if not values:
            assert estimate is None
            continue
        rank = max(1, -(-len(values) * percent // 100))
        exact = sorted(values)[rank - 1]
        bounds = [bound for bound in SECONDS if bound >= exact]
        upper = bounds[0] if bounds else SECONDS[-1]
        lower = max((bound for bound in SECONDS if bound < exact), default=0.0)
        assert estimate is not None
        assert min(lower, SECONDS[-1]) <= estimate <= upper


numbers = st.builds(
    Numbers,
    became=st.dictionaries(st.sampled_from(["finished", "failed"]), st.integers(1, 2**40)),
    causes=st.dictionaries(st.sampled_from(["raised", "crashed"]), st.integers(1, 2**40)),
    cpu_s=st.integers(0, 10**9).map(float),
)


@given(numbers, st.lists(st.floats(0, 1e5), max_size=20))
def test_fields_are_read_as_they_were_written(own: Numbers, runs: list[float]) -> None:
    for seconds in runs:
        own.add_run(seconds, seconds, 0.0, int(seconds))
    row = {name: str(value) for name, value in own.fields()}

    read, functions = read_numbers(row)

    assert functions == {}
    assert (read.became, read.causes, read.cpu_s) == (own.became, own.causes, own.cpu_s)
    assert read.run.counts == own.run.counts
    assert read.memory.counts == own.memory.counts
    assert read.run.sum == pytest.approx(own.run.sum, abs=1e-6)
    assert read.memory.sum == pytest.approx(own.memory.sum, abs=512)


def test_the_name_of_a_function_breaks_no_field(master: Master) -> None:
    name = "f\n3 became\x1b[31m finished 7"
    master.end(function=name)
    master.run(6.0)
    (_, sent) = master.link.sent[0]
    assert sent.functions == (function_label(name),)
    assert "\n" not in sent.functions[0]
    row = {f"run 3 {sent.functions[0]}": "2"}
    assert read_numbers(row)[1][sent.functions[0]].run.counts[3] == 2


@given(st.dictionaries(st.text(max_size=30), st.text(max_size=20)))
def test_a_hash_of_anything_is_read(row: dict[str, str]) -> None:
    row |= {"run 99": "1", "run -1": "1", "became hacked": "1", "wait 1": "9" * 30, "cpu sum": "²"}
    own, _ = read_numbers(row)
    assert own.became.keys() <= {"finished", "failed"}
    assert own.wait.counts[1] == 0


def test_numbers_add_up() -> None:
    one, two = Numbers(became={"finished": 1}), Numbers(became={"finished": 2, "failed": 1})
    two.add_run(1.0, 2.0, 0.5, None)
    total = added_up([one, two])
    assert total.became == {"finished": 3, "failed": 1}
    assert (total.ended, total.run.sum, total.cpu_s) == (1, 2.0, 0.5)
