"""`rqd upgrade`: masters go on as the version of rqd that is installed by now."""

from __future__ import annotations

import click

from rqd.cli.masters import choice_options, chosen, no_wait_option, tell
from rqd.cli.options import backend, redis_options
from rqd.cli.reload import wait


@click.command(name="upgrade")
@redis_options
@choice_options
@no_wait_option
def command(
    url: str | None,
    namespace: str | None,
    name: str | None,
    hosts: tuple[str, ...],
    no_wait: bool,
) -> int:
    """Have masters go on as the rqd installed by now.

    Running jobs run on. Then the application's code is taken anew, as by rqd reload. Exits with
    1, and shows why, where the new version is refused: the old one serves on.
    """
    with backend(url, namespace) as there:
        request, told = tell(there, chosen(there, name, hosts), "upgrade")
        for master in told:
            click.echo(f"{master}: told to upgrade")
        return 0 if no_wait else wait(there, request, set(told), "upgraded to rqd {version}")
