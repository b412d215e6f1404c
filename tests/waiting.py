"""Waiting on a condition with a deadline: the only place in the tests that sleeps."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

# What comes soon is seen soon; what takes long is not asked for at the cost of what it waits for.
POLL_S, LONGEST_POLL_S = 0.005, 0.05
SHARE_OF_WAIT = 0.05


def eventually(
    predicate: Callable[[], T], timeout_s: float = 5.0, message: str | Callable[[], str] = ""
) -> T:
    """Call `predicate` until it returns something true, and return that.

    `message` says what was waited for; a callable is asked for it only at the end, so that it can
    tell how things stood. What the predicate raises is raised at once.

    Raises: AssertionError after `timeout_s`, with the message and the predicate's last answer.
    """
    begun = time.monotonic()
    while not (answer := predicate()):
        waited_s = time.monotonic() - begun
        if waited_s >= timeout_s:
            waited_for = (message() if callable(message) else message) or repr(predicate)
            raise AssertionError(
                f"not within {timeout_s} s: {waited_for} (last answer: {answer!r})"
            )
        time.sleep(min(max(POLL_S, waited_s * SHARE_OF_WAIT), LONGEST_POLL_S))
    return answer


def has_text(path: Path) -> bool:
    """True once something was written there, which is later than that the file exists."""
    return path.exists() and path.stat().st_size > 0
