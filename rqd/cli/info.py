"""`rqd info`: queues, masters and workers as they stand."""

from __future__ import annotations

import json
import re
import time
from dataclasses import asdict, dataclass
from typing import Any

import click

from rqd.cli.completing import complete_queues
from rqd.cli.grammar import Command
from rqd.cli.options import as_json, backend, redis_options
from rqd.cli.output import ago, duration, echo_table, iso, mebibytes, plain, read_decimal, say
from rqd.cli.pause import pause_of, state_of
from rqd.cli.suggest import check_queues, known_queues
from rqd.model.errors import ConfigurationError
from rqd.model.numbers import read_whole
from rqd.model.progress import Progress
from rqd.store.errors import RedisGone
from rqd.store.queries import Queries

_NUMBERS = {
    "pid", "zygote_pid", "rss_bytes", "memory_bytes", "busy", "wanted", "workers", "done",
    "failed", "number",
}  # fmt: skip
_DECIMALS = {"cpu_percent", "worked_s"}
_INSTANTS = {"heartbeat", "since", "started"}
_INTERNAL = {"boot", "measured"}
_ERROR_CHARS = 40
_SHORT_S = 10.0
_HOME_OF_CLASS = re.compile(r"\A(raised )(?:\w+\.)+(?=\w)")
_HELD = ("suspended", "paused")  # states of masters in which idle workers get no jobs
_ALL = ("queues", "masters", "workers")


@dataclass(frozen=True, slots=True)
class Seen:
    """The rows of queues, masters and workers, with numbers as numbers, and their time."""

    queues: list[dict[str, Any]]
    masters: list[dict[str, Any]]
    workers: list[dict[str, Any]]
    now_us: int


@click.command(name="info", cls=Command)
@redis_options
@as_json
@click.option(
    "--interval",
    "-i",
    type=float,
    metavar="SECONDS",
    help="Repeat the output after so many seconds.",
)
@click.option("--only-queues", "-Q", is_flag=True, help="Show only the queues.")
@click.option("--only-workers", "-W", is_flag=True, help="Show only masters and workers.")
@click.option("--raw", "-r", is_flag=True, hidden=True)
@click.option("--by-queue", "-R", is_flag=True, hidden=True)
@click.argument("queues", nargs=-1, shell_complete=complete_queues)
def command(
    url: str | None,
    namespace: str | None,
    as_json: bool,
    interval: float | None,
    only_queues: bool,
    only_workers: bool,
    raw: bool,
    by_queue: bool,
    queues: tuple[str, ...],
) -> None:
    """Show queues, masters and workers.

    QUEUES limit it to these queues and their masters.
    """
    if raw or by_queue:
        option = "--raw is --json" if raw else "--by-queue is rqd workers --queue NAME"
        raise ConfigurationError(f"RQ's {option} here")
    if interval is not None and not 0 < interval < 10**6:
        raise ConfigurationError(f"--interval {interval:g}: write seconds, above 0")
    parts = ("queues",) if only_queues else ("masters", "workers") if only_workers else _ALL
    with backend(url, namespace) as there:
        check_queues(queues, there.views)
        seen: Seen | None = _of_queues(snapshot(there.views), queues)
        while True:
            if seen:
                _tell(seen, parts, as_json, is_again=interval is not None)
            if interval is None:
                return
            time.sleep(interval)
            seen = _look_again(there.views, queues)


def _tell(seen: Seen, parts: tuple[str, ...], as_json: bool, *, is_again: bool) -> None:
    if as_json:
        shown = {part: getattr(seen, part) for part in parts}
        click.echo(json.dumps(shown, indent=None if is_again else 2))
        return
    if is_again:
        click.clear()  # on a terminal; else nothing
    _show(seen, parts)


def _look_again(views: Queries, queues: tuple[str, ...]) -> Seen | None:
    """Looks again; None, with a line on stderr, while Redis is away."""
    try:
        return _of_queues(snapshot(views), queues)
    except RedisGone as error:
        say(f"rqd: Redis is away, trying again: {error}", err=True)
        return None


def snapshot(views: Queries) -> Seen:
    """Returns queues, masters and workers in their present state."""
    paused = views.paused()
    queues = [
        asdict(counts) | pause_of(counts.name, paused)
        for counts in views.queue_counts(known_queues(views, paused))
    ]
    raw_masters = views.masters()
    raw_workers = views.workers(raw_masters)
    running = [row["job"] for row in raw_workers if row.get("job")]
    progress_of = views.progress(running) if running else {}
    now_us = views.now_us()
    workers = [
        {"done": 0, "failed": 0} | _typed(row) | _progress(progress_of.get(row.get("job", "")))
        for row in raw_workers
        if _is_shown(row)
    ]
    masters = [_with_busy(_typed(row), workers) for row in raw_masters]
    held = {row["name"]: row["state"] for row in masters if row["state"] in _HELD}
    for row in workers:
        if row["master"] in held and row["state"] == "idle":
            row["state"] = held[
                row["master"]
            ]  # its own row changes only with claims, and a held master makes none
    return Seen(queues, masters, workers, now_us)


def _of_queues(seen: Seen, names: tuple[str, ...]) -> Seen:
    """Returns only the rows about these queues; all rows without names."""
    if not names:
        return seen
    masters = [row for row in seen.masters if set(names) & set(row["queues"])]
    serving = {row["name"] for row in masters}
    return Seen(
        [row for row in seen.queues if row["name"] in names],
        masters,
        [row for row in seen.workers if row["master"] in serving],
        seen.now_us,
    )


def _show(seen: Seen, parts: tuple[str, ...]) -> None:
    for number, part in enumerate(parts):
        if number:
            click.echo()
        if part == "queues":
            show_queues(seen.queues)
            _show_unserved(seen)
        elif part == "masters":
            _show_masters(seen.masters, seen.now_us)
            _show_notes(seen.masters)
        else:
            show_workers(seen.workers, seen.now_us)


def _with_busy(master: dict[str, Any], workers: list[dict[str, Any]]) -> dict[str, Any]:
    """Corrects a master's row, written every 5 s, by its workers' rows, written at each claim."""
    busy = sum(w["master"] == master["name"] and w.get("state") == "busy" for w in workers)
    state = master.get("state")
    if state in ("idle", "busy"):
        state = "busy" if busy else "idle"
    queues = [name for name in master.get("queues", "").split(",") if name]
    return master | {"busy": busy, "state": state, "queues": queues}


def show_queues(queues: list[dict[str, Any]]) -> None:
    """Prints the table of queues."""
    counts = ("limited", "started", "scheduled", "deferred", "finished", "failed", "canceled")
    rows = [
        (
            queue["name"], state_of(queue), queue["ready"], _latency(queue),
            *(queue[count] for count in counts),
        )
        for queue in queues
    ]  # fmt: skip
    least = ("limited", "deferred", "canceled", "scheduled", "finished", "started", "latency")
    echo_table("Queues", ("queue", "state", "ready", "latency", *counts), rows, least)


def _latency(queue: dict[str, Any]) -> str:
    """Formats a queue's latency; empty if no job is ready."""
    seconds = queue["latency_s"]
    if not queue["ready"]:
        return ""
    return f"{seconds:.1f} s" if seconds < _SHORT_S else duration(seconds)


def _show_unserved(seen: Seen) -> None:
    served = {name for row in seen.masters for name in row["queues"]}
    for queue in seen.queues:
        if queue["ready"] and queue["name"] not in served:
            start = f"rqd start --queues {queue['name']}"
            say(f"  {queue['name']}: no master serves it ({start})", fg="yellow")


def _show_notes(masters: list[dict[str, Any]]) -> None:
    for row in masters:
        if row.get("why_no_zygote"):
            say(f"  {row['name']}: no job starts: {row['why_no_zygote']}", fg="red")
        elif row.get("reload") == "refused":
            why = plain(row.get("reload_error", "")).strip().rpartition("\n")[2]
            say(f"  {row['name']}: reload refused, the old code serves on: {why}", fg="red")
        if learnt := row.get("preload_learnt"):
            say(f"  {row['name']}: preloads what jobs import: {learnt}")


def _show_masters(masters: list[dict[str, Any]], now_us: int) -> None:
    heads = (
        "master", "host", "pid", "version", "queues", "state", "busy", "rss MiB", "cpu %", "beat",
    )  # fmt: skip
    rows = [
        (
            row["name"], row.get("host"), row.get("pid", 0), row.get("version"),
            ",".join(row["queues"]), row.get("state"), f"{row['busy']}/{_places(row)}",
            _rss(row), row.get("cpu_percent", 0.0), ago(row.get("heartbeat"), now_us),
        )
        for row in masters
    ]  # fmt: skip
    echo_table("Masters", heads, rows, ("version", "host", "beat", "cpu %", "rss MiB", "pid"))


def _places(master: dict[str, Any]) -> int:
    """Returns the master's number of workers: as configured, or more while jobs still run."""
    return max(int(master["busy"]), int(master.get("wanted", 0)))


def show_workers(workers: list[dict[str, Any]], now_us: int) -> None:
    """Prints the table of workers."""
    heads = (
        "worker", "pid", "state", "for", "job", "function", "queue", "progress", "done", "failed",
        "rss MiB", "cpu %", "last error",
    )  # fmt: skip
    rows = [
        (
            f"{row['master']}:{row['number']}", row.get("pid") or None, row.get("state"),
            ago(row.get("since"), now_us, ""), str(row.get("job", ""))[:8], row.get("func_name"),
            row.get("queue"), share(row), row.get("done", 0), row.get("failed", 0),
            _rss(row), row.get("cpu_percent", 0.0), _in_short(str(row.get("last_error", ""))),
        )
        for row in workers
    ]  # fmt: skip
    least = ("cpu %", "done", "failed", "rss MiB", "last error", "progress", "pid", "queue", "for")
    echo_table("Workers", heads, rows, least)


def _in_short(error: str) -> str:
    """Shortens an error, without its class's module: `raised DoesNotExist: no order..`"""
    text = _HOME_OF_CLASS.sub(r"\1", error)
    return text if len(text) <= _ERROR_CHARS else f"{text[: _ERROR_CHARS - 2]}.."


def _progress(progress: Progress | None) -> dict[str, Any]:
    """Returns the fields of a job's progress; none without progress."""
    if progress is None:
        return {}
    return {"progress": progress.fraction, "progress_message": progress.message}


def share(row: dict[str, Any]) -> str:
    """Formats the progress of a worker's job: `40% reading`, empty without progress."""
    if "progress" not in row:
        return ""
    return f"{row['progress']:.0%} {row['progress_message'][:30]}".rstrip()


def _is_shown(row: dict[str, str]) -> bool:
    return "state" in row


def _typed(row: dict[str, str]) -> dict[str, Any]:
    """Converts numbers, and instants to ISO 8601; leaves out the fields that only daemons use."""
    typed: dict[str, Any] = {}
    for name, value in row.items():
        if name in _NUMBERS:
            typed[name] = read_whole(value) or 0
        elif name in _DECIMALS:
            typed[name] = read_decimal(value) or 0.0
        elif name in _INSTANTS:
            typed[name] = iso(read_whole(value) or None) or ""
        elif name not in _INTERNAL:
            typed[name] = value
    return typed


def _rss(row: dict[str, Any]) -> float:
    return mebibytes(row.get("rss_bytes", 0))
