"""`rqd metrics`: the metrics of a namespace, for Prometheus."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from rqd.cli.grammar import Command
from rqd.cli.options import backend, redis_options
from rqd.client.metrics import TARGET_WAIT_S
from rqd.model.errors import ConfigurationError
from rqd.model.names import parse_duration_s


@click.command(name="metrics", cls=Command)
@redis_options
@click.option(
    "--file",
    "path",
    metavar="FILE",
    help="Write to this file instead, in a single step: for node_exporter's textfile collector.",
)
@click.option(
    "--target-wait",
    metavar="TIME",
    default=f"{TARGET_WAIT_S:g}s",
    show_default=True,
    help="Longest wait of a job at which rqd_queue_workers_wanted aims.",
)
def command(url: str | None, namespace: str | None, path: str | None, target_wait: str) -> None:
    """Print the metrics in Prometheus' text format.

    `rqd web` serves the same at /metrics.
    """
    try:
        from rqd.integrations.prometheus import exposition  # noqa: PLC0415 - of an extra
    except ImportError as error:
        raise ConfigurationError(
            f"metrics need {error.name}, which is not installed: pip install 'rqd[prometheus]'"
        ) from error
    target_wait_s = parse_duration_s(target_wait, "--target-wait")
    if target_wait_s is None or target_wait_s <= 0:
        raise ConfigurationError(f"--target-wait {target_wait}: write a time above 0, such as 30s")
    with backend(url, namespace) as there:
        text = exposition(there, target_wait_s)
    if path is None:
        sys.stdout.write(text.decode())
        return
    # In the same folder, as a rename is one step only within a file system.
    new = Path(f"{path}.{os.getpid()}.new")
    try:
        new.write_bytes(text)
        new.chmod(0o644)  # node_exporter runs as another user
        new.replace(path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise ConfigurationError(f"--file {path}: cannot be written: {error}") from error
