"""`rqd healthcheck`: for the probes of a container: does the master here live, is it ready."""

from __future__ import annotations

import click

from rqd.daemon.instance import MasterHere, lock_folder, lock_folder_variable, masters_here
from rqd.model.errors import RqdError

# A master tells its state every 5 s.
_STANDS_STILL_S = 20.0


@click.command(name="healthcheck")
@click.option("--name", metavar="NAME", help="Only the master of this name.  [default: all]")
@click.option(
    "--ready", is_flag=True, help="Also that it takes jobs: not while it starts or stops."
)
def command(name: str | None, ready: bool) -> None:
    """Exit with 0 if this host's masters are alive.

    Else say what is wrong. Asks the masters' lock files and not Redis: an outage of Redis is no
    reason to restart a daemon, which waits for it with its outcomes. Run it as the daemon's user.
    """
    masters = [one for one in masters_here() if name in (None, one.name)]
    if not masters:
        raise RqdError(
            f"no master {f'named {name!r} ' if name else ''}runs on this host as this user, by the"
            f" locks in {lock_folder()}: {lock_folder_variable()} names their folder, which a"
            " daemon has to write to"
        )
    for master in masters:
        _check(master, ready)
        click.echo(f"{master.name}: {master.state}")


def _check(master: MasterHere, ready: bool) -> None:
    if master.age_s > _STANDS_STILL_S:
        raise RqdError(f"{master.name}: its loop has stood still for {master.age_s:.0f} s")
    if ready and master.state not in ("idle", "busy", "suspended", "paused"):
        raise RqdError(f"{master.name}: {master.state}")
