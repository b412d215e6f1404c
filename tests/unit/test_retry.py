"""What becomes of a job after an attempt."""

import math
from typing import Any

import pytest

from rqd.model.errors import ConfigurationError, RetryLater
from rqd.model.outcome import (
    AskedAgain,
    Crashed,
    Lost,
    Outcome,
    OutOfMemory,
    Parked,
    Raised,
    Refused,
    Released,
    Succeeded,
    TimedOut,
)
from rqd.model.retry import (
    CountLoss,
    Fail,
    Finish,
    Park,
    PutBack,
    Retry,
    RetryBudget,
    RetryRules,
    RunAgain,
    decide,
    read_asking,
)
from rqd.model.terms import dump_terms, read_terms

FAILURES: list[Outcome] = [
    Raised("builtins.ValueError", "no", ""),
    TimedOut(5, killed=False),
    TimedOut(5, killed=True),
    OutOfMemory(2, 1),
    Crashed(signal=11),
    Crashed(exit_status=3),
]


@pytest.mark.parametrize("outcome", FAILURES)
def test_a_failure_uses_the_retries_up_and_then_fails(outcome: Outcome) -> None:
    assert decide(outcome, RetryBudget(left=1)) == RunAgain(0)
    assert decide(outcome, RetryBudget(left=0)) == Fail()


@pytest.mark.parametrize("left", [0, 3])
def test_success_finishes_and_release_puts_back_whatever_retries_are_left(left: int) -> None:
    assert decide(Succeeded(b""), RetryBudget(left)) == Finish()
    assert decide(Released("the daemon stops"), RetryBudget(left)) == PutBack()
    assert decide(Lost("its zygote died"), RetryBudget(left)) == CountLoss()


def test_each_retry_waits_its_interval_and_the_last_one_holds_for_the_rest() -> None:
    delays = [RetryRules().delay_s((1, 5, 30), used, 0) for used in range(5)]

    assert delays == [1, 5, 30, 30, 30]
    assert RetryRules().delay_s((), 0, 0) == 0


def test_a_backoff_grows_to_the_longest_wait_and_jitter_shortens_it() -> None:
    rules = Retry(9, 2, backoff=3, longest=50, jitter=0.5).rules

    assert [rules.delay_s((2,), used, 0) for used in range(5)] == [2, 6, 18, 50, 50]
    assert [rules.delay_s((2,), used, 1) for used in range(5)] == [1, 3, 9, 25, 25]
    assert rules.delay_s((2,), 10**9, 0) == 50
    assert Retry(1, 10**9, backoff=1000).rules.delay_s((10**9,), 10**9, 0) == 10**9


RAISED = Raised("app.Busy", "", "", ("builtins.ConnectionError", "builtins.OSError"))
AGAIN = RunAgain(0)


@pytest.mark.parametrize(
    ("options", "outcome", "tally", "decision"),
    [
        ({"on": {"timeout": 0}}, TimedOut(5, killed=False), {}, Fail()),
        ({"on": {"timeout": 0}}, TimedOut(5, killed=False, is_cpu=True), {}, Fail()),
        ({"on": {"oom": 0}}, OutOfMemory(2, 1), {}, Fail()),
        ({"on": {"crashed": 0, "oom": 1}}, OutOfMemory(2, 1), {}, RunAgain(0, "oom")),
        ({"on": {"timeout": 0}}, RAISED, {}, AGAIN),
        ({"on": {"crashed": 2}}, Crashed(signal=9), {"crashed": 1}, RunAgain(0, "crashed")),
        ({"on": {"crashed": 2}}, Crashed(signal=9), {"crashed": 2}, Fail()),
        (
            {"on": {"crashed": 2}},
            Crashed(signal=9),
            {"raised": 5, "asked": 7},
            RunAgain(0, "crashed"),
        ),
        ({"on": {"raised": 9}}, RAISED, {"raised": 4}, RunAgain(0, "raised")),
        ({"only": [OSError]}, RAISED, {}, AGAIN),
        ({"only": "app.Busy"}, RAISED, {}, AGAIN),
        ({"only": "OSError"}, RAISED, {}, AGAIN),
        ({"only": [ValueError]}, RAISED, {}, Fail()),
        ({"only": [ValueError]}, Crashed(signal=9), {}, AGAIN),
        ({"never": ["app.Busy"]}, RAISED, {}, Fail()),
        ({"never": [ConnectionError, ValueError]}, RAISED, {}, Fail()),
        ({"never": [ValueError]}, RAISED, {}, AGAIN),
        ({"only": [OSError], "never": [ConnectionError]}, RAISED, {}, Fail()),
        ({"on": {"timeout": 0}}, Released("a stop"), {}, PutBack()),
        ({"on": {"crashed": 0}}, Lost("its zygote died"), {}, CountLoss()),
    ],
)
def test_what_may_be_retried_is_told_by_cause_and_exception(
    options: Any, outcome: Outcome, tally: dict[str, int], decision: Any
) -> None:
    # As it comes back from Redis.
    rules = RetryRules.parse(read_terms(dump_terms(Retry(5, **options).rules.terms())))

    assert decide(outcome, RetryBudget(5, rules=rules, tally=tally)) == decision
    if decision != PutBack() and decision != CountLoss():
        assert decide(outcome, RetryBudget(0, rules=rules, tally=tally)) == Fail()


@pytest.mark.parametrize(
    ("asked", "tally", "decision"),
    [
        (AskedAgain(None, (30,)), {"asked": 99}, RunAgain(30, "asked")),
        (AskedAgain(2), {"asked": 1, "raised": 5}, RunAgain(0, "asked")),
        (AskedAgain(2), {"asked": 2}, Fail()),
        (AskedAgain(0), {}, Fail()),
        (read_asking(Retry(3, 4, backoff=2).asking(), ""), {"asked": 2}, RunAgain(16, "asked")),
        (read_asking(Retry(3, [1, 9]).asking(), ""), {"asked": 1}, RunAgain(9, "asked")),
    ],
)
def test_a_job_that_asks_runs_again_as_it_said_whatever_retries_are_left(
    asked: AskedAgain, tally: dict[str, int], decision: Any
) -> None:
    for left in (0, 3):
        assert decide(asked, RetryBudget(left, (7,), tally=tally)) == decision


@pytest.mark.parametrize(
    "told", [{}, {"most": -1, "intervals": []}, {"most": 1, "intervals": [-1]},
             {"most": "x", "intervals": [1]}, {"most": True, "intervals": []}, {"intervals": 5}],
)  # fmt: skip
def test_what_is_no_asking_is_not_taken_for_one(told: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the caller looks for no more than this
        read_asking(told, "")


@pytest.mark.parametrize(
    "told",
    [None, [], {"on": 3}, {"on": {"raised": "x"}}, {"only": 7}, {"backoff": "x"}, {"jitter": None},
     {"backoff": math.nan}],
)  # fmt: skip
def test_rules_that_were_damaged_are_as_if_nothing_was_said(told: Any) -> None:
    assert RetryRules.parse(told) == RetryRules()


def test_rules_that_are_past_every_limit_are_brought_back() -> None:
    rules = RetryRules.parse({"backoff": 1e300, "longest_s": -5, "jitter": 7})

    assert rules == RetryRules(backoff=1000, longest_s=0, jitter=1)
    assert rules.delay_s((1e9,), 10**9, 0) == 1e9


@pytest.mark.parametrize(
    "options",
    [
        {"backoff": 0.5}, {"backoff": "2"}, {"backoff": 2}, {"backoff": 2, "interval": [1, 2]},
        {"longest": -1}, {"jitter": 2}, {"jitter": -0.1}, {"jitter": True}, {"on": {"oops": 1}},
        {"on": {"raised": -1}}, {"on": {"raised": 1.5}}, {"on": ["raised"]}, {"only": [5]},
        {"only": 5}, {"never": ["NoSuchError"]}, {"never": "a b"}, {"only": [int]},
    ],
)  # fmt: skip
def test_rules_that_can_mean_nothing_are_refused(options: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"Retry\(.*write"):
        Retry(3, **options)


def test_a_job_is_told_what_is_wrong_with_its_asking() -> None:
    wrongs: list[dict[str, Any]] = [{"max": value} for value in (-1, 1.5, True)]
    wrongs += [{"delay": value} for value in (-1, math.nan, "5", True, 10**10)]
    for wrong in wrongs:
        with pytest.raises(ConfigurationError, match=r"RetryLater\(.*write"):
            RetryLater(**wrong)


@pytest.mark.parametrize(
    ("interval", "intervals"), [(0, [0]), (2.5, [2.5]), ([1, 2], [1, 2]), ((3,), [3])]
)
def test_an_interval_is_one_number_or_many(interval: Any, intervals: list[float]) -> None:
    assert Retry(3, interval).intervals == intervals


@pytest.mark.parametrize(
    ("most", "interval"),
    [
        (0, 0),
        (-1, 0),
        (1.5, 0),
        ("3", 0),
        (1, -1),
        (1, []),
        (1, [1, -1]),
        (1, math.inf),
        (1, math.nan),
        (1, 10**12),
        (1, "5"),
        (1, None),
    ],
)
def test_no_retries_and_no_seconds_are_refused(most: Any, interval: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"Retry\(.*write"):
        Retry(most, interval)


@pytest.mark.parametrize("left", [0, 3])
def test_what_is_refused_fails_and_what_is_parked_waits_whatever_retries_are_left(
    left: int,
) -> None:
    assert decide(Refused("not signed"), RetryBudget(left)) == Fail()
    assert decide(Parked("no key", 30), RetryBudget(left)) == Park(30)
