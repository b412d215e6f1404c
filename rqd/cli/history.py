"""`rqd history`: throughput, failures and times of the last hours and days."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import click

from rqd.cli.completing import complete_queues
from rqd.cli.grammar import Command
from rqd.cli.options import as_json, backend, redis_options
from rqd.cli.output import duration, echo_table, mebibytes, say
from rqd.cli.suggest import check_queues
from rqd.model.errors import ConfigurationError
from rqd.model.history import Histogram, Numbers, added_up
from rqd.model.names import parse_duration_s
from rqd.model.numbers import instant, iso
from rqd.store.history import FUNCTIONS_KEPT_S, HOUR_S, HOURS_KEPT_S, MINUTE_S, Interval
from rqd.store.keys import ALL_QUEUES
from rqd.store.queries import Queries

_DAY_S = 24 * HOUR_S
_WIDTHS = (
    *(MINUTE_S, 2 * MINUTE_S, 5 * MINUTE_S, 10 * MINUTE_S, 15 * MINUTE_S, 30 * MINUTE_S),
    *(HOUR_S, 2 * HOUR_S, 3 * HOUR_S, 6 * HOUR_S, 12 * HOUR_S, _DAY_S, 2 * _DAY_S, 4 * _DAY_S),
)
_MOST_INTERVALS = 24
_PERCENTS = (50, 95, 99)
_LEVELS = "▁▂▃▄▅▆▇█"
_BAR_CHARS = 24
_TIMES = ("wait p50", "wait p95", "wait p99", "run p50", "run p95", "run p99")
_LEAST = ("wait p50", "run p50", "wait p99", "run p99", "failed %")


@click.command(name="history", cls=Command)
@redis_options
@as_json
@click.option(
    "--since",
    metavar="TIME",
    default="24h",
    show_default=True,
    help="Time to look back: 30m, 6h, 7d; 90d at most.",
)
@click.option("--by-function", is_flag=True, help="Show functions, of 7d at most.")
@click.argument("queue", required=False, shell_complete=complete_queues)
def command(
    url: str | None,
    namespace: str | None,
    as_json: bool,
    since: str,
    by_function: bool,
    queue: str | None,
) -> None:
    """Show throughput, failures, waits and run times over time.

    Without QUEUE a line for each queue. With QUEUE a line for each interval. Masters write the
    numbers every five seconds.
    """
    since_s = _since_s(since, FUNCTIONS_KEPT_S if by_function else HOURS_KEPT_S)
    with backend(url, namespace) as there:
        check_queues((queue,) if queue else (), there.views)
        names = [queue] if queue else there.views.queue_names()
        now_us = there.views.now_us()
        if by_function:
            since_us = now_us - int(since_s * 1e6)
            found = {name: there.views.function_history(name, since_us, now_us) for name in names}
            _tell_functions(found, since_s, as_json)
            return
        intervals = _read(there.views, names, since_s, now_us)
        if as_json:
            click.echo(json.dumps([_as_json(*one) for one in intervals.items()], indent=2))
        elif not any(one.numbers.became for found in intervals.values() for one in found):
            _tell_nothing(since_s)
        elif queue:
            _show_intervals(queue, intervals[queue], since_s)
        else:
            _show_queues(there.views, intervals, since_s, now_us)


def _tell_nothing(since_s: float) -> None:
    say(f"no attempt has ended in the last {_span(since_s)}")


def _since_s(text: str, most_s: int) -> float:
    seconds = parse_duration_s(text, "--since")
    if seconds is None or not MINUTE_S <= seconds <= most_s:
        raise ConfigurationError(f"--since {text}: write a time from 1m to {most_s // _DAY_S}d")
    return seconds


def _read(
    views: Queries, queues: Sequence[str], since_s: float, now_us: int
) -> dict[str, list[Interval]]:
    width_s = width_for(since_s)
    since_us = now_us - int(since_s * 1e6)
    return {name: views.history([name], since_us, now_us, width_s) for name in queues}


def width_for(since_s: float) -> int:
    """Returns the width of intervals, in seconds, of which some two dozen span `since_s`."""
    return next((w for w in _WIDTHS if since_s <= w * _MOST_INTERVALS), _WIDTHS[-1])


def _show_queues(
    views: Queries, found: dict[str, list[Interval]], since_s: float, now_us: int
) -> None:
    if len(found) > 1:
        found = {**found, "all": _read(views, [ALL_QUEUES], since_s, now_us)[ALL_QUEUES]}
    rows = []
    for name, intervals in found.items():
        total = added_up(one.numbers for one in intervals)
        line = sparkline([one.numbers.ended for one in intervals])
        rows.append((name, total.ended, *_failed(total), line, *_times(total)))
    heads = ("queue", "ended", "failed", "failed %", "over time", *_TIMES)
    _echo(f"the last {_span(since_s)}", heads, rows, "over time")


def _show_intervals(queue: str, intervals: Sequence[Interval], since_s: float) -> None:
    most = max(one.numbers.ended for one in intervals) or 1
    rows = []
    for one in intervals:
        numbers = one.numbers
        bar = _bar(numbers.ended / most)
        rows.append((_start(one), numbers.ended, *_failed(numbers), bar, *_times(numbers)))
    heads = ("from (UTC)", "ended", "failed", "failed %", "ended, drawn", *_TIMES)
    width = duration(intervals[0].width_s)
    _echo(f"{queue}, the last {_span(since_s)}, by {width}", heads, rows, "ended, drawn")
    total = added_up(one.numbers for one in intervals)
    if total.causes:
        causes = sorted(total.causes.items(), key=lambda pair: -pair[1])
        say("  failed: " + ", ".join(f"{count:,} {kind}" for kind, count in causes))


def _tell_functions(found: dict[str, dict[str, Numbers]], since_s: float, as_json: bool) -> None:
    listed = [
        (queue, name, numbers)
        for queue, functions in found.items()
        for name, numbers in functions.items()
    ]
    listed.sort(key=lambda one: -one[2].ended)
    if as_json:
        rows = [{"queue": q, "function": f, **numbers_json(n)} for q, f, n in listed]
        click.echo(json.dumps(rows, indent=2))
    elif listed:
        _show_functions(listed, since_s)
    else:
        _tell_nothing(since_s)


def _show_functions(listed: Sequence[tuple[str, str, Numbers]], since_s: float) -> None:
    rows = []
    for queue, name, numbers in listed:
        memory = numbers.memory.percentile(95)
        memory_mib = None if memory is None else mebibytes(int(memory))
        counts = (numbers.ended, numbers.failed, round(numbers.cpu_s, 1), memory_mib)
        rows.append((name, queue, *counts, *_percentiles(numbers.run)))
    heads = ("function", "queue", "ended", "failed", "cpu s", "memory p95 MiB", *_TIMES[3:])
    echo_table(f"functions, the last {_span(since_s)}", heads, rows, least=("cpu s", *_TIMES[5:]))


def _echo(title: str, heads: Sequence[str], rows: Sequence[Sequence[object]], drawn: str) -> None:
    """Prints the table; in a pipe without the column of drawings."""
    if not sys.stdout.isatty():
        at = heads.index(drawn)
        heads = (*heads[:at], *heads[at + 1 :])
        rows = [(*row[:at], *row[at + 1 :]) for row in rows]
    echo_table(title, heads, rows, least=_LEAST)


def sparkline(values: Sequence[int]) -> str:
    """Draws values as blocks of eight heights; a blank for zero."""
    most = max(values, default=0)
    return "".join(_LEVELS[min(7, value * 8 // (most + 1))] if value else " " for value in values)


def _bar(share: float) -> str:
    eighths = round(share * _BAR_CHARS * 8)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (" ▏▎▍▌▋▊▉"[rest] if rest else "")


def _failed(numbers: Numbers) -> tuple[int, float | None]:
    share = round(100 * numbers.failed / numbers.ended, 1) if numbers.ended else None
    return numbers.failed, share


def _times(numbers: Numbers) -> tuple[str, ...]:
    return (*_percentiles(numbers.wait), *_percentiles(numbers.run))


def _percentiles(histogram: Histogram) -> tuple[str, ...]:
    return tuple(_time(histogram.percentile(percent)) for percent in _PERCENTS)


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 60 else duration(seconds)


def _start(interval: Interval) -> str:
    return instant(interval.start_us).strftime("%m-%d %H:%M")


def _span(seconds: float) -> str:
    for unit_s, name in ((_DAY_S, "d"), (HOUR_S, "h"), (MINUTE_S, "min")):
        if seconds % unit_s == 0 and seconds >= 2 * unit_s:
            return f"{seconds / unit_s:g} {name}"
    return duration(seconds)


def _as_json(queue: str, intervals: Sequence[Interval]) -> dict[str, Any]:
    return {
        "queue": queue,
        **numbers_json(added_up(one.numbers for one in intervals)),
        "intervals": [
            {"from": iso(one.start_us), "seconds": one.width_s, **numbers_json(one.numbers)}
            for one in intervals
        ],
    }


def numbers_json(numbers: Numbers) -> dict[str, Any]:
    """Returns numbers as plain data: counts, and percentiles in seconds and bytes."""
    return {
        "ended": numbers.ended,
        "failed": numbers.failed,
        "became": numbers.became,
        "causes": numbers.causes,
        "cpu_s": round(numbers.cpu_s, 6),
        "wait_s": _percentiles_json(numbers.wait),
        "run_s": _percentiles_json(numbers.run),
        "memory_bytes": _percentiles_json(numbers.memory),
    }


def _percentiles_json(histogram: Histogram) -> dict[str, float | None]:
    return {f"p{percent}": histogram.percentile(percent) for percent in _PERCENTS}
