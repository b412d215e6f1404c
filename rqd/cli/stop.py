"""`rqd stop`: stops masters, and waits until they have stopped."""

from __future__ import annotations

from collections.abc import Sequence

import click

from rqd.cli.grammar import Command
from rqd.cli.masters import (
    asking_options,
    backend_or,
    close,
    no_wait_option,
    read_timeout,
    select_masters,
    show,
    timeout_option,
    wait_for,
)
from rqd.cli.options import redis_options
from rqd.client.connection import Backend
from rqd.client.masters import Reply, Row, as_of_now, ask_masters
from rqd.model.numbers import read_whole
from rqd.store.connection import RedisGone
from rqd.store.embedded import is_embedded


@click.command(name="stop", cls=Command)
@redis_options
@click.option("--now", is_flag=True, help="Kill running jobs and put them back in their queues.")
@asking_options
@no_wait_option
@timeout_option
def command(
    url: str | None,
    namespace: str | None,
    now: bool,
    master: str | None,
    hosts: tuple[str, ...],
    as_json: bool,
    no_wait: bool,
    timeout: str | None,
) -> int:
    """Stop the masters of a namespace.

    Running jobs finish, within each master's --grace. The command exits with 1 if a master did not
    answer, or did not end in time.
    """
    timeout_s = read_timeout(timeout)
    instead = "kill -QUIT PID" if now else "kill -TERM PID, or systemctl stop"
    with backend_or(instead, url, namespace) as there:
        rows = select_masters(there, master, hosts)
        replies = _stop(there, rows, now, timeout_s)
        if not as_json:
            show(replies)
        if not no_wait:
            # A master without an answer may stop all the same; a master that refused does not.
            awaited = [one for one in replies if one.answer is None or one.is_well]
            wait_for(awaited, lambda left: _note_ends(there, rows, left), as_json, timeout_s)
        return close(replies, as_json)


def _stop(there: Backend, rows: Sequence[Row], now: bool, timeout_s: float | None) -> list[Reply]:
    try:
        return ask_masters(there, rows, "stop", timeout_s, now=now)
    except RedisGone:
        if not is_embedded(there.url):
            raise
        # The embedded server stops last, by its own master, which has obeyed.
        stopping = {"state": "stopping", "busy": 0, "workers": 0}
        return [Reply(row["name"], row.get("host", ""), stopping) for row in rows]


def _note_ends(there: Backend, asked: Sequence[Row], left: Sequence[Reply]) -> int:
    try:
        rows = as_of_now(there, asked)
    except RedisGone:
        if not is_embedded(there.url):
            raise
        rows = {}
    for one in left:
        if one.master not in rows:
            heard = one.answer is not None
            one.end("stopped" if heard else "gone without an answer", is_well=heard)
    return sum(read_whole(rows.get(one.master, {}).get("busy")) or 0 for one in left)
