"""`rqd config`: the settings in force, and where each comes from."""

from __future__ import annotations

import json
import os
from typing import Any

import click
from click.core import ParameterSource

from rqd.cli.options import as_json
from rqd.cli.output import echo_table
from rqd.cli.settings import (
    SettingsCommand,
    SettingsFile,
    file_in_force,
    key_of,
    options_of,
    variable_of,
)
from rqd.cli.start import command as start
from rqd.store.urls import default_namespace, default_url, hide_password


@click.pass_context
def _show(context: click.Context, /, as_json: bool, **values: Any) -> None:
    """Show the settings and where each comes from.

    Those that `rqd start` would use.
    Takes the options of `rqd start`, to see what they would change.
    """
    found = file_in_force(context)
    rows = []
    for option in options_of(start):
        name = option.name or ""
        rows.append((key_of(option), _shown(name, values[name]), _source(context, option, found)))
    if as_json:
        told = [dict(zip(("setting", "value", "from"), row, strict=True)) for row in rows]
        click.echo(json.dumps(told, indent=2))
    else:
        shown = [(key, _text(value), source) for key, value, source in rows]
        echo_table("Settings", ("setting", "value", "from"), shown)


command = SettingsCommand("config", callback=_show, help=_show.__doc__, params=[*start.params])
as_json(command)


def _shown(name: str, value: Any) -> Any:
    if name == "url":
        return hide_password(value or default_url())
    if name == "namespace":
        return value or default_namespace()
    return list(value) if isinstance(value, tuple) else value


def _source(context: click.Context, option: click.Option, found: SettingsFile | None) -> str:
    name = option.name or ""
    source = context.get_parameter_source(name)
    if source is ParameterSource.COMMANDLINE:
        return option.opts[0]
    if source is ParameterSource.ENVIRONMENT:
        return variable_of(option)
    if source is ParameterSource.DEFAULT_MAP and found is not None:
        return str(found.path)
    is_redis_url = name == "url" and os.environ.get("REDIS_URL")
    return "REDIS_URL" if is_redis_url else "default"


def _text(value: Any) -> Any:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else value
