"""`rqd start`: the daemon."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypedDict

import click

from rqd.cli.completing import complete_queues
from rqd.cli.options import log_format_option, log_level_option, redis_options
from rqd.cli.settings import SettingsCommand, as_written, read_again
from rqd.model.call import DEFAULT_PAYLOAD_LIMIT_BYTES
from rqd.model.errors import ConfigurationError
from rqd.model.names import parse_duration_s, parse_size_bytes
from rqd.model.resources import limits_of
from rqd.store.signing_keys import FILE_VARIABLE, KEY_VARIABLE, keyring_of
from rqd.store.urls import default_namespace, default_url

if TYPE_CHECKING:
    from rqd.daemon.config import Config, LogSettings
    from rqd.model.signing import Keyring

MIB = 1024 * 1024
_WEIGHTED = re.compile(r"(.+):(\d{1,4})\Z", re.ASCII)


# Options in scripts that start RQ's workers.
_OF_RQ = {
    "-b": "write --burst",
    "-c": "write --config FILE, in TOML, or variables such as RQD_QUEUES",
    "-n": "write --name",
    "-v": "write --log-level debug",
    "--dequeue-strategy": "write --precedence",
    "--logging_level": "write --log-level",
    "--results-ttl": "write result_ttl= at the enqueue",
    "--serializer": "leave it out, each job has its serializer",
    "--with-scheduler": "leave it out, every daemon starts jobs at their time",
    "--worker-class": "write --middleware to wrap each job",
}


class _StartCommand(SettingsCommand):
    """The command `rqd start`; its errors for RQ's options name rqd's."""

    allow_extra_args = True

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parses like click. Raises UsageError for any argument, and for RQ's options."""
        try:
            rest = super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if (advice := _OF_RQ.get(error.option_name)) is None:
                raise
            raise click.UsageError(f"RQ's {error.option_name}: {advice}", ctx) from error
        if ctx.args and not ctx.resilient_parsing:
            raise click.UsageError(f"queues are an option: --queues {','.join(ctx.args)}", ctx)
        return rest


@click.command(name="start", cls=_StartCommand)
@redis_options
@click.option(
    "--queues",
    "-q",
    default="default",
    show_default=True,
    shell_complete=complete_queues,
    help="Queues in precedence: a,b, or a:5,b:1.",
)
@click.option(
    "--precedence",
    type=click.Choice(["strict", "round-robin", "random", "weighted"]),
    metavar="ORDER",
    help="Order of queues: strict, round-robin, random or weighted."
    "  [default: strict; with weights, weighted]",
)
@click.option(
    "--workers", "-w", type=int, default=4, show_default=True, help="Number of jobs at a time."
)
@click.option(
    "--preload",
    multiple=True,
    metavar="MODULE,..",
    help="Import these modules before the first fork.",
)
@click.option(
    "--preload-learn/--no-preload-learn",
    default=True,
    show_default=True,
    help="Preload modules that jobs were seen to import.",
)
@click.option("--preload-hint", multiple=True, hidden=True)  # Worker's: what its caller has
@click.option(
    "--jobs-per-child",
    type=int,
    default=1,
    show_default=True,
    help="Number of jobs a process may run.",
)
@click.option(
    "--grace",
    default="30",
    show_default=True,
    metavar="TIME",
    help="Time for jobs to finish at a stop: 30, 5m.",
)
@click.option("--burst", is_flag=True, help="Exit when the queues are empty.")
@click.option("--max-jobs", type=int, help="Exit after so many jobs.")
@click.option("--max-idle", metavar="TIME", help="Exit when no job has run for this time: 30, 5m.")
@click.option("--path", "-P", multiple=True, help="Import path of jobs.  [default: this folder]")
@click.option(
    "--middleware",
    multiple=True,
    metavar="NAME,..",
    help="Wrap each job in these functions, in this order: app.timed",
)
@click.option(
    "--exception-handler",
    multiple=True,
    metavar="NAME,..",
    help="Call these functions with a job's exception.",
)
@click.option("--require-signed", is_flag=True, help="Refuse jobs without a signature of our keys.")
@click.option(
    "--allow", multiple=True, metavar="PATTERN,..", help="Allow only these functions: shop.tasks.*"
)
@click.option("--serializers", metavar="NAME,..", help="Allow only these serializers: json.")
@click.option(
    "--payload-limit",
    default=f"{DEFAULT_PAYLOAD_LIMIT_BYTES // MIB}M",
    show_default=True,
    metavar="SIZE",
    help="Refuse jobs with larger arguments: bytes, 64K, 16M.",
)
@click.option(
    "--max-memory", metavar="SIZE", help="Kill jobs with more memory of their own: 512M, 2G."
)
@click.option("--max-cpu", metavar="TIME", help="End jobs after this much cpu time: 60, 5m.")
@click.option("--max-files", type=int, help="Number of files a job's process may have open.")
@click.option(
    "--max-pids", type=int, help="Number of processes and threads of a job; needs cgroups."
)
@click.option(
    "--nice", type=int, default=0, help="Niceness of jobs: 1 to 19 gives way to other processes."
)
@click.option("--autoreload", is_flag=True, help="Reload when code changes: for development.")
@click.option("--cron", metavar="FILE", help="Load cron entries from this TOML file first.")
@click.option(
    "--user", metavar="NAME[:GROUP]", help="Continue as this user, after a start as root."
)
@click.option("--name", metavar="NAME", help="Name of the master.  [default: host and number]")
@log_format_option
@log_level_option
@click.option("--quiet", is_flag=True, help="Log warnings and errors only.")
@click.option("--log-file", metavar="FILE", help="Log to this file; SIGHUP opens it again.")
@click.option(
    "--job-output",
    type=click.Choice(["plain", "prefix", "none"]),
    default="plain",
    show_default=True,
    metavar="HOW",
    help="Log the output of jobs: plain, prefix (with the job's id), none.",
)
def command(**settings: Any) -> int:
    """Run jobs from the queues until a signal or rqd stop.

    SIGTERM or Ctrl-C stops gracefully, SIGQUIT or a second Ctrl-C at once. SIGUSR1 kills the
    running jobs and puts them back. SIGUSR2 or Ctrl-Z pauses, SIGCONT resumes. SIGTTIN adds a
    worker, SIGTTOU removes a worker. SIGHUP loads code and settings again, and reopens the log.

    Each option is a setting, too: RQD_JOBS_PER_CHILD in the environment, jobs-per-child in
    rqd.toml. `rqd config` shows the settings in force. Signing keys come from RQD_SIGNING_KEY, or
    RQD_SIGNING_KEY_FILE.
    """
    # Late: the other commands don't need the daemon's modules, which take over signals.
    from rqd.daemon.autoreload import check_can_watch  # noqa: PLC0415 - see above
    from rqd.daemon.host.process_limits import (  # noqa: PLC0415 - see above
        drop_to,
        find_account,
        open_standard_files,
    )
    from rqd.daemon.master import run  # noqa: PLC0415 - see above

    open_standard_files()
    keyring = keyring_of(os.environ)
    # Not for child processes: the processes that may have the keys get them in another way.
    os.environ.pop(KEY_VARIABLE, None)
    os.environ.pop(FILE_VARIABLE, None)
    if settings["user"] is not None:
        # A file of keys may be root's; all else is done as this user.
        drop_to(find_account(settings["user"]))
    context = click.get_current_context()

    def reread() -> Config:
        with as_written(context):
            return config_of(read_again(context), keyring)

    config = config_of(settings, keyring)
    if config.autoreload:
        check_can_watch()
    return run(config, reread)


def config_of(settings: Mapping[str, Any], keyring: Keyring | None) -> Config:
    """Makes a Config of click's options of `rqd start`. Raises ConfigurationError."""
    from rqd.daemon.config import Config  # noqa: PLC0415 - as in `command`

    serializers = settings["serializers"]
    url, namespace = settings["url"] or default_url(), settings["namespace"] or default_namespace()
    return Config(
        url=url,
        namespace=namespace,
        workers=settings["workers"],
        preload=_all(settings["preload"]),
        preload_learn=settings["preload_learn"],
        preload_hints=_all(settings["preload_hint"]),
        jobs_per_child=settings["jobs_per_child"],
        grace_s=parse_duration_s(settings["grace"], "--grace") or 0.0,
        burst=settings["burst"],
        max_jobs=settings["max_jobs"],
        max_idle_s=parse_duration_s(settings["max_idle"], "--max-idle"),
        path=settings["path"] or (".",),
        name=settings["name"],
        user=settings["user"],
        keyring=keyring,
        require_signed=settings["require_signed"],
        allow=_all_of("--allow", settings["allow"]),
        serializers=_all_of("--serializers", () if serializers is None else (serializers,)),
        payload_limit_bytes=parse_size_bytes(settings["payload_limit"], "--payload-limit"),
        middleware=_all(settings["middleware"]),
        exception_handlers=_all(settings["exception_handler"]),
        log=_log_settings(settings),
        limits=limits_of(settings["max_memory"], settings["max_cpu"]),
        max_files=settings["max_files"],
        max_pids=settings["max_pids"],
        nice=settings["nice"],
        autoreload=settings["autoreload"],
        **read_order(_split(settings["queues"]), settings["precedence"]),
        **_cron_entries(settings["cron"], url, namespace, keyring),
    )


def _log_settings(settings: Mapping[str, Any]) -> LogSettings:
    from rqd.daemon.config import LogSettings  # noqa: PLC0415 - as in `command`

    level = settings["log_level"]
    if settings["quiet"] and level in ("debug", "info"):
        level = "warning"
    return LogSettings(
        settings["log_format"], level, settings["log_file"] or None, settings["job_output"]
    )


def _cron_entries(
    path: str | None, url: str, namespace: str, keyring: Keyring | None
) -> dict[str, Any]:
    """Reads the entries of a daemon's file, signed. Nothing is written or connected yet."""
    if path is None:
        return {}
    from rqd.client.connection import Backend  # noqa: PLC0415 - few daemons are given such a file
    from rqd.client.cron import read_file, source_of  # noqa: PLC0415 - as above
    from rqd.store.connection import client_connection  # noqa: PLC0415 - as above
    from rqd.store.store import Store  # noqa: PLC0415 - as above

    there = Backend(Store(client_connection(url), namespace), url, keyring)
    try:
        return {"crons": tuple(read_file(path, there)), "cron_source": source_of(path)}
    except ConfigurationError as error:
        raise ConfigurationError(f"--cron {error}") from error


def _all_of(option: str, given: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the names given. Raises ConfigurationError for an option without a name.

    A restricting option that names nothing must not allow everything.
    """
    found = _all(given)
    if given and not found:
        raise ConfigurationError(f"{option} is empty: write at least one name, or leave it out")
    return found


def _all(given: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for names in given for name in _split(names))


def _split(names: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in names.split(",") if name.strip())


class Order(TypedDict):
    """The fields of a daemon's Config about its queues."""

    queues: tuple[str, ...]
    precedence: str
    weights: tuple[int, ...]


def read_order(names: tuple[str, ...], precedence: str | None) -> Order:
    """Separates the queues from their weights, if `precedence` is weighted or None.

    A queue without a weight among weighted queues weighs 1. Raises ConfigurationError.
    """
    found = [_WEIGHTED.match(name) for name in names]
    if precedence not in (None, "weighted") or (precedence is None and not any(found)):
        return {"queues": names, "precedence": precedence or "strict", "weights": ()}
    if not any(found):
        raise ConfigurationError("--precedence weighted needs weights: --queues high:5,low:1")
    return {
        "queues": tuple(
            match[1] if match else name for name, match in zip(names, found, strict=True)
        ),
        "precedence": "weighted",
        "weights": tuple(int(match[2]) if match else 1 for match in found),
    }
