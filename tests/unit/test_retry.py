"""What becomes of a job after an attempt."""

import math
from typing import Any

import pytest

from rqd.model.errors import ConfigurationError
from rqd.model.outcome import (
    Crashed,
    Lost,
    Outcome,
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
    RetryLater,
    decide,
)

FAILURES: list[Outcome] = [
    Raised("builtins.ValueError", "no", ""),
    TimedOut(5, killed=False),
    TimedOut(5, killed=True),
    Crashed(signal=11),
    Crashed(exit_status=3),
]


@pytest.mark.parametrize("outcome", FAILURES)
def test_a_failure_uses_the_retries_up_and_then_fails(outcome: Outcome) -> None:
    assert decide(outcome, RetryBudget(left=1)) == RetryLater(0)
    assert decide(outcome, RetryBudget(left=0)) == Fail()


@pytest.mark.parametrize("left", [0, 3])
def test_success_finishes_and_release_puts_back_whatever_retries_are_left(left: int) -> None:
    assert decide(Succeeded(b""), RetryBudget(left)) == Finish()
    assert decide(Released("the daemon stops"), RetryBudget(left)) == PutBack()
    assert decide(Lost("its zygote died"), RetryBudget(left)) == CountLoss()


def test_each_retry_waits_its_interval_and_the_last_one_holds_for_the_rest() -> None:
    delays = [RetryBudget(9, (1, 5, 30), used).next_delay_s() for used in range(5)]

    assert delays == [1, 5, 30, 30, 30]
    assert RetryBudget(9).next_delay_s() == 0


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
