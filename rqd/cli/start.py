"""`rqd start`: the daemon."""

from __future__ import annotations

import click

from rqd.cli.options import redis_options
from rqd.model.names import parse_duration_s
from rqd.store.connection import default_namespace, default_url


@click.command(name="start")
@redis_options
@click.option("--queues", "-q", default="default", show_default=True, help="In precedence: a,b.")
@click.option("--workers", "-w", type=int, default=4, show_default=True, help="Jobs at a time.")
@click.option("--preload", multiple=True, metavar="MODULE,..", help="Import before the first fork.")
@click.option(
    "--jobs-per-child", type=int, default=1, show_default=True, help="Jobs a process may run."
)
@click.option("--grace", default="30", show_default=True, help="Time for jobs at a stop: 30, 5m.")
@click.option("--burst", is_flag=True, help="Exit when the queues are empty.")
@click.option("--path", "-P", multiple=True, help="Import path of jobs.  [default: this folder]")
@click.option("--name", metavar="NAME", help="The master's name.  [default: host and number]")
def command(
    url: str | None,
    namespace: str | None,
    queues: str,
    workers: int,
    preload: tuple[str, ...],
    jobs_per_child: int,
    grace: str,
    burst: bool,
    path: tuple[str, ...],
    name: str | None,
) -> int:
    """Run jobs from the queues until told to stop.

    SIGTERM or Ctrl-C stops gracefully, SIGQUIT or a second Ctrl-C at once; SIGTTIN and SIGTTOU
    add and take away a worker.
    """
    # Late: the daemon's modules are of no use to the other commands, and it takes over signals.
    from rqd.daemon.config import Config  # noqa: PLC0415 - see above
    from rqd.daemon.supervisor import run  # noqa: PLC0415 - see above

    chosen = {"name": name} if name is not None else {}
    config = Config(
        url=url or default_url(),
        namespace=namespace or default_namespace(),
        queues=_split(queues),
        workers=workers,
        preload=tuple(module for given in preload for module in _split(given)),
        jobs_per_child=jobs_per_child,
        grace_s=parse_duration_s(grace, "--grace") or 0.0,
        burst=burst,
        path=path or (".",),
        **chosen,
    )
    return run(config)


def _split(names: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in names.split(",") if name.strip())
