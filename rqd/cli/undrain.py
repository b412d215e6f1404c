"""`rqd undrain`: the end of `rqd drain`."""

from __future__ import annotations

import click

from rqd.cli.masters import (
    asking_options,
    backend_or,
    chosen,
    close,
    read_timeout,
    show,
    tell_and_hear,
    timeout_option,
)
from rqd.cli.options import redis_options


@click.command(name="undrain")
@redis_options
@asking_options
@timeout_option
def command(
    url: str | None,
    namespace: str | None,
    name: str | None,
    hosts: tuple[str, ...],
    as_json: bool,
    timeout: str | None,
) -> int:
    """Have masters start jobs again after rqd drain.

    Or after a signal that paused them. Exits with 1 if one did not answer.
    """
    with backend_or("kill -CONT PID", url, namespace) as there:
        rows = chosen(there, name, hosts)
        told = tell_and_hear(there, rows, "resume", read_timeout(timeout))
        if not as_json:
            show(told)
        return close(told, as_json)
