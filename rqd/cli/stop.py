"""`rqd stop`: tells masters to stop, and waits until they have."""

from __future__ import annotations

import sys
import time

import click

from rqd.cli.masters import name_option, no_wait_option, tell
from rqd.cli.options import backend, redis_options
from rqd.connection import Backend
from rqd.store.connection import RedisGone
from rqd.store.embedded import is_embedded

_POLL_S = 0.05


@click.command(name="stop")
@redis_options
@click.option("--now", is_flag=True, help="Kill running jobs and put them back in their queues.")
@name_option
@no_wait_option
def command(
    url: str | None, namespace: str | None, now: bool, name: str | None, no_wait: bool
) -> None:
    """Stop the masters of a namespace: running jobs finish, within each master's --grace."""
    with backend(url, namespace) as there:
        _, told = tell(there, name, "stop", now=now)
        for master in told:
            click.echo(f"{master}: told to stop{' at once' if now else ''}")
        if not no_wait:
            _wait(there, set(told))


def _wait(there: Backend, masters: set[str]) -> None:
    shown = ""
    while masters:
        try:
            rows = {row["name"]: row for row in there.views.masters()}
        except RedisGone:
            if not is_embedded(there.url):
                raise
            rows = {}  # the embedded server is stopped last, by the master it belongs to
        gone = sorted(masters - rows.keys())
        if gone and shown:
            click.echo(f"\r{'':<{len(shown)}}\r", err=True, nl=False)
            shown = ""
        for master in gone:
            click.echo(f"{master}: stopped")
        masters &= rows.keys()
        running = sum(int(rows[master].get("busy", 0)) for master in masters)
        told = f"waiting for {_count(len(masters), 'master')}, {_count(running, 'job')} running"
        if masters and told != shown and sys.stderr.isatty():
            click.echo(f"\r{told:<{len(shown)}}", err=True, nl=False)
            shown = told
        if masters:
            time.sleep(_POLL_S)  # their end has no event to wait for: a dead one's row just expires


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
