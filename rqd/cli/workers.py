"""`rqd workers`: the workers of live masters, on all hosts."""

from __future__ import annotations

import json

import click

from rqd.cli.completing import complete_hosts, complete_queues
from rqd.cli.info import look, show_workers
from rqd.cli.masters import chosen
from rqd.cli.near import check_queues, did_you_mean
from rqd.cli.options import as_json, backend, redis_options
from rqd.cli.table import plain
from rqd.model.errors import RqdError


@click.command(name="workers")
@redis_options
@as_json
@click.option(
    "--queue", "-q", metavar="NAME", shell_complete=complete_queues, help="Of those that serve it."
)
@click.option(
    "--host",
    "hosts",
    metavar="HOST",
    multiple=True,
    shell_complete=complete_hosts,
    help="Of those on this host; can be given again.",
)
@click.argument("name", required=False)
@click.argument("more", nargs=-1)
def command(
    url: str | None,
    namespace: str | None,
    as_json: bool,
    queue: str | None,
    hosts: tuple[str, ...],
    name: str | None,
    more: tuple[str, ...],
) -> None:
    """Show the workers of all hosts, or all that is known of the one named master:number.

    This runs none: that is `rqd start`.
    """
    with backend(url, namespace) as there:
        if queue is not None:
            check_queues([queue], there.views)
        chosen(there, None, hosts)
        seen = look(there.views)
    serving = {
        row["name"]
        for row in seen.masters
        if (queue is None or queue in row["queues"]) and (not hosts or row.get("host") in hosts)
    }
    workers = {
        f"{row['master']}:{row['number']}": row for row in seen.workers if row["master"] in serving
    }
    if name is not None and (more or name not in workers):
        start = f"; rqd start --queues {','.join([name, *more])} runs some"
        raise RqdError(f"no worker {name!r} is alive{did_you_mean(name, workers) or start}")
    if name is None:
        if as_json:
            click.echo(json.dumps([*workers.values()], indent=2))
        else:
            show_workers([*workers.values()], seen.now_us)
    elif as_json:
        click.echo(json.dumps(workers[name], indent=2))
    else:
        for key, value in workers[name].items():
            click.echo(f"{key + ':':<14}{plain(str(value))}")
