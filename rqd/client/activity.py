"""Reads the running jobs of all hosts, for the command line and the pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rqd.model.numbers import iso, read_decimal, read_whole

if TYPE_CHECKING:
    from rqd.store.queries import Queries


@dataclass(frozen=True, slots=True)
class Activity:
    """A running job.

    `cpu_percent` and `memory_bytes` are its process's, as of its master's last heartbeat; None
    until the first heartbeat of its run.
    """

    id: str
    function: str
    queue: str
    worker: str  # master:number
    host: str
    pid: int  # 0 while its worker has no process
    since: str  # ISO 8601
    for_s: float
    cpu_percent: float | None
    memory_bytes: int | None
    progress: float | None
    progress_message: str


_ORDERS: dict[str, Callable[[Activity], tuple[object, ...]]] = {
    "time": lambda one: (-one.for_s,),
    "cpu": lambda one: (-(one.cpu_percent or 0.0), -one.for_s),
    "memory": lambda one: (-(one.memory_bytes or 0), -one.for_s),
    "queue": lambda one: (one.queue, -one.for_s),
}
ORDERS = tuple(_ORDERS)


def running_jobs(views: Queries) -> list[Activity]:
    """Returns the running jobs of all live masters."""
    masters = {row["name"]: row for row in views.masters()}
    rows = [row for row in views.workers(list(masters.values())) if row.get("job")]
    progress_of = views.progress([row["job"] for row in rows]) if rows else {}
    now_us = views.now_us()
    found = []
    for row in rows:
        since_us = read_whole(row.get("since")) or now_us
        is_measured = row.get("measured") == row["job"]
        cpu, memory = row.get("cpu_percent"), row.get("memory_bytes")
        progress = progress_of.get(row["job"])
        found.append(
            Activity(
                id=row["job"],
                function=row.get("func_name", ""),
                queue=row.get("queue", ""),
                worker=f"{row['master']}:{row['number']}",
                host=row.get("host") or masters[row["master"]].get("host", ""),
                pid=read_whole(row.get("pid")) or 0,
                since=iso(since_us) or "",
                for_s=max(0.0, (now_us - since_us) / 1e6),
                cpu_percent=read_decimal(cpu) if is_measured else None,
                memory_bytes=(read_whole(memory) or 0) if is_measured and memory else None,
                progress=progress.fraction if progress else None,
                progress_message=progress.message if progress else "",
            )
        )
    return found


def ordered(found: Sequence[Activity], by: str) -> list[Activity]:
    """Sorts by one of ORDERS: the longest, busiest, largest first; or by the names of queues."""
    return sorted(found, key=_ORDERS[by])
