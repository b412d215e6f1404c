import pytest

from tests.waiting import eventually


def test_eventually_returns_the_first_true_answer() -> None:
    answers = iter([0, "", 3, 4])

    assert eventually(lambda: next(answers)) == 3


def test_eventually_gives_up_saying_what_it_waited_for_and_how_it_stood() -> None:
    with pytest.raises(AssertionError, match=r"0\.01 s: a job in low \(last answer: \[\]\)"):
        eventually(list, 0.01, lambda: "a job in low")
