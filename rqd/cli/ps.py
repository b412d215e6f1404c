"""`rqd ps`: which jobs run, where, for how long, and what they take."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from rqd.cli.activity import HEADS, LEAST, ORDERS, cells, look, ordered
from rqd.cli.grammar import Command
from rqd.cli.options import as_json, backend, redis_options
from rqd.cli.output import echo_table


@click.command(name="ps", cls=Command)
@redis_options
@as_json
@click.option(
    "--sort", type=click.Choice(ORDERS), default="time", help="What comes first.  [default: time]"
)
def command(url: str | None, namespace: str | None, as_json: bool, sort: str) -> None:
    """List the running jobs of all hosts.

    The cpu and memory of their processes are looked at with each heartbeat of their daemon,
    every 5 seconds.
    """
    with backend(url, namespace) as there:
        found = ordered(look(there.views), sort)
    if as_json:
        click.echo(json.dumps(list(map(asdict, found)), indent=2))
    else:
        echo_table("Running jobs", HEADS, list(map(cells, found)), LEAST)
