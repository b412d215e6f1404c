"""`rqd doctor`: does all around a daemon suit it, and what is to be done where not."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import click

from rqd.cli.options import as_json, backend
from rqd.cli.output import echo_table
from rqd.cli.settings import SettingsCommand
from rqd.cli.start import command as start
from rqd.cli.start import config_of
from rqd.cli.work import examine_work
from rqd.daemon.config import Config, zygote_path
from rqd.daemon.host.examination import (
    examine_application,
    examine_host,
    examine_limits,
    examine_unit,
)
from rqd.model.errors import ServerUnavailableError
from rqd.model.finding import Finding, Verdict
from rqd.store.connection import answers_are_read
from rqd.store.embedded import is_embedded
from rqd.store.examination import examine_server
from rqd.store.signing_keys import keyring_of


def _examine(as_json: bool, unit: str, **settings: Any) -> int:
    """Look whether all around a daemon suits it.

    That is Redis, this host, the application and the systemd unit; and whether the jobs that wait
    in its namespace have daemons that take them. Takes the options and settings
    of `rqd start`. Exits with 1 where one of them is in the way.
    """
    config = config_of(settings, keyring_of(os.environ))
    findings = list(_all(config, unit))
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        rows = [(one.verdict, one.what, one.seen, one.advice) for one in findings]
        echo_table("Findings", ("", "of", "seen", "to do"), rows, wraps=True)
    return int(any(finding.verdict is Verdict.FAILED for finding in findings))


command = SettingsCommand(
    "doctor", callback=_examine, help=_examine.__doc__, params=[*start.params]
)
click.option("--unit", default="rqd.service", show_default=True, help="The systemd unit.")(command)
as_json(command)


def _all(config: Config, unit: str) -> Iterator[Finding]:
    yield from _server(config)
    yield from examine_host(config)
    yield from examine_limits(config)
    yield from examine_application(config, zygote_path(config))
    yield from examine_unit(config, unit)


def _server(config: Config) -> Iterator[Finding]:
    try:
        with backend(config.url, config.namespace) as there, answers_are_read():
            yield from examine_server(there.store.redis, there.store.keys)
            yield from examine_work(there, config)
    except ServerUnavailableError as error:
        if is_embedded(config.url):
            yield Finding("redis", Verdict.OK, "embedded; it runs while the daemon does")
        else:
            yield Finding("redis", Verdict.FAILED, "can't be reached", str(error))
