"""The jobs that every contender runs. Nothing here is imported for: each fork pays for imports."""

import time


def noop() -> int:
    """Does nothing; not None, which Huey would not store."""
    return 1


def started_at() -> float:
    """The wall clock as the job's first act."""
    return time.time()
