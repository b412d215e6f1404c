"""`rqd upgrade`: masters go on as the version of rqd that is installed by now."""

from __future__ import annotations

import click

from rqd.cli.masters import asking_options, chosen, no_wait_option
from rqd.cli.options import backend, redis_options
from rqd.cli.reload import carry_out


@click.command(name="upgrade")
@redis_options
@asking_options
@no_wait_option
def command(
    url: str | None,
    namespace: str | None,
    name: str | None,
    hosts: tuple[str, ...],
    as_json: bool,
    no_wait: bool,
) -> int:
    """Have masters go on as the rqd installed by now.

    Running jobs run on. Then the application's code is taken anew, as by rqd reload. Exits with
    1, and shows why, where the new version is refused: the old one serves on.
    """
    with backend(url, namespace, signs=True) as there:
        rows = chosen(there, name, hosts)
        return carry_out(there, rows, "upgrade", "upgraded to rqd {version}", as_json, no_wait)
