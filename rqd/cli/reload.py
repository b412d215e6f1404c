"""`rqd reload`: masters load the application's code again."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Sequence

import click

from rqd.cli.grammar import Command
from rqd.cli.masters import (
    asking_options,
    backend_or,
    close,
    no_wait_option,
    select_masters,
)
from rqd.cli.options import redis_options
from rqd.cli.output import plain, say
from rqd.client.connection import Backend
from rqd.client.masters import Reply, Row, as_of_now, is_reloading, reload_reply, tell

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
            if row is not None and is_reloading(row, request):
                continue
            one = reload_reply(master, left.pop(master).get("host", ""), row)
            ended.append(one)
            if not quiet:
                _show(one, time.monotonic() - began)
        if left:
            time.sleep(_POLL_S)  # a boot ends when it ends; a dead master's row just expires
    return ended


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
