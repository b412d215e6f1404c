"""Reads the leftovers of dead daemons, and finds jobs in other namespaces. Changes nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import redis

from rqd.store.keys import Keys
from rqd.store.messages import read_text

# A random sample of so many keys of the server is searched for another namespace.
_SAMPLES = 30
_OURS = re.compile(r"\{([^{}]{1,128})\}:(?:queues|masters|job:|queue:|stats:)")


def silent_masters(redis: Any, keys: Keys) -> list[str]:
    """Returns the masters whose rows have expired, and whose jobs no other master has taken yet."""
    names = [read_text(raw) for raw in redis.zrange(keys.masters, 0, -1)]
    with redis.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.hget(keys.master(name), "boot")
        rows = pipe.execute(raise_on_error=False)
    return [name for name, boot in zip(names, rows, strict=True) if not isinstance(boot, bytes)]


def held_jobs(redis: Any, keys: Keys) -> int:
    """Counts the started jobs that have a lease, whether it is over or not."""
    return int(redis.zcard(keys.leases))


def causes_of(redis: Any, keys: Keys, job_ids: Sequence[str]) -> list[str]:
    """Returns why the latest attempts of these jobs failed or never ran; skips jobs without a
    cause.
    """
    with redis.pipeline(transaction=False) as pipe:
        for job_id in job_ids:
            pipe.hget(keys.job(job_id), "cause")
        found = pipe.execute(raise_on_error=False)
    return [read_text(cause) for cause in found if isinstance(cause, bytes)]


def other_namespaces(server: Any, keys: Keys) -> list[str]:
    """Returns other rqd namespaces that some keys of the server belong to, from a sample.

    Empty where this user may not sample keys.
    """
    try:
        with server.pipeline(transaction=False) as pipe:
            for _ in range(_SAMPLES):
                pipe.randomkey()
            found = pipe.execute()
    except redis.ResponseError:
        return []
    meant = {match[1] for raw in found if raw and (match := _OURS.match(read_text(raw)))}
    return sorted(meant - {keys.namespace})
