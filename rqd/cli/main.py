"""The group of commands, and the messages and exit codes of errors."""

from __future__ import annotations

import atexit
import gc
import os
import re
import sys
from importlib import import_module
from typing import TextIO

import click

import rqd
from rqd.cli.grammar import write_sections
from rqd.cli.output import say
from rqd.cli.suggest import NoSuchNameError, did_you_mean
from rqd.cli.variables import warn_of_slips
from rqd.model.errors import (
    ConfigurationError,
    InvalidCallError,
    MasterExistsError,
    NoSuchGroupError,
    NoSuchJobError,
    RqdError,
    ServerUnavailableError,
)
from rqd.model.words import has_colours

# sysexits.h
EX_USAGE, EX_DATAERR, EX_NOINPUT, EX_UNAVAILABLE = 64, 65, 66, 69
_STATUS: tuple[tuple[type[RqdError], int], ...] = (
    (ConfigurationError, EX_USAGE),
    (InvalidCallError, EX_DATAERR),
    (NoSuchJobError, EX_NOINPUT),
    (NoSuchGroupError, EX_NOINPUT),
    (NoSuchNameError, EX_NOINPUT),
    (ServerUnavailableError, EX_UNAVAILABLE),
    (MasterExistsError, EX_UNAVAILABLE),
    (RqdError, EX_UNAVAILABLE),
)
# The headings of `rqd --help`.
_SECTIONS = {
    "Run": ("start", "bridge"),
    "Look": (
        "info", "workers", "ps", "top", "jobs", "failures", "job", "queue", "history", "logs",
        "stack", "limits", "metrics", "web",
    ),
    "Act": (
        "enqueue", "retry", "cancel", "delete", "pause", "resume", "scale", "reload", "stop",
    ),
    "Schedules": ("cron",),
    "Set up": ("doctor", "healthcheck", "config", "acl", "api-token", "completion"),
}  # fmt: skip
_COMMANDS = [name for names in _SECTIONS.values() for name in names]
# The spellings before `rqd pause`: neither listed nor completed.
_FORMER = ("drain", "undrain", "suspend")
# RQ's names, for scripts: neither listed nor completed.
_OF_RQ = ("worker", "worker-pool", "requeue", "empty")
# Modules of several commands; each other command is the `command` of a module of its name.
_TOGETHER = {
    "activity": ("ps", "top"),
    "bulk": ("retry", "delete", "cancel"),
    "diagnose": ("doctor", "config", "acl"),
    "former": _FORMER,
    "jobs": ("jobs", "failures", "logs", "stack"),
    "pause": ("pause", "resume"),
    "queue": ("queue", "limits"),
    "rqs": _OF_RQ,
}
_MODULES = {name: module for module, names in _TOGETHER.items() for name in names}
# An id that rqd makes, or its beginning as lists show it.
_LIKE_AN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f-]*)?\Z")


class LazyGroup(click.Group):
    """Imports a command's module at its first use: `rqd start` needs nothing of `rqd info`."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        """Returns the commands in the order of help."""
        return list(_COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the commands under their headings, a line each."""
        room = formatter.width - 6 - max(map(len, _COMMANDS))
        sections = {}
        for heading, names in _SECTIONS.items():
            found = [(name, self.get_command(ctx, name)) for name in names]
            sections[heading] = [(name, one.get_short_help_str(room)) for name, one in found if one]
        write_sections(formatter, sections)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's
        cmd_name: str,
    ) -> click.Command | None:
        """Returns the command, or None if there is none."""
        if cmd_name not in (*_COMMANDS, *_FORMER, *_OF_RQ):
            return None
        name = cmd_name.replace("-", "_")
        module = import_module(f"rqd.cli.{_MODULES.get(cmd_name, name)}")
        found: click.Command = getattr(module, name if cmd_name in _MODULES else "command")
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the arguments' command. Raises UsageError, which names a similar command."""
        name = args[0]
        is_option = name.startswith("-")
        if not is_option and not ctx.resilient_parsing and self.get_command(ctx, name) is None:
            meant = self.meant(name) or did_you_mean(name, self.list_commands(ctx))
            meant = meant or _job_meant(name)
            raise click.UsageError(f"there is no command {name!r}{meant}", ctx)
        return super().resolve_command(ctx, args)

    def meant(self, name: str) -> str:
        """Returns the advice for a command of RQ's or a removed command; empty for others."""
        instead = {
            "shutdown": "rqd stop",
            "status": "rqd info",
            "list": "rqd jobs",
            "help": "rqd --help, or rqd COMMAND --help",
            "upgrade": "rqd reload for new application code; a new rqd comes by a restart with"
            " --grace, or by a second unit beside (docs/deploying.md)",
        }.get(name)
        return f": write {instead}" if instead else ""


def _job_meant(typed: str) -> str:
    """Returns the advice for a word that looks like a job's id, or is one; empty for others."""
    from rqd.cli.completing import is_job  # noqa: PLC0415 - loads redis-py, for a mistake only

    is_meant = _LIKE_AN_ID.match(typed) or is_job(typed)
    return f": did you mean rqd job {typed}?" if is_meant else ""


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(rqd.__version__, prog_name="rqd")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Job queues for Python on Redis, run by a forking supervisor daemon."""
    if not has_colours():
        ctx.color = False
    warn_of_slips()
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main() -> None:
    """Runs the command line and exits with a sysexits status; no traceback for a user's mistake."""
    # All objects go with the process: Python's last collections need not search them.
    atexit.register(gc.freeze)
    _open_closed_outputs()
    status: object = 0
    try:
        status = cli.main(prog_name="rqd", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Abort:
        _leave("interrupted", 130)
    except click.ClickException as error:
        usage = isinstance(error, click.UsageError)
        hint = " (--help shows the usage)" if usage else ""
        # Click lists the choices on a line each.
        _leave(error.format_message().replace("\n\t", " ") + hint, EX_USAGE)
    except RqdError as error:
        _leave(str(error), next(code for kind, code in _STATUS if isinstance(error, kind)))
    except BrokenPipeError:
        _discard(sys.stdout)  # the reader of our output has left, as head does
        sys.exit(1)
    except _errors_from_outside() as error:
        _leave(f"{type(error).__name__}: {error}", EX_UNAVAILABLE)
    except KeyboardInterrupt:
        _leave("interrupted", 130)
    sys.exit(status if isinstance(status, int) else 0)


def _errors_from_outside() -> tuple[type[Exception], ...]:
    """Returns the error classes of the host and of Redis. Called only after an error.

    Few commands need redis-py, whose import lasts longer than everything else that they do.
    """
    redis = sys.modules.get("redis")
    return (OSError, redis.RedisError) if redis else (OSError,)


def _open_closed_outputs() -> None:
    """Opens the null device for a standard output or error that was closed by `>&-`.

    So the command still works, and Redis' socket does not get the number of an output.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - until our end


def _leave(message: str, status: int) -> None:
    try:
        sys.stdout.flush()
    except OSError:
        _discard(sys.stdout)  # the message may be about this stream
    try:
        # It may quote arguments or Redis: it stays a single line, and steers no terminal.
        say(f"rqd: {message}", err=True)
    except OSError:
        _discard(sys.stderr)  # its disk is full, or its reader has left: the status says the same
    sys.exit(status)


def _discard(stream: TextIO) -> None:
    """Sends the stream's buffer to the null device, or Python's last flush would fail, too.

    Some versions exit with 120 then.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
