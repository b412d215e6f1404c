"""What runs where, for `rqd ps` and `rqd top`: one row for each running job, over all hosts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rqd.cli.output import duration, fitted, iso, mebibytes, read_decimal
from rqd.model.stored import read_whole
from rqd.model.words import counted
from rqd.store.views import Views

HEADS = ("job", "function", "queue", "worker", "host", "pid", "for", "cpu %", "memory MiB", "told")
# What a narrow terminal leaves out, in this order.
LEAST = ("told", "pid", "host", "queue", "worker")
_MOST_PROGRESS_CHARS = 40


@dataclass(frozen=True, slots=True)
class Activity:
    """A running job. `cpu_percent` and `memory_bytes` are its process's, of the last heartbeat of
    its master; None until the first one of its run.
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


def look(views: Views) -> list[Activity]:
    """The running jobs of all live masters."""
    masters = {row["name"]: row for row in views.masters()}
    rows = [row for row in views.workers(list(masters.values())) if row.get("job")]
    told = views.progress([row["job"] for row in rows]) if rows else {}
    now_us = views.now_us()
    found = []
    for row in rows:
        since_us = read_whole(row.get("since")) or now_us
        is_measured = row.get("measured") == row["job"]
        cpu, memory = row.get("cpu_percent"), row.get("memory_bytes")
        progress = told.get(row["job"])
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
    """By one of ORDERS: the longest, busiest, largest first; or by the names of queues."""
    return sorted(found, key=_ORDERS[by])


def cells(one: Activity) -> tuple[object, ...]:
    """What stands under HEADS."""
    told = "" if one.progress is None else f"{one.progress:.0%} {one.progress_message}".rstrip()
    memory = None if one.memory_bytes is None else mebibytes(one.memory_bytes)
    cpu = None if one.cpu_percent is None else round(one.cpu_percent)
    return (
        one.id, one.function, one.queue, one.worker, one.host, one.pid or None, duration(one.for_s),
        cpu, memory, told[:_MOST_PROGRESS_CHARS],
    )  # fmt: skip


def screen(
    found: Sequence[Activity], by: str, width: int, height: int, note: str = ""
) -> list[str]:
    """The lines of a terminal of this size: a title, a table as far as there is room, the keys."""
    hosts = len({one.host for one in found})
    title = f"rqd top: {counted(len(found), 'job')} on {counted(hosts, 'host')}, by {by}"
    keys = note or "t time  c cpu  m memory  u queue  q quit"
    room = max(0, height - 3)
    rows = [cells(one) for one in ordered(found, by)[:room]]
    table, left_out = fitted(HEADS, rows, LEAST, width)
    if left_out and not note:
        keys += f"  without {', '.join(left_out)}"  # all of them are just 79 characters
    lines = [title, *table, *[""] * (room - len(rows)), keys]
    return [line[:width] for line in lines[:height]]
