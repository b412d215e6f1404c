"""`rqd workers`: the workers of live masters, on all hosts."""

from __future__ import annotations

import json
from typing import Any

import click

from rqd.cli.completing import complete_hosts, complete_queues
from rqd.cli.grammar import Command
from rqd.cli.info import share, show_workers
from rqd.cli.masters import select_masters
from rqd.cli.options import as_json, backend, redis_options
from rqd.cli.output import ago, echo_field, mebibytes
from rqd.cli.suggest import NoSuchNameError, check_queues, did_you_mean
from rqd.client.snapshot import snapshot
from rqd.model.errors import ConfigurationError


@click.command(name="workers", cls=Command)
@redis_options
@as_json
@click.option(
    "--queue",
    "-q",
    metavar="NAME",
    shell_complete=complete_queues,
    help="Show workers of this queue.",
)
@click.option(
    "--host",
    "hosts",
    metavar="HOST",
    multiple=True,
    shell_complete=complete_hosts,
    help="Show workers on this host; can be given again.",
)
@click.option("--burst", "-b", "--with-scheduler", "-s", "of_rqs", is_flag=True, hidden=True)
@click.argument("names", nargs=-1, metavar="[NAME]")
def command(
    url: str | None,
    namespace: str | None,
    as_json: bool,
    queue: str | None,
    hosts: tuple[str, ...],
    of_rqs: bool,
    names: tuple[str, ...],
) -> None:
    """Show all workers, or all fields of the worker NAME.

    NAME is master:number. `rqd start` runs workers; this command only shows them.
    """
    if of_rqs:  # RQ's worker works
        queues = ",".join(names) or "default"
        raise ConfigurationError(
            f"rqd workers shows workers: to run some, write rqd start --queues {queues}; --burst"
            " ends them when the queues are empty"
        )
    with backend(url, namespace) as there:
        if queue is not None:
            check_queues([queue], there.views)
        if hosts:
            select_masters(there, None, hosts)
        seen = snapshot(there.views)
    serving = {
        row["name"]
        for row in seen.masters
        if (queue is None or queue in row["queues"]) and (not hosts or row.get("host") in hosts)
    }
    workers = {
        f"{row['master']}:{row['number']}": row for row in seen.workers if row["master"] in serving
    }
    name = names[0] if names else None
    if name in workers and len(names) > 1:
        raise ConfigurationError(f"workers {' '.join(names)}: write a single NAME, or none")
    if name is not None and name not in workers:
        start = f"; rqd start --queues {','.join(names)} runs some"
        raise NoSuchNameError(f"no worker {name!r} is alive{did_you_mean(name, workers) or start}")
    if name is None:
        if as_json:
            click.echo(json.dumps([*workers.values()], indent=2))
        else:
            show_workers([*workers.values()], seen.now_us)
    elif as_json:
        click.echo(json.dumps(workers[name], indent=2))
    else:
        _show(name, workers[name], seen.now_us)


def _show(name: str, row: dict[str, Any], now_us: int) -> None:
    since = row.get("since")
    fields = {
        "worker": name,
        "host": row.get("host"),
        "pid": row.get("pid"),
        "state": row.get("state"),
        "since": since and f"{since} ({ago(since, now_us)})",
        "job": row.get("job"),
        "function": row.get("func_name"),
        "queue": row.get("queue"),
        "progress": share(row),
        "rss": f"{mebibytes(row['rss_bytes']):,} MiB" if row.get("rss_bytes") else None,
        "cpu": f"{row['cpu_percent']:.1f} %" if "cpu_percent" in row else None,
        "done": f"{row['done']:,}",
        "failed": f"{row['failed']:,}",
        "worked": f"{row['worked_s']:,.1f} s" if "worked_s" in row else None,
        "last error": row.get("last_error"),
    }
    for key, value in fields.items():
        if value not in (None, "", 0):
            echo_field(key, str(value))
