"""What a job's own code says and asks while it runs; it needs no Redis, and loads none."""

from __future__ import annotations

from rqd.model.current import current
from rqd.model.errors import InvalidJobOperation


def current_fence() -> int:
    """The fence of the attempt that runs here: a number that rises with every claim, of any job.

    Hand it to what you write to, and let it refuse a lower number than it has seen: then an attempt
    that was taken for lost and goes on can't overwrite what a later one wrote. Raises
    InvalidJobOperation outside a job.
    """
    if current.id is None:
        raise InvalidJobOperation("no job runs here: there is no fence to write with")
    return current.fence
