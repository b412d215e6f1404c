"""`rqd api-token`: makes a token of the HTTP API."""

from __future__ import annotations

import click

from rqd.cli.completing import complete_queues
from rqd.cli.grammar import Command
from rqd.model.errors import ConfigurationError


@click.command(name="api-token", cls=Command)
@click.argument("name")
@click.option(
    "--queue",
    "-q",
    "queues",
    multiple=True,
    required=True,
    shell_complete=complete_queues,
    help="Allow this queue, or a pattern such as 'mail-*'.",
)
@click.option(
    "--function",
    "functions",
    multiple=True,
    required=True,
    help="Allow this function, or a pattern such as 'shop.tasks.*'.",
)
@click.option(
    "--may", multiple=True, help="Allow enqueue, read or cancel only.  [default: all of them]"
)
def command(
    name: str, queues: tuple[str, ...], functions: tuple[str, ...], may: tuple[str, ...]
) -> None:
    """Make a token of the HTTP API.

    The token is shown once. Its entry for the file of `rqd web --api-tokens` has a hash of it
    alone.

    \b
    rqd api-token shop -q mail --function 'shop.tasks.*' >>tokens.toml
    """
    try:
        from rqd.web.api.tokens import RIGHTS, new_token  # noqa: PLC0415 - of the dashboard
    except ImportError as error:
        raise ConfigurationError(
            f"the HTTP API needs {error.name}, which is not installed: pip install 'rqd[web]'"
        ) from error

    text, table = new_token(name, queues, functions, may or RIGHTS)
    click.echo(f"token of {name}, shown this once: {text}", err=True)
    click.echo(table)
