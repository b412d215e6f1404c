"""Telling masters what to do, for the commands that do."""

from __future__ import annotations

import os
from typing import Any

import click

from rqd.connection import Backend
from rqd.model.errors import RqdError
from rqd.model.names import check_name

name_option = click.option(
    "--name", metavar="NAME", help="Only the master of this name.  [default: all]"
)
no_wait_option = click.option("--no-wait", is_flag=True, help="Don't wait until it is done.")


def tell(there: Backend, name: str | None, do: str, **more: Any) -> tuple[str, list[str]]:
    """Sends a command to the masters that are alive, or the one of this name: its id, who got it.

    Raises RqdError where there is no master of that name.
    """
    if name is not None:
        check_name(name, "master name")
    alive = [row["name"] for row in there.views.masters()]
    if name is not None and name not in alive:
        raise RqdError(f"no master named {name!r} is alive; rqd info lists them")
    wanted = alive if name is None else [name]
    if not wanted:
        click.echo("no master is running", err=True)
    request = os.urandom(8).hex()
    told = there.store.command({"id": request, "do": do, **more}, wanted) if wanted else []
    return request, told
