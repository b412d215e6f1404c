"""`rqd resume`: the end of `rqd suspend`."""

from __future__ import annotations

import click

from rqd.cli.options import backend, redis_options
from rqd.suspension import resume


@click.command(name="resume")
@redis_options
def command(url: str | None, namespace: str | None) -> None:
    """Have jobs started again after `rqd suspend`.

    Paused queues and masters stay so.
    """
    with backend(url, namespace) as there:
        resume(there)
        paused = sorted(there.views.paused())
        left = f"; still paused: {', '.join(paused)}" if paused else ""
        click.echo(f"resumed{left}")
