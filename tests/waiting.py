"""Waiting on a condition with a deadline: the only place in the tests that sleeps."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.005


def eventually(
    predicate: Callable[[], T], timeout_s: float = 5.0, message: str | Callable[[], str] = ""
) -> T:
    """Call `predicate` until it returns something true, and return that.

    `message` says what was waited for; a callable is asked for it only at the end, so that it can
    tell how things stood. What the predicate raises is raised at once.

    Raises: AssertionError after `timeout_s`, with the message and the predicate's last answer.
    """
    deadline = time.monotonic() + timeout_s
    while not (answer := predicate()):
        if time.monotonic() >= deadline:
            waited_for = (message() if callable(message) else message) or repr(predicate)
            raise AssertionError(
                f"not within {timeout_s} s: {waited_for} (last answer: {answer!r})"
            )
        time.sleep(POLL_S)
    return answer
