"""`rqd drain`: masters claim no more jobs, and are waited for until they run none."""

from __future__ import annotations

import time
from collections.abc import Sequence

import click

from rqd.cli.masters import (
    Row,
    Told,
    as_of_now,
    asking_options,
    backend_or,
    chosen,
    close,
    no_wait_option,
    read_timeout,
    show,
    tell_and_hear,
    timeout_option,
    wait_for,
)
from rqd.cli.options import redis_options
from rqd.connection import Backend
from rqd.store.live import ANSWER_WITHIN_S


@click.command(name="drain")
@redis_options
@click.option("--now", is_flag=True, help="Kill running jobs and put them back in their queues.")
@asking_options
@no_wait_option
@timeout_option
def command(
    url: str | None,
    namespace: str | None,
    now: bool,
    name: str | None,
    hosts: tuple[str, ...],
    as_json: bool,
    no_wait: bool,
    timeout: str | None,
) -> int:
    """Have masters start no jobs, until they are idle.

    It waits until the jobs that run have finished. The masters stay, paused, until `rqd
    undrain`. Exits with 1 if one did not answer, or was not free of jobs in time.
    """
    timeout_s = read_timeout(timeout)
    instead = "" if now else "kill -USR2 PID"
    with backend_or(instead, url, namespace) as there:
        rows = chosen(there, name, hosts)
        told = tell_and_hear(there, rows, "pause", timeout_s, now=now)
        if not as_json:
            show(told)
        if not no_wait:
            awaited = [one for one in told if one.is_well]
            wait_for(awaited, _Watch(there, rows).look, as_json, timeout_s)
        return close(told, as_json)


class _Watch:
    """Sees by the rows how far masters are: a master's own says that it is paused from the next
    beat on, its workers' change with each settlement.
    """

    def __init__(self, there: Backend, asked: Sequence[Row]) -> None:
        self._there = there
        self._asked = asked
        self._has_paused: set[str] = set()
        # One that was resumed before it was seen paused has had its beat by then.
        self._all_paused_by = time.monotonic() + ANSWER_WITHIN_S

    def look(self, left: Sequence[Told]) -> int:
        """Notes what became of those that are left; how many jobs they run."""
        rows = as_of_now(self._there, self._asked)
        running = dict.fromkeys((one.master for one in left), 0)
        for worker in self._there.views.workers(
            [rows[one.master] for one in left if one.master in rows]
        ):
            running[worker["master"]] += worker.get("state") == "busy"
        for one in left:
            row = rows.get(one.master, {"state": "gone"})
            self._note(one, row.get("state", ""), running[one.master])
        return sum(running.values())

    def _note(self, one: Told, state: str, running: int) -> None:
        has_paused = one.master in self._has_paused or time.monotonic() > self._all_paused_by
        if state in ("gone", "stopping"):
            one.end(state)
        elif state == "paused":
            self._has_paused.add(one.master)
            if not running:
                one.end("drained")
        elif state != "starting" and has_paused:
            one.end("resumed by somebody", is_well=False)
