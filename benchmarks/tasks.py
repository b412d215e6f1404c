"""The jobs that every contender runs. Nothing here is imported for: each fork pays for imports."""

import time


def noop() -> int:
    """Does nothing; not None, which Huey would not store."""
    return 1


def started_at() -> float:
    """The wall clock as the job's first act."""
    return time.time()


def sleep(seconds: float) -> float:
    """Waits, as for an answer from elsewhere; returns when it began, by the wall clock."""
    began = time.time()
    time.sleep(seconds)
    return began


def burn(seconds: float) -> float:
    """Computes until its thread has used so much of a core; returns when it began."""
    began = time.time()
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
    return began


def sleep_till(seconds: float) -> float:
    """Waits; returns when it ended, by the wall clock, as its last act."""
    time.sleep(seconds)
    return time.time()
