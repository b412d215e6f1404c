"""`rqd resume`: the end of `rqd suspend`."""

from __future__ import annotations

import json

import click

from rqd.cli.options import as_json, backend, redis_options
from rqd.cli.table import say
from rqd.suspension import resume


@click.command(name="resume")
@redis_options
@as_json
def command(url: str | None, namespace: str | None, as_json: bool) -> None:
    """Have jobs started again after `rqd suspend`.

    Paused queues and masters stay so.
    """
    with backend(url, namespace) as there:
        resume(there)
        paused = sorted(there.views.paused())
    if as_json:
        click.echo(json.dumps({"done": "resumed", "still_paused": paused}, indent=2))
    else:
        say(f"resumed; still paused: {', '.join(paused)}" if paused else "resumed")
