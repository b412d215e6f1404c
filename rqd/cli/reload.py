"""`rqd reload`: masters load the application's code again."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Sequence
from typing import Any

import click

from rqd.cli.grammar import Command
from rqd.cli.masters import (
    Reply,
    Row,
    as_of_now,
    asking_options,
    backend_or,
    close,
    no_wait_option,
    select_masters,
    tell,
)
from rqd.cli.options import redis_options
from rqd.cli.output import plain, say
from rqd.client.connection import Backend
from rqd.model.numbers import read_whole

_POLL_S = 0.05


@click.command(name="reload", cls=Command)
@redis_options
@asking_options
@no_wait_option
def command(
    url: str | None,
    namespace: str | None,
    master: str | None,
    hosts: tuple[str, ...],
    as_json: bool,
    no_wait: bool,
) -> int:
    """Make masters load the application's code again.

    Running jobs finish with the old code. If the new code can't be imported, the old code stays in
    service. The command then shows the traceback, and exits with 1.
    """
    with backend_or("kill -HUP PID, or systemctl reload", url, namespace) as there:
        return _reload(there, select_masters(there, master, hosts), as_json, no_wait)


def _reload(there: Backend, rows: Sequence[Row], as_json: bool, no_wait: bool) -> int:
    """Asks masters to reload, and waits until each has done it or refused.

    Returns the exit status.
    """
    request, sent = tell(there, rows, "reload")
    hosts = {row["name"]: row.get("host", "") for row in rows}
    refused = [Reply(name, hosts[name], {"error": why}) for name, why in sent.refused.items()]
    left = {name: row for row in rows if (name := row["name"]) in sent.reached}
    if not as_json:
        for one in refused:
            click.echo(f"{one.master}: {one.words}")
        for master in left:
            say(f"{master}: asked to reload")
    if no_wait:
        asked = [Reply(name, hosts[name], None) for name in left]
        close(refused + asked, as_json)
        return 1 if refused else 0
    return close(refused + _wait(there, request, left, quiet=as_json), as_json)


def _wait(there: Backend, request: str, left: dict[str, Row], *, quiet: bool) -> list[Reply]:
    """Waits for the masters in `left`, and returns the outcome of each. Empties `left`."""
    began, ended = time.monotonic(), []
    while left:
        rows = as_of_now(there, list(left.values()))
        for master in sorted(left):
            row = rows.get(master)
            if row is not None and _is_open(row, request):
                continue
            one = Reply(master, left.pop(master).get("host", ""), _answer(row), _outcome(row))
            ended.append(one)
            if not quiet:
                _show(one, time.monotonic() - began)
        if left:
            time.sleep(_POLL_S)  # a boot ends when it ends; a dead master's row just expires
    return ended


def _is_open(row: Row, request: str) -> bool:
    """True if a master has not read the request yet, or its zygote is still booting."""
    return request not in row.get("reload_requests", "").split() or row.get("reload") == "booting"


def _answer(row: Row | None) -> dict[str, Any] | None:
    """Converts a master's row to the form of the answers to other commands; None without a row."""
    if row is None:
        return None
    answer: dict[str, Any] = {"state": row.get("state", "")}
    # Its row's `workers` also counts workers that are on their way out.
    numbers = (("busy", "busy"), ("workers", "wanted"))
    answer |= {name: read_whole(row.get(of)) or 0 for name, of in numbers}
    if row.get("reload") != "done":
        answer["error"] = row.get("reload_error", "")
    return answer


def _outcome(row: Row | None) -> str:
    if row is None:
        return "gone"
    return "reloaded" if row.get("reload") == "done" else "refused"


def _show(one: Reply, took_s: float) -> None:
    if one.is_well:
        say(f"{one.master}: {one.outcome} in {took_s:.1f} s")
    elif one.answer is None:
        say(f"{one.master}: {one.outcome}")
    else:
        serves = one.answer["state"] != "starting"
        so = "the old code serves on" if serves else "no job starts"
        say(f"{one.master}: {one.outcome}, {so}:")
        click.echo(textwrap.indent(plain(one.answer["error"]).rstrip(), "    "))
