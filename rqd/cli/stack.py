"""`rqd stack`: where a running job stands."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from rqd.cli.completing import complete_jobs
from rqd.cli.grammar import Command
from rqd.cli.options import as_json, backend, redis_options
from rqd.cli.output import one_line, plain
from rqd.cli.suggest import whole_id
from rqd.stacks import live_stack


@click.command(name="stack", cls=Command)
@redis_options
@as_json
@click.argument("job_id", metavar="ID", shell_complete=complete_jobs)
def command(url: str | None, namespace: str | None, as_json: bool, job_id: str) -> None:
    """Show where a running job stands, on any host.

    That is the stacks of all its threads. The job goes on. Works while C code holds the GIL.
    """
    with backend(url, namespace, signs=True) as there:
        stack = live_stack(whole_id(job_id, there.views, only_to_look=True), there)
    if as_json:
        told = asdict(stack) | {"threads": list(map(asdict, stack.threads))}
        click.echo(json.dumps(told, indent=2))
        return
    head = f"attempt {stack.attempt} in {stack.worker}, pid {stack.pid} on {stack.host}"
    click.secho(one_line(head), bold=True)
    click.echo()
    click.echo(plain(stack.text))
