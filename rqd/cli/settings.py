"""Settings: from a file, overruled by the environment, overruled by options.

There is one list of them, the options of `rqd start`: `--jobs-per-child 5` is
`RQD_JOBS_PER_CHILD=5`, and `jobs-per-child = 5` in `rqd.toml` or under `[tool.rqd]` in
`pyproject.toml`. All commands read `url` and `namespace` from there.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from rqd.cli.grammar import Command, SharedOption
from rqd.cli.suggest import did_you_mean
from rqd.model.errors import ConfigurationError
from rqd.model.names import check_name
from rqd.store.urls import read_url

FILE_VARIABLE = "RQD_CONFIG"
_FILES = ("rqd.toml", "pyproject.toml")
_OF_ALL = ("url", "namespace")  # the settings that all commands have
_NOT_SETTINGS = ("help", "config", "as_json", "unit", "preload_hint")
_META, _ARGUMENTS = "rqd.settings_file", "rqd.arguments"
# The first words of errors that don't begin with the option.
_BY_WORDS = {"queues": "queue name", "name": "master name"}
_url = click.option(
    "--url",
    "-u",
    cls=SharedOption,
    metavar="URL",
    envvar="RQD_URL",
    help="Redis URL: redis://, rediss://, unix://, redis+sentinel://, redis+cluster://,"
    " embedded: or embedded:FOLDER."
    "  [default: RQD_URL, REDIS_URL, or localhost:6379]",
)
_namespace = click.option(
    "--namespace",
    cls=SharedOption,
    metavar="NAME",
    envvar="RQD_NAMESPACE",
    help="Prefix of all keys.  [default: RQD_NAMESPACE or rqd]",
)
C = TypeVar("C", bound=Callable[..., Any])


def redis_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--url`, `--namespace` and `--config`."""
    return _url(_namespace(config_option(command)))


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """A file of settings, and its values by the names of options (`jobs_per_child`)."""

    path: Path
    values: Mapping[str, Any]


def config_option(command: C) -> C:
    """Adds `--config FILE`: the file that the settings come from."""
    return click.option(
        "--config",
        cls=SharedOption,
        metavar="FILE",
        is_eager=True,  # its file must be read before the other options are
        expose_value=False,
        envvar=FILE_VARIABLE,
        callback=_load,
        help="TOML file of settings.  [default: rqd.toml, or [tool.rqd] in pyproject.toml, here]",
    )(command)


class SettingsCommand(Command):
    """A command whose options are all the settings: a file may name no others."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for option in options_of(self):
            option.envvar = variable_of(option)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Reads the options, and keeps them for `read_again`.

        Raises ConfigurationError for a bad value in a file or variable, and names its place.
        """
        ctx.meta[_ARGUMENTS] = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.BadParameter as error:
            where = _place_of(ctx, error.param)
            if not where:
                raise
            raise ConfigurationError(f"{where}: {error.message}") from error

    def invoke(self, ctx: click.Context) -> Any:
        """Invokes the command like click, with errors `as_written`."""
        with as_written(ctx):
            return super().invoke(ctx)


@contextmanager
def as_written(context: click.Context) -> Iterator[None]:
    """Makes errors name a setting as it was written: by option, by variable, or by file and key."""
    try:
        yield
    except ConfigurationError as error:
        message = str(error)
        for option in options_of(context.command):
            flag = max(option.opts, key=len)
            words = _BY_WORDS.get(option.name or "", flag)
            where = _place_of(context, option)
            if where and message.startswith(f"{flag} "):
                raise ConfigurationError(where + message.removeprefix(flag)) from error
            if where and message.startswith(f"{words} "):
                raise ConfigurationError(f"{where}: {message}") from error
        raise


def options_of(command: click.Command) -> list[click.Option]:
    """Returns the options that are settings."""
    return [
        option
        for option in command.params
        if isinstance(option, click.Option) and option.name not in _NOT_SETTINGS
    ]


def variable_of(option: click.Option) -> str:
    """Returns an option's variable: `RQD_JOBS_PER_CHILD`."""
    return f"RQD_{(option.name or '').upper()}"


def key_of(option: click.Option) -> str:
    """Returns an option's key in the file: `jobs-per-child`."""
    return (option.name or "").replace("_", "-")


def _place_of(context: click.Context, option: click.Parameter | None) -> str:
    """Returns the origin of an option's value: `rqd.toml: workers`, `RQD_WORKERS`, or empty."""
    if not isinstance(option, click.Option):
        return ""
    source = context.get_parameter_source(option.name or "")
    found = file_in_force(context)
    if source is ParameterSource.DEFAULT_MAP and found is not None:
        return f"{found.path}: {key_of(option)}"
    return variable_of(option) if source is ParameterSource.ENVIRONMENT else ""


def file_in_force(context: click.Context) -> SettingsFile | None:
    """Returns the file that this command's settings come from; None if there is none."""
    found: SettingsFile | None = context.meta.get(_META)
    return found


def read_again(context: click.Context) -> Mapping[str, Any]:
    """Returns a SettingsCommand's settings with its file read again.

    Arguments and environment stay as they were. Raises ConfigurationError.
    """
    before = file_in_force(context)
    if before is not None and not before.path.is_file():
        raise ConfigurationError(f"{before.path} is gone, and the settings came from there")
    try:
        now = context.command.make_context(context.info_name, [*context.meta[_ARGUMENTS]])
    except click.ClickException as error:
        raise ConfigurationError(error.format_message()) from error
    return now.params


def _load(context: click.Context, _option: click.Parameter, named: str | None) -> None:
    path = Path(named) if named else _find()
    table = {} if path is None else _read(path, is_named=bool(named))
    if path is None or not table:
        return
    known = {key_of(option): option for option in options_of(context.command)}
    values = {}
    is_whole = isinstance(context.command, SettingsCommand)
    for key, value in table.items():
        option = known.get(key.replace("_", "-"))
        if not is_whole and key not in _OF_ALL:
            continue  # `quiet` in a file is the daemon's, and not the option of `rqd enqueue`
        if option is not None and option.name is not None:
            values[option.name] = _checked(value, option, f"{path}: {key}")
        elif is_whole:
            raise ConfigurationError(f"{path}: there is no setting {key!r}{_near(key, known)}")
    _check_everywhere(path, values)
    context.meta[_META] = SettingsFile(path, values)
    context.default_map = {**(context.default_map or {}), **values}


def _check_everywhere(path: Path, values: Mapping[str, Any]) -> None:
    """Raises ConfigurationError for an invalid value among the settings of all commands."""
    try:
        if "url" in values:
            read_url(values["url"])
        if "namespace" in values:
            check_name(values["namespace"], "namespace")
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def _find() -> Path | None:
    return next((Path(name) for name in _FILES if os.path.isfile(name)), None)


def _read(path: Path, *, is_named: bool) -> Mapping[str, Any]:
    written = b""
    try:
        written = path.read_bytes()
        content = tomllib.loads(written.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        if path.name == "pyproject.toml" and not is_named and b"tool.rqd" not in written:
            return {}  # some other tool's to complain about
        raise ConfigurationError(f"{path} is no TOML: {error}") from None
    except OSError as error:
        raise ConfigurationError(f"{path} can't be read: {error.strerror}") from None
    if path.name != "pyproject.toml":
        return content
    tools = content.get("tool", {})
    ours = tools.get("rqd", {}) if isinstance(tools, dict) else {}
    if not isinstance(ours, dict):
        raise ConfigurationError(f"{path}: tool.rqd is no table: write [tool.rqd]")
    return ours


def _checked(value: Any, option: click.Option, what: str) -> Any:
    """Returns a file's value in the option's form. Raises ConfigurationError."""
    if option.is_flag:
        if not isinstance(value, bool):
            raise ConfigurationError(f"{what} = {value!r}: write true or false")
        return value
    texts = value if isinstance(value, list) else [value]
    if not all(
        isinstance(text, str | int | float) and text is not True and text is not False
        for text in texts
    ):
        raise ConfigurationError(f"{what} = {value!r}: write a text, a number or a list of them")
    if option.multiple:
        return [str(text) for text in texts]
    return ",".join(str(text) for text in texts)


def _near(key: str, known: Mapping[str, object]) -> str:
    near = did_you_mean(key.replace("_", "-"), known)
    return near or f": there are {', '.join(sorted(known))}"
