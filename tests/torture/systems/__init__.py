"""The job queues that a campaign can be run against, each with the same questions answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import redis

from tests.torture.calls import Call
from tests.torture.history import Event


@dataclass(frozen=True, slots=True)
class MasterSpec:
    """A daemon to keep running: its name, and what it is started with beside what all get."""

    name: str
    options: tuple[str, ...] = ()


class Sender(Protocol):
    """The client of a job queue."""

    def send(self, calls: Sequence[Call], ids: Sequence[str]) -> None:
        """Enqueues these together, under these ids; raises if nobody knows whether it did."""
        ...


class System(Protocol):
    """A job queue under torture. Pids of a master's processes are looked up when they are asked."""

    @property
    def name(self) -> str:
        """`rqd` or `rq`."""
        ...

    @property
    def masters(self) -> Sequence[MasterSpec]:
        """The daemons to keep running."""
        ...

    @property
    def env(self) -> Mapping[str, str]:
        """What daemons and jobs find in their environment."""
        ...

    @property
    def scripts(self) -> Mapping[str, str]:
        """What the proxy can cut: a name, and the text by which a request is known."""
        ...

    @property
    def is_swept(self) -> bool:
        """Whether what a dead master left is killed before its next start, as systemd does."""
        ...

    @property
    def drain_s(self) -> float:
        """How long the masters may take to come to the end of all work."""
        ...

    def command(self, spec: MasterSpec, url: str) -> list[str]:
        """Starts a master in the foreground."""
        ...

    def is_ready(self, log: str) -> bool:
        """Whether a master with this log takes jobs."""
        ...

    def sender(self, url: str) -> Sender:
        """A client."""
        ...

    def begin_timetable(self, url: str, /) -> float:
        """From here on jobs are made by the clock; when the first is, or 0 if it can't do that."""
        ...

    def end_timetable(self, url: str, first: float, /) -> dict[str, float]:
        """No more of that; the ids of all that had to be made since, and when each had to."""
        ...

    def zygote(self, master: int) -> int | None:
        """What forks the children of this master, if it doesn't do that itself."""
        ...

    def children(self, master: int) -> list[int]:
        """The processes in which jobs run, or will."""
        ...

    def running(self, client: redis.Redis) -> int:
        """How many jobs are in flight."""
        ...

    def waiting(self, client: redis.Redis) -> int:
        """How many jobs are not at their end: queued, scheduled and running."""
        ...

    def left(self, client: redis.Redis) -> list[str]:
        """Some of those, and where they are."""
        ...

    def breaches(self, client: redis.Redis) -> list[str]:
        """What contradicts the system's own rules in this moment."""
        ...

    def final_state(self, client: redis.Redis) -> Iterator[Event]:
        """Every job as it stands, and every key that should not be there."""
        ...

    def refusals(self, log: str) -> int:
        """How many outcomes of others' jobs a master's log says were refused."""
        ...


def function_of(call: Call) -> str:
    """A call's function, as a dotted name."""
    return call.function if "." in call.function else f"tests.torture.workload.{call.function}"


def system_named(name: str) -> System:
    """`rqd` or `rq`."""
    if name == "rq":
        from tests.torture.systems.rq import Rq

        return Rq()
    from tests.torture.systems.rqd import Rqd

    return Rqd()
