"""Bad data in Redis, and jobs that can't be run."""

from __future__ import annotations

import time
from typing import Any

import redis

from tests.torture.calls import FAILED, FINISHED, GONE, Call
from tests.torture.faults import Fault, Injected, Lane, Missed, NotYet, Target
from tests.torture.faults.jobs import send

# Long enough to be changed in Redis before a master claims it.
_DELAY_S = 1.5
_RQD = ("rqd",)


def _client(target: Target) -> redis.Redis:
    return target.arena.server.client(2.0)


def _tamper(target: Target, name: str, end: tuple[str, ...], command: str, *args: Any) -> Injected:
    """Enqueues a job for later, and changes its hash meanwhile."""
    # Either end is right until Redis has taken the change, and a change it may have taken.
    call = Call(name, "plain", (0.0,), (*end, FINISHED), "default", delay_s=_DELAY_S)
    injected = send(target, call, fault=name)
    try:
        done: Any = _client(target).execute_command(
            command, f"{{rqd}}:job:{injected.jobs[0]}", *args
        )
    except redis.RedisError as error:
        raise Missed(f"redis: {error}") from error
    return Injected("job", jobs=injected.jobs, note=str(done))


def corrupt_payload(target: Target) -> Injected:
    name = "corrupt payload"
    garbage = target.rng.randbytes(40)
    return _tamper(target, name, (FAILED,), "HSET", "payload", garbage)


def missing_hash(target: Target) -> Injected:
    return _tamper(target, "missing job hash", (GONE,), "DEL")


def unknown_function(target: Target) -> Injected:
    name = "unknown function"
    return send(target, Call(name, "no_such_function", (), (FAILED,)), fault=name)


def broken_module(target: Target) -> Injected:
    name = "module that fails to import"
    return send(target, Call(name, "tests.torture.broken.job", (), (FAILED,)), fault=name)


def lease_without_job(target: Target) -> Injected:
    job_id = f"planted-{target.rng.randrange(10**9)}"
    try:
        _client(target).zadd("{rqd}:leases", {job_id: (time.time() - 5) * 1e6})
    except redis.RedisError as error:
        raise Missed(f"redis: {error}") from error
    return Injected("job")


def large_payload(target: Target) -> Injected:
    name = "payload of 100 MB"
    call = Call(name, "carry", (b"p" * (100 * 1024 * 1024),), (FINISHED,), timeout_s=60)
    return send(target, call, fault=name)


def poison(target: Target) -> Injected:
    """A job that kills its child at every attempt, between neighbours."""
    name = "poison job"
    neighbour = Call("neighbour", "plain", (0.01,))
    call = Call("poison", "poison", (), (FAILED,), retries=2)
    return send(target, neighbour, call, neighbour, neighbour, fault=name)


FAULTS = (
    Fault(
        "corrupt payload", "data", Lane.JOBS, corrupt_payload, (_DELAY_S, _DELAY_S), systems=_RQD
    ),
    Fault("missing job hash", "data", Lane.JOBS, missing_hash, (_DELAY_S, _DELAY_S), systems=_RQD),
    Fault("unknown function", "data", Lane.JOBS, unknown_function),
    Fault("module that fails to import", "data", Lane.JOBS, broken_module),
    Fault("lease without job", "data", Lane.JOBS, lease_without_job, systems=_RQD),
    Fault("payload of 100 MB", "data", Lane.JOBS, large_payload, often=0),
    Fault("poison job", "data", Lane.JOBS, poison),
)
NOT_INJECTED = (NotYet("wrong signature", "data", "tests/process/test_trust.py does that"),)
