"""The calls of a campaign: what is enqueued, and how each may end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from rqd import RateLimit, Repeat, Retry, Unique, Webhook

FINISHED, FAILED, GONE, CANCELED = "finished", "failed", "gone", "canceled"
# How many jobs of one limit run at a time.
LIMIT = 3
# Longer than any campaign, and than the hours its clock is put forward.
RECORD_TTL_S = 7 * 24 * 3600
QUEUES = ("high", "default", "low")
# What a job that asks to be run again asks for, in seconds.
LATER_S = 0.3


@dataclass(frozen=True, slots=True)
class Call:
    """One job to be: `expect` is every status it may end in if no fault hits it.

    `function` is a name in workload.py, or a dotted one. Seconds; None for the default or none.
    `again`: how many further runs it has by its own nature, beside retries.
    """

    kind: str
    function: str
    args: tuple[Any, ...] = ()
    expect: tuple[str, ...] = (FINISHED,)
    queue: str = "default"
    timeout_s: float | None = None
    retries: int = 0
    again: int = 0
    interval_s: float = 0.0
    delay_s: float | None = None
    at_front: bool = False
    more: Mapping[str, Any] = field(default_factory=dict)


def draw(rng: Random) -> Call:
    """One call of the common work, which nothing is wrong with by itself."""
    make = rng.choices([row[0] for row in _COMMON], [row[1] for row in _COMMON])[0]
    call: Call = make(rng)
    return call


def _quick(rng: Random) -> Call:
    front = rng.random() < 0.05
    queue = rng.choice(QUEUES)
    return Call("plain", "plain", (rng.uniform(0, 0.02),), queue=queue, at_front=front)


def _long(rng: Random) -> Call:
    return Call("long", "plain", (rng.uniform(0.3, 2.0),), queue=rng.choice(QUEUES))


def _sturdy(rng: Random) -> Call:
    return Call("sturdy", "plain", (0.1,), retries=3, interval_s=rng.choice((0.0, 0.2)))


def _flaky(rng: Random) -> Call:
    failures, interval_s = rng.choice((1, 1, 2, 3)), rng.choice((0.0, 0.2))
    expect = (FINISHED if failures <= 2 else FAILED,)
    return Call("flaky", "flaky", (failures,), expect, retries=2, interval_s=interval_s)


def _scheduled(rng: Random) -> Call:
    return Call("scheduled", "plain", (0.0,), queue="low", delay_s=rng.uniform(0.1, 3.0))


def _heavy(_rng: Random) -> Call:
    return Call("heavy call", "carry", (b"c" * 100_000,))


def _bounteous(_rng: Random) -> Call:
    return Call("heavy result", "produce", (100_000,))


def _parent(rng: Random) -> Call:
    queue, seconds = rng.choice(QUEUES), rng.uniform(0.2, 1.0)
    return Call("grandchild", "with_grandchild", (seconds,), queue=queue)


def _overrun(rng: Random) -> Call:
    retries = rng.choice((0, 1))
    return Call("overrun", "overrun", (), (FAILED,), timeout_s=0.3, retries=retries)


def _called(rng: Random) -> Call:
    """Its end has a callback, whichever it is."""
    callback = "tests.torture.workload.called"
    more = {"on_success": callback, "on_failure": callback}
    failures, expect = rng.choice(((0, FINISHED), (1, FINISHED), (2, FAILED)))
    return Call("called", "flaky", (failures,), (expect,), "high", retries=1, more=more)


def _telling(rng: Random) -> Call:
    """Tells what it does while it does it; what it told last has to be there at its end."""
    return Call("telling", "telling", (1000,), queue=rng.choice(QUEUES), retries=1)


def draw_family(rng: Random) -> list[Call]:
    """Jobs that wait for one another: most of them for the first, and the last for all others."""
    call = Call("family", "plain", (rng.uniform(0, 0.05),), queue=rng.choice(QUEUES))
    return [call] * rng.randint(3, 12)


def draw_limited(rng: Random) -> Call:
    """One that shares a limit, or a key that is refused while another has it."""
    kind = rng.choice(("limited", "limited", "paced", "unique"))
    more: dict[str, Any] = {"rate_limit": RateLimit("torture", concurrency=LIMIT)}
    if kind == "paced":
        more = {"rate_limit": RateLimit("paced", concurrency=LIMIT, rate=20, burst=5)}
    elif kind == "unique":
        until = rng.choice(("started", "finished", 2))
        conflict = rng.choice(("refuse", "refuse", "replace"))
        more = {"unique": Unique(f"torture {rng.randint(1, 9)}", until, conflict)}
    expect = (FINISHED, CANCELED) if kind == "unique" else (FINISHED,)
    seconds = rng.choice((0.0, 0.1))
    return Call(kind, "plain", (seconds,), expect, rng.choice(QUEUES), retries=1, more=more)


def draw_again(rng: Random, endpoint: str) -> Call:
    """One that runs several times without a fault, or whose end is told to an HTTP endpoint."""
    kind = rng.choice(("repeated", "later", "insistent", "hooked"))
    queue, times = rng.choice(QUEUES), rng.randint(1, 3)
    if kind == "repeated":
        more: dict[str, Any] = {"repeat": Repeat(times, rng.choice((0, 0.2)))}
        return Call(kind, "plain", (0.01,), queue=queue, retries=1, again=times, more=more)
    if kind == "later":
        return Call(kind, "later", (times,), queue=queue, retries=1, again=times)
    if kind == "insistent":
        return Call(kind, "later", (99, times), (FAILED,), queue=queue, again=times)
    retry = Retry(5, 0.2)
    webhooks = [Webhook(endpoint, end, method="POST", retry=retry) for end in (FINISHED, FAILED)]
    failures, expect = rng.choice(((0, FINISHED), (1, FAILED)))
    return Call(kind, "flaky", (failures,), (expect,), queue, more={"webhooks": webhooks})


_COMMON = (
    (_quick, 58),
    (_called, 6),
    (_telling, 3),
    (_long, 3),
    (_sturdy, 7),
    (_flaky, 10),
    (_scheduled, 8),
    (_heavy, 2),
    (_bounteous, 2),
    (_parent, 3),
    (_overrun, 1),
)
