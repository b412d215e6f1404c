"""`rqd bridge rq`: serves what programs enqueue by RQ."""

from __future__ import annotations

import click

from rqd.cli.grammar import Command
from rqd.cli.options import backend, log_format_option, log_level_option, redis_options
from rqd.cli.output import say
from rqd.model.errors import ConfigurationError
from rqd.model.names import check_queue_name
from rqd.store.urls import default_url

_LONGEST_POLL_S = 60.0


@click.command(name="bridge", cls=Command)
@redis_options
@click.option(
    "-q",
    "--queues",
    required=True,
    metavar="NAMES",
    help="RQ's queues to serve, in order of precedence: default,low.",
)
@click.option(
    "--poll",
    "poll_s",
    type=click.FloatRange(0.01, _LONGEST_POLL_S),
    default=0.2,
    show_default=True,
    metavar="SECONDS",
    help="Longest time between two looks at RQ's queues.",
)
@click.option("--burst", is_flag=True, help="End when the queues are empty and no job is open.")
@log_format_option
@log_level_option
@click.argument("library", type=click.Choice(["rq"]))
def command(
    url: str | None,
    namespace: str | None,
    queues: str,
    poll_s: float,
    burst: bool,
    log_format: str,
    log_level: str,
    library: str,  # noqa: ARG001 - the only one so far
) -> None:
    """Serve what programs enqueue by RQ.

    The jobs run in rqd, in queues of the same names, and RQ sees their status and results. Both
    have to use the same Redis. SIGTERM or Ctrl-C stops it; nothing is lost. Signing keys come as
    for rqd start.
    """
    from rqd.bridge.bridge import Bridge  # noqa: PLC0415 - loads redis-py, which --help does not need
    from rqd.daemon.config import LogSettings  # noqa: PLC0415 - as above
    from rqd.daemon.log.log import open_log  # noqa: PLC0415 - as above
    from rqd.daemon.stop_signals import StopSignals  # noqa: PLC0415 - as above
    from rqd.store.bridge import check_server  # noqa: PLC0415 - as above
    from rqd.store.permissions import check_bridge_permissions  # noqa: PLC0415 - as above

    names = [check_queue_name(name) for name in queues.split(",")]
    if len(set(names)) < len(names):
        raise ConfigurationError(f"--queues {queues}: names a queue twice")
    target = url or default_url()
    check_server(target)
    log = open_log(LogSettings(log_format, log_level))
    log.name_master("bridge rq")
    with backend(url, namespace, signs=True) as there:
        bridge = Bridge(there, names, log)
        stop = StopSignals()
        # Only at the start does a missing server, or a missing right, end it.
        check_bridge_permissions(there.store.redis, there.store.keys)
        bridge.run(stop.wait, poll_s, is_burst=burst)
    if burst:
        counts = bridge.counts
        say(f"taken {counts.taken}, refused {counts.refused}, ended {counts.ended}")
