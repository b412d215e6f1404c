"""`rqd suspend`: daemons start no jobs, of any queue."""

from __future__ import annotations

import click

from rqd.cli.options import backend, redis_options
from rqd.cli.pauses import read_for
from rqd.suspension import suspend


@click.command(name="suspend")
@redis_options
@click.option("--for", "for_", metavar="TIME", help="It ends by itself then: 30, 10m, 2h.")
def command(url: str | None, namespace: str | None, for_: str | None) -> None:
    """Have no jobs started, of any queue.

    Until `rqd resume`, or for a time; those that run go on.
    Jobs are taken all the while. `rqd queue NAME pause` pauses one queue.
    """
    with backend(url, namespace) as there:
        suspend(there, read_for(for_))
        click.echo(f"suspended{f' for {for_}' if for_ else ', until rqd resume'}")
