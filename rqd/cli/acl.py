"""`rqd acl`: the permissions a Redis user needs."""

from __future__ import annotations

import click

from rqd.cli.grammar import Command
from rqd.cli.options import redis_options
from rqd.model.errors import ConfigurationError
from rqd.store.permissions import acl_lines
from rqd.store.urls import default_namespace, default_url


@click.command(name="acl", cls=Command)
@redis_options
@click.option("--user", default="rqd", show_default=True, help="The user's name.")
@click.option("--wait-replicas", is_flag=True, help="With what enqueue's wait_replicas sends.")
@click.option("--wait-aof", is_flag=True, help="... and wait_aof: Redis 7.2 and newer.")
def command(
    url: str | None, namespace: str | None, user: str, wait_replicas: bool, wait_aof: bool
) -> None:
    """Print the permissions a Redis user needs.

    As ACL SETUSER lines, with the commands and keys rqd needs and no more. Nothing is sent
    anywhere. Put a password in place of PASSWORD and hand the line to redis-cli.
    """
    if not user or not user.isprintable() or " " in user:
        raise ConfigurationError(f"--user {user!r}: write a name without spaces")
    waits = {"wait"} if wait_replicas else set()
    waits |= {"waitaof"} if wait_aof else set()
    chosen = namespace or default_namespace()
    for where, line in acl_lines(user, chosen, url or default_url(), waits):
        click.echo(f"# {where}:", err=True)
        click.echo(line)
