"""The spellings of commands before `rqd pause` and `rqd resume`; hidden, for a single version."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import click

from rqd.cli.grammar import Command
from rqd.cli.masters import (
    Targets,
    asking_options,
    no_wait_option,
    pause_masters,
    resume_masters,
    timeout_option,
)
from rqd.cli.options import as_json, redis_options
from rqd.cli.output import note_former
from rqd.cli.pause import pause_all


@click.command(name="drain", cls=Command, hidden=True)
@redis_options
@click.option("--now", is_flag=True, help="Kill running jobs and put them back.")
@asking_options
@no_wait_option
@timeout_option
def drain(
    url: str | None,
    namespace: str | None,
    now: bool,
    master: str | None,
    hosts: tuple[str, ...],
    as_json: bool,
    no_wait: bool,
    timeout: str | None,
) -> int:
    """Pause masters: `rqd pause --master NAME`."""
    note_former("rqd drain", _spelt("pause", master, hosts))
    targets = Targets(url, namespace, master, hosts)
    return pause_masters(targets, now, as_json, no_wait, timeout)


@click.command(name="undrain", cls=Command, hidden=True)
@redis_options
@asking_options
@timeout_option
def undrain(
    url: str | None,
    namespace: str | None,
    master: str | None,
    hosts: tuple[str, ...],
    as_json: bool,
    timeout: str | None,
) -> int:
    """Resume masters: `rqd resume --master NAME`."""
    note_former("rqd undrain", _spelt("resume", master, hosts))
    return resume_masters(Targets(url, namespace, master, hosts), as_json, timeout)


@click.command(name="suspend", cls=Command, hidden=True)
@redis_options
@as_json
@click.option("--for", "--duration", "for_", metavar="TIME", help="Time until the queues resume.")
def suspend(url: str | None, namespace: str | None, as_json: bool, for_: str | None) -> None:
    """Pause all queues: `rqd pause --all`."""
    note_former("rqd suspend", "rqd pause --all")
    pause_all(url, namespace, as_json, for_)


def _spelt(verb: str, master: str | None, hosts: Sequence[str]) -> str:
    masters = ["--master", master] if master else []
    masters += [word for host in hosts for word in ("--host", host)]
    return shlex.join(["rqd", verb, *(masters or ["--all-masters"])])
