"""`rqd info`: queues, masters and workers as they stand."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import click

from rqd.cli.completing import complete_queues
from rqd.cli.grammar import Command
from rqd.cli.options import as_json, backend, redis_options
from rqd.cli.output import ago, duration, echo_table, mebibytes, plain, say
from rqd.cli.pause import state_of
from rqd.cli.suggest import check_queues
from rqd.client.snapshot import Seen, snapshot
from rqd.model.errors import ConfigurationError
from rqd.store.errors import RedisGone
from rqd.store.queries import Queries

_ERROR_CHARS = 40
_SHORT_S = 10.0
_HOME_OF_CLASS = re.compile(r"\A(raised )(?:\w+\.)+(?=\w)")
_ALL = ("queues", "masters", "workers")


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


def share(row: dict[str, Any]) -> str:
    """Formats the progress of a worker's job: `40% reading`, empty without progress."""
    if "progress" not in row:
        return ""
    return f"{row['progress']:.0%} {row['progress_message'][:30]}".rstrip()


def _rss(row: dict[str, Any]) -> float:
    return mebibytes(row.get("rss_bytes", 0))
