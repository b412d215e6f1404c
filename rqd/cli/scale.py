"""`rqd scale`: more workers, or fewer, in masters that run."""

from __future__ import annotations

import re

import click

from rqd.cli.grammar import Command
from rqd.cli.masters import (
    asking_options,
    backend_or,
    close,
    read_timeout,
    select_masters,
    show,
    timeout_option,
)
from rqd.cli.options import redis_options
from rqd.client.masters import ask_masters
from rqd.daemon.config import MAX_WORKERS
from rqd.model.errors import ConfigurationError


@click.command(name="scale", cls=Command, context_settings={"ignore_unknown_options": True})
@redis_options
@asking_options
@timeout_option
@click.argument("workers", metavar="WORKERS", nargs=-1, required=True)
def command(
    url: str | None,
    namespace: str | None,
    master: str | None,
    hosts: tuple[str, ...],
    as_json: bool,
    timeout: str | None,
    workers: tuple[str, ...],
) -> int:
    """Change the number of WORKERS of each master.

    WORKERS is a number, 4, or a change, +2 or -1. Workers that leave finish their jobs first. The
    change lasts until the master's end: after a restart its --workers counts again. The command
    exits with 1 if a master did not answer, or refused.
    """
    change, timeout_s = _read(workers), read_timeout(timeout)
    instead = {1: "kill -TTIN PID", -1: "kill -TTOU PID"}.get(change.get("by", 0), "")
    with backend_or(instead, url, namespace) as there:
        rows = select_masters(there, master, hosts)
        replies = ask_masters(there, rows, "scale", timeout_s, **change)
        if not as_json:
            show(replies)
        return close(replies, as_json)


def _read(typed: tuple[str, ...]) -> dict[str, int]:
    """Returns `by` or `to` with the number. Raises ConfigurationError, UsageError."""
    for word in typed:
        if re.match("-+[a-zA-Z]", word):  # to allow -1, click parses unknown options as words
            raise click.UsageError(f"No such option: {word}")
    workers, *more = typed
    if more or not re.fullmatch(r"[+-]?\d{1,9}", workers, re.ASCII):
        raise ConfigurationError(f"scale {' '.join(typed)}: write 4, +2 or -1")
    number = int(workers)
    if workers[0] in "+-":
        if not number:
            raise ConfigurationError(f"scale {workers} changes nothing: write +1 or -1, or more")
        if abs(number) > MAX_WORKERS:
            raise ConfigurationError(f"scale {workers}: a master has {MAX_WORKERS:,} at most")
        return {"by": number}
    if not 1 <= number <= MAX_WORKERS:
        raise ConfigurationError(
            f"scale {workers}: write 1 to {MAX_WORKERS:,}; for no jobs write rqd pause --master,"
            " to end masters rqd stop"
        )
    return {"to": number}
