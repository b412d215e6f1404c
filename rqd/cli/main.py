"""The group of commands, and what becomes of an error."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from importlib import import_module
from typing import TextIO

import click

import rqd
from rqd.cli.near import NearGroup, NoSuchNameError
from rqd.cli.table import say
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
_COMMANDS = {
    "start": "start", "enqueue": "enqueue", "job": "job", "jobs": "jobs", "info": "info",
    "stop": "stop", "reload": "reload", "logs": "logs", "queue": "queue",
    "retry": "retry", "workers": "workers", "scale": "scale", "drain": "drain",
    "undrain": "undrain", "suspend": "suspend", "resume": "resume", "acl": "acl",
    "config": "config", "doctor": "doctor", "completion": "completion", "limits": "limits",
    "healthcheck": "healthcheck", "cron": "cron", "stack": "stack", "ps": "ps", "top": "top",
}  # fmt: skip
_ALSO = {"worker": "workers"}  # a habit of RQ's
_WITH_VALUE = ("-n", "--num-workers", "-u", "--url", "-c", "--config")  # of RQ's worker-pool


class LazyGroup(NearGroup):
    """Imports a command's module when it is asked for: `rqd start` needs nothing of `rqd info`."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        """All commands, in the order of their use."""
        return list(_COMMANDS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's
        cmd_name: str,
    ) -> click.Command | None:
        """The command, or None if there is none."""
        cmd_name = _ALSO.get(cmd_name, cmd_name)
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"rqd.cli.{_COMMANDS[cmd_name]}")
        return module.command  # type: ignore[no-any-return]  # each module's one click.Command

    def meant(self, name: str, rest: list[str]) -> str:
        """What to type instead of commands of RQ's, and of those that are gone."""
        after = list(zip(["", *rest], rest, strict=False))
        named = (one for option, one in after if one[:1] != "-" and option not in _WITH_VALUE)
        queues = ",".join(named) or "default"
        workers = next((one for option, one in after if option in _WITH_VALUE[:2]), "4")
        instead = {
            "worker-pool": f"rqd start --queues {queues} --workers {workers}",
            "requeue": "rqd retry ID, or rqd retry --all",
            "empty": f"rqd queue {queues} empty",
            "upgrade": "rqd reload for new application code; a new rqd comes by a restart with"
            " --grace, or by a second unit beside (docs/deploying.md)",
        }.get(name)
        return f": write {instead}" if instead else ""


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
    # What is left at the end goes with the process: Python's last collections need not search it.
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
        hint = " (--help shows what there is)" if usage else ""
        # Click lists what may be chosen a line each.
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
    """The host's and Redis', looked for only when something was raised: few commands need redis-py,
    whose import takes longer than all the rest of them.
    """
    redis = sys.modules.get("redis")
    return (OSError, redis.RedisError) if redis else (OSError,)


def _open_closed_outputs() -> None:
    """Gives what was started without a standard output or error, by `>&-`, one that goes nowhere:
    a command does then what it does, and Redis' socket is not taken for it.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - until our end


def _leave(message: str, status: int) -> None:
    try:
        sys.stdout.flush()
    except OSError:
        _discard(sys.stdout)  # it may be what the message is about
    try:
        # Part of it may be what was typed, or Redis' words: it stays one line, and steers nothing.
        say(f"rqd: {message}", err=True)
    except OSError:
        _discard(sys.stderr)  # its disk is full, or its reader has left: the status says the same
    sys.exit(status)


def _discard(stream: TextIO) -> None:
    """Lets what the stream still holds go nowhere, or Python's last flush of it would fail, too:
    some versions exit with 120 then.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
