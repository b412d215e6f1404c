"""`rqd reload`: masters take the application's code anew."""

from __future__ import annotations

import textwrap
import time

import click

from rqd.cli.masters import choice_options, chosen, no_wait_option, tell
from rqd.cli.options import backend, redis_options
from rqd.cli.table import plain
from rqd.connection import Backend

_POLL_S = 0.05


@click.command(name="reload")
@redis_options
@choice_options
@no_wait_option
def command(
    url: str | None,
    namespace: str | None,
    name: str | None,
    hosts: tuple[str, ...],
    no_wait: bool,
) -> int:
    """Have masters take the application's code anew.

    Running jobs end with the old one. Exits with 1, and shows the traceback, where the new code
    can't be imported: the old one serves on.
    """
    with backend(url, namespace) as there:
        request, told = tell(there, chosen(there, name, hosts), "reload")
        for master in told:
            click.echo(f"{master}: told to reload")
        return 0 if no_wait else wait(there, request, set(told), "reloaded")


def wait(there: Backend, request: str, masters: set[str], done: str) -> int:
    """Waits until each master has done it, which is told so, or has refused; the exit status."""
    began, status = time.monotonic(), 0
    while masters:
        rows = {row["name"]: row for row in there.views.masters()}
        for master in sorted(masters):
            row = rows.get(master)
            if row is None:
                click.echo(f"{master}: gone")
            elif _is_open(row, request):
                continue
            elif row.get("reload") == "done":
                click.echo(f"{master}: {done.format(**row)} in {time.monotonic() - began:.1f} s")
            else:
                click.echo(f"{master}: refused, the old code serves on:")
                click.echo(textwrap.indent(plain(row.get("reload_error", "")).rstrip(), "    "))
            masters.discard(master)
            status = max(status, int(row is None or row.get("reload") != "done"))
        if masters:
            time.sleep(_POLL_S)  # a boot ends when it ends; a dead master's row just expires
    return status


def _is_open(row: dict[str, str], request: str) -> bool:
    """Whether a master has not heard of the request yet, or its zygote is still booting."""
    return request not in row.get("reload_requests", "").split() or row.get("reload") == "booting"
