"""`rqd healthcheck`, for the probes of a container: does this host's master live, is it ready."""

from __future__ import annotations

import os

import click

from rqd.cli.grammar import Command
from rqd.cli.output import say
from rqd.cli.settings import redis_options
from rqd.daemon.instance import MasterHere, lock_folder, lock_folder_variable, masters_here
from rqd.model.errors import RqdError
from rqd.model.names import check_name
from rqd.store.urls import default_namespace, default_url, hide_password, read_url

# A master writes its state every 5 s.
_STANDS_STILL_S = 20.0


@click.command(name="healthcheck", cls=Command)
@redis_options
@click.option("--name", metavar="NAME", help="Check the master with this name.  [default: all]")
@click.option(
    "--ready", is_flag=True, help="Check also that masters accept jobs: not at a start or stop."
)
def command(url: str | None, namespace: str | None, name: str | None, ready: bool) -> None:
    """Exit with 0 if this host's masters are alive.

    It checks the masters of its URL and namespace, or all masters without both. Write them as the
    daemon has them. An error names the master and its state. The command reads the masters' lock
    files, and never asks Redis: a daemon outlives an outage of Redis. Run it as the daemon's user.
    """
    backend = _given(url, namespace)
    masters = [one for one in masters_here(backend) if name in (None, one.name)]
    if not masters:
        named = f"named {name!r} " if name else ""
        of = f"of {_shown(backend[1], hide_password(backend[0]))} " if backend else ""
        others = [f"{one.name} of {_shown(one.namespace, one.url)}" for one in masters_here()]
        if others:
            raise RqdError(
                f"no master {named}{of}runs on this host as this user, but {', '.join(others)}:"
                " write --url, --namespace and --name as the daemon has them"
            )
        raise RqdError(
            f"no master {named}{of}runs on this host as this user, by the locks in {lock_folder()}:"
            f" {lock_folder_variable()} names their folder, which a daemon has to write to"
        )
    for master in masters:
        _check(master, ready)
        where = _shown(master.namespace, master.url)
        say(f"{master.name}: {master.state} ({where})")


def _given(url: str | None, namespace: str | None) -> tuple[str, str] | None:
    """Returns the URL and namespace to look for; None if neither is set anywhere."""
    if url is None and namespace is None and not os.environ.get("REDIS_URL"):
        return None
    backend = url or default_url(), namespace or default_namespace()
    read_url(backend[0])
    check_name(backend[1], "namespace")
    return backend


def _shown(namespace: str, url: str) -> str:
    return f"namespace {namespace} at {url}"


def _check(master: MasterHere, ready: bool) -> None:
    if master.age_s > _STANDS_STILL_S:
        raise RqdError(f"{master.name}: its loop has stood still for {master.age_s:.0f} s")
    if ready and master.state not in ("idle", "busy", "suspended", "paused"):
        raise RqdError(f"{master.name}: {master.state}")
