"""The faults of a campaign: each has a name, a group, a way to do it and a way to undo it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from random import Random

from tests.torture.arena import Arena
from tests.torture.masters import Keeper


class Lane(Enum):
    """Where a fault takes its turn: one at a time on each master, on Redis, among the jobs, and of
    what an operator does.
    """

    MASTER = "master"
    REDIS = "redis"
    JOBS = "jobs"
    OPERATOR = "operator"


class Missed(Exception):
    """There was nothing to do the fault to in this moment."""


def nothing_to_heal() -> None:
    """For a fault that is over when it is done."""


@dataclass(frozen=True, slots=True)
class Injected:
    """What was hit. `level`: what it can explain (`master`, `zygote`, `child`, `redis`, `job`).

    `heal` undoes it. `jobs` are those it made, whose ends are its own.
    """

    level: str
    heal: Callable[[], None] = nothing_to_heal
    pid: int = 0
    jobs: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """What a fault may act on: the keeper is of the lane's master, or any for the other lanes."""

    arena: Arena
    keeper: Keeper
    rng: Random


def always(_arena: Arena) -> str:
    """For a fault that every machine can bear."""
    return ""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. `hold_s` is how long it lasts, least and most; `lacks` why it can't be done here.

    `often` is how many times it comes in a round after the first one, where each comes once.
    """

    name: str
    group: str
    lane: Lane
    inject: Callable[[Target], Injected]
    hold_s: tuple[float, float] = (0.0, 0.0)
    often: int = 3
    systems: tuple[str, ...] = ("rqd", "rq")
    lacks: Callable[[Arena], str] = always


@dataclass(frozen=True, slots=True)
class NotYet:
    """A fault of the list that no campaign injects, and why."""

    name: str
    group: str
    why: str


GROUPS = ("processes", "jobs", "redis", "host", "data", "operator")


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All that faults.md names."""

    faults: tuple[Fault, ...] = field(default_factory=tuple)
    not_injected: tuple[NotYet, ...] = field(default_factory=tuple)


def catalogue() -> Catalogue:
    """Every fault, in the order of the groups."""
    from tests.torture.faults import data, host, jobs, operator, processes, redis

    modules = (processes, jobs, redis, host, data, operator)
    return Catalogue(
        tuple(fault for module in modules for fault in module.FAULTS),
        tuple(one for module in modules for one in getattr(module, "NOT_INJECTED", ())),
    )
