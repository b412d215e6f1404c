"""How often a job runs again after its success."""

import math
from typing import Any

import pytest

from rqd.model.errors import ConfigurationError
from rqd.model.outcome import Crashed, Outcome, Raised, Released, Succeeded, TimedOut
from rqd.model.repeat import Repeat, RepeatTerm
from rqd.model.retry import Fail, Finish, PutBack, RepeatLater, RetryBudget, RunAgain, decide


@pytest.mark.parametrize(
    ("repeat", "used", "decision"),
    [
        (Repeat(2), 0, RepeatLater(0)),
        (Repeat(2), 1, RepeatLater(0)),
        (Repeat(2), 2, Finish()),
        (Repeat(5, [1, 10]), 0, RepeatLater(1)),
        (Repeat(5, [1, 10]), 1, RepeatLater(10)),
        (Repeat(5, [1, 10]), 4, RepeatLater(10)),
        (Repeat(5, [1, 10]), 9, Finish()),
    ],
)
def test_a_success_uses_the_repeats_up_and_then_finishes(
    repeat: Repeat, used: int, decision: Any
) -> None:
    budget = RetryBudget(3, tally={"repeats": used}, repeat=RepeatTerm.parse(repeat.term()))

    assert decide(Succeeded(b""), budget) == decision


@pytest.mark.parametrize(
    ("outcome", "decision"),
    [
        (Raised("builtins.ValueError", "", ""), Fail()),
        (TimedOut(5, killed=True), Fail()),
        (Crashed(signal=9), Fail()),
        (Released("the daemon stops"), PutBack()),
    ],
)
def test_only_a_success_is_repeated(outcome: Outcome, decision: Any) -> None:
    repeat = RepeatTerm.parse(Repeat(3).term())

    assert decide(outcome, RetryBudget(0, repeat=repeat)) == decision
    if decision == Fail():
        assert decide(outcome, RetryBudget(1, repeat=repeat)) == RunAgain(0)


@pytest.mark.parametrize(
    "told",
    [
        None, [], {}, {"times": 3}, {"times": "x", "intervals": [1]}, {"times": 3, "intervals": []},
        {"times": 3, "intervals": [-1]}, {"times": 3, "intervals": [math.nan]},
        {"times": 3, "intervals": 5},
    ],
)  # fmt: skip
def test_a_damaged_term_repeats_nothing(told: Any) -> None:
    assert RepeatTerm.parse(told) == RepeatTerm()


@pytest.mark.parametrize(
    "arguments", [(0,), (-1,), (True,), (1.5,), ("3",), (1, -1), (1, []), (1, "5"), (1, math.inf)]
)
def test_no_times_and_no_seconds_are_refused(arguments: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"Repeat\(.*write"):
        Repeat(*arguments)
