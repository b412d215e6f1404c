"""`rqd suspend`: daemons start no jobs, of any queue."""

from __future__ import annotations

import json

import click

from rqd.cli.instants import with_unit
from rqd.cli.options import as_json, backend, redis_options
from rqd.cli.pauses import pause_of, read_for
from rqd.store.keys import ALL_QUEUES
from rqd.suspension import suspend


@click.command(name="suspend")
@redis_options
@as_json
@click.option("--for", "for_", metavar="TIME", help="It ends by itself then: 30, 10m, 2h.")
def command(url: str | None, namespace: str | None, as_json: bool, for_: str | None) -> None:
    """Have no jobs started, of any queue.

    Until `rqd resume`, or for a time; those that run go on.
    Jobs are taken all the while. `rqd queue NAME pause` pauses one queue.
    """
    with backend(url, namespace) as there:
        suspend(there, read_for(for_))
        paused = pause_of(ALL_QUEUES, there.views.paused())
    done = f"suspended{f' for {with_unit(for_)}' if for_ else ', until rqd resume'}"
    click.echo(json.dumps({"done": done, **paused}, indent=2) if as_json else done)
