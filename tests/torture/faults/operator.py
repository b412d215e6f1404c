"""What an operator does in the middle of it all: jobs stopped while they run, queues paused."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress

import redis

from rqd.model.errors import InvalidJobOperation, RqdError
from rqd.queue import Queue
from rqd.suspension import suspend
from tests.torture.calls import CANCELED, Call
from tests.torture.faults import Fault, Injected, Lane, Missed, Target

STOPPED = "stopped"
# As long as the longest fault of Redis, and a little.
_PATIENCE_S = 60.0
# An enqueue whose answer was lost may be carried out so much later than the server is there again.
_LATE_S = 2.0


def _stop(name: str, function: str) -> Callable[[Target], Injected]:
    """A job that nothing else ends: were the order lost, the campaign would not come to its end.

    So it is to be stopped also where nobody knows whether its enqueue came through.
    """

    def inject(target: Target) -> Injected:
        queue = Queue(target.rng.choice(("high", "default")), target.arena.server.client(2.0))
        call = Call(name, function, (), (STOPPED, CANCELED), queue.name, retries=2, timeout_s=600)
        (job_id,), is_known = target.arena.bad_producer.offer([call], name)
        late_s = 0.0 if is_known else _LATE_S
        return Injected("job", heal=lambda: _insist(queue, job_id, late_s), jobs=(job_id,))

    return inject


def _insist(queue: Queue, job_id: str, late_s: float) -> None:
    """Stops it as soon as it runs and Redis is there; takes it back if nobody comes to run it."""
    began, seen_none_at = time.monotonic(), math.inf
    while (waited_s := time.monotonic() - began) < 2 * _PATIENCE_S:
        with suppress(redis.RedisError, RqdError, OSError):
            job = queue.fetch_job(job_id)
            if job is None:
                seen_none_at = min(time.monotonic(), seen_none_at)
                if time.monotonic() >= seen_none_at + late_s:
                    return
                time.sleep(0.02)
                continue
            if job.get_status().is_terminal:
                return
            if waited_s > _PATIENCE_S:
                with suppress(InvalidJobOperation):  # it runs after all
                    job.cancel()
                    continue
            with suppress(InvalidJobOperation):  # it waits, for the moment
                job.stop(grace=0.3, by="torture")
                return
        time.sleep(0.02)
    raise Missed(f"job {job_id} never ran, or Redis was never there")


def _pause(seconds: float, pause: Callable[[Queue, float], None]) -> Callable[[Target], Injected]:
    """Ends by itself: nobody resumes it."""

    def inject(target: Target) -> Injected:
        queue = Queue(target.rng.choice(("high", "default")), target.arena.server.client(2.0))
        try:
            pause(queue, seconds)
        except (redis.RedisError, RqdError, OSError) as error:
            raise Missed(f"Redis was not there: {error}") from error
        return Injected("redis")

    return inject


def _fault(name: str, inject: Callable[[Target], Injected], *hold_s: float) -> Fault:
    least, most = hold_s
    return Fault(name, "operator", Lane.OPERATOR, inject, (least, most), systems=("rqd",))


FAULTS = (
    _fault("job stopped", _stop("job stopped", "wait_for_a_stop"), 0.0, 1.0),
    _fault("deaf job stopped", _stop("deaf job stopped", "swallow_timeouts"), 0.0, 1.0),
    _fault("queue paused", _pause(2.0, Queue.pause), 2.0, 3.0),
    _fault(
        "namespace suspended",
        _pause(1.0, lambda queue, seconds: suspend(queue.connection, seconds)),
        *(1.0, 2.0),
    ),
)
