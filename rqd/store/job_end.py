"""Waits for a job's end, step by step; the caller carries the steps out, blocking or awaiting."""

from __future__ import annotations

import math
from collections.abc import Generator
from time import monotonic
from typing import Any

from rqd.store.errors import RedisGone, is_lasting
from rqd.store.keys import Keys

_LIVE = (b"queued", b"started", b"scheduled", b"deferred")
_BLOCK_SLICE_S = 2.0
# Between two tries while the server is away; the client itself has retried before.
_LOST_PAUSE_S = 0.25

# Commands that go together, whose answers, or an error, come back; or seconds to wait.
Step = tuple[tuple[Any, ...], ...] | float


def block_slice_s(socket_timeout_s: float | None) -> float:
    """Returns how long a blocking read may take on a connection with this socket timeout.

    The read is renewed before the socket's own timeout ends it.
    """
    return min(_BLOCK_SLICE_S, socket_timeout_s / 2) if socket_timeout_s else _BLOCK_SLICE_S


def until_end(
    keys: Keys, job_id: str, timeout_s: float, slice_s: float
) -> Generator[Step, Any, bool]:
    """Ends as soon as the job has ended or is gone; returns False if the time is over before.

    Blocks in the server, without polling, for the results that a worker writes. A cancellation,
    deletion or expiry is seen when the wait is renewed, after `slice_s`. Waits for a server that
    goes away meanwhile; a server that is missing from the start is an error.
    """
    deadline = monotonic() + timeout_s
    results, job = keys.results(job_id), keys.job(job_id)
    question: Step = (("XREVRANGE", results, "+", "-", "COUNT", 1), ("HGET", job, "status"))
    latest, has_ended = _seen((yield question))
    while not has_ended and (left_s := deadline - monotonic()) > 0:
        # Rounded up: a block of 0 would last for ever.
        left_ms = math.ceil(min(slice_s, left_s) * 1000)
        block: Step = (("XREAD", "COUNT", 1, "BLOCK", left_ms, "STREAMS", results, latest),)
        try:
            yield block
            latest, has_ended = _seen((yield question))
        except RedisGone as error:
            if is_lasting(error):
                raise
            yield max(0.0, min(_LOST_PAUSE_S, deadline - monotonic()))
    return has_ended


def _seen(answers: Any) -> tuple[bytes, bool]:
    """Returns the id of the job's latest result, and whether it has ended, at one instant."""
    entries, status = answers
    return (entries[0][0] if entries else b"0"), status not in _LIVE
