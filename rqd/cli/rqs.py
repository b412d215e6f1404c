"""RQ's commands under RQ's names, for scripts that were written for it; hidden from the help.

Each is another command in RQ's words. The application's code is not imported here, so that classes
are told by their names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import Any

import click

from rqd.cli.bulk import retry
from rqd.cli.grammar import Command
from rqd.cli.options import backend, redis_options
from rqd.cli.output import say
from rqd.cli.start import command as start
from rqd.client.queue import Queue
from rqd.model.errors import ConfigurationError

_A_WORKER = re.compile(r".+:\d+\Z", re.ASCII)
_PRECEDENCES = {"default": "strict", "round_robin": "round-robin", "random": "random"}
_WORKER_CLASSES = frozenset(
    f"{package}{path}{name}"
    for package in ("rq.", "rqd.")
    for path in ("", "worker.")
    for name in ("Worker", "SimpleWorker")
)
_JOB_CLASSES = frozenset({"rq.job.Job", "rqd.job.Job", "rqd.Job"})
# RQ's options whose effect rqd has without them.
_WITHOUT_MEANING = (
    *("--serializer,-S", "--queue-class", "--log-format", "--date-format", "--worker-ttl"),
    *("--maintenance-interval", "--job-monitoring-interval", "--logging-level"),
)
_FLAGS_WITHOUT_MEANING = ("--with-scheduler,-s", "--disable-job-desc-logging")
_RECORDED = "leave it out: a failure is recorded whatever --exception-handler says"
_REFUSED = {
    "-c": "write --config FILE, in TOML, or variables such as RQD_QUEUES",
    "-d": _RECORDED,
    "--disable-default-exception-handler": _RECORDED,
    "--results-ttl": "write result_ttl= at the enqueue",
    "--json": "rqd workers --json lists the workers",
}


class _RqsCommand(Command):
    """A command of RQ's; the errors for options that it has not say what to write."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parses like click. Raises UsageError, with advice about RQ's options."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if (advice := _REFUSED.get(error.option_name)) is None:
                raise
            raise click.UsageError(f"{error.option_name}: {advice}", ctx) from error


def _worker_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that RQ's `worker` and `worker-pool` share."""
    for names in _WITHOUT_MEANING:
        command = click.option(*names.split(","), expose_value=False, help="No effect.")(command)
    for names in _FLAGS_WITHOUT_MEANING:
        command = click.option(
            *names.split(","), is_flag=True, expose_value=False, help="No effect."
        )(command)
    for option in (
        click.option("--burst", "-b", is_flag=True, help="Exit when the queues are empty."),
        click.option("--verbose", "-v", is_flag=True, help="Log everything."),
        click.option("--quiet", "-q", is_flag=True, help="Log warnings and errors only."),
        click.option("--path", "-P", multiple=True, help="Import path of jobs."),
        click.option("--exception-handler", multiple=True, help="Call with a job's exception."),
        click.option("--worker-class", "-w", help="rqd.Worker or rqd.worker.SimpleWorker."),
        click.option("--job-class", "-j", help="rqd.job.Job."),
        click.option("--dequeue-strategy", "-ds", default="default", help="Order of queues."),
        click.option("--max-jobs", type=int, help="Exit after so many jobs."),
        click.option("--max-idle-time", help="Exit when no job has run for so many seconds."),
        click.option("--pid", metavar="FILE", help="Write the process id to this file."),
        click.argument("queues", nargs=-1),
    ):
        command = option(command)
    return command


@click.command(name="worker", cls=_RqsCommand, hidden=True)
@redis_options
@click.option("--name", "-n", help="Name of the master.")
@_worker_options
def worker(name: str | None, **given: Any) -> Any:
    """Run jobs, one at a time: `rqd start --workers 1`; `rqd workers` lists workers."""
    return _start(1, ["--name", name] if name else [], given)


@click.command(name="worker-pool", cls=_RqsCommand, hidden=True)
@redis_options
@click.option("--num-workers", "-n", type=int, default=1, help="Number of jobs at a time.")
@_worker_options
def worker_pool(num_workers: int, **given: Any) -> Any:
    """Run jobs: `rqd start --workers N`."""
    return _start(num_workers, [], given)


@click.command(name="requeue", cls=_RqsCommand, hidden=True)
@redis_options
@click.option("--queue", help="Queue of the jobs.")
@click.option("--all", "-a", "all_", is_flag=True, help="Choose all failed jobs of the queue.")
@click.option("--serializer", "-S", expose_value=False, help="No effect.")
@click.option("--job-class", "-j", expose_value=False, help="No effect.")
@click.argument("job_ids", nargs=-1)
def requeue(
    url: str | None,
    namespace: str | None,
    queue: str | None,
    all_: bool,
    job_ids: tuple[str, ...],
) -> Any:
    """Run failed jobs again: `rqd retry ID`, `rqd retry --queue NAME`."""
    chosen = ["--", *job_ids]
    if all_:
        chosen = ["--queue", queue] if queue else ["--all"]
    elif not job_ids:
        raise ConfigurationError("nothing to requeue: write ids, or --all with --queue NAME")
    return _other(retry, [*_redis(url, namespace), *chosen])


@click.command(name="empty", cls=_RqsCommand, hidden=True)
@redis_options
@click.option("--all", "-a", "all_", is_flag=True, help="Choose all queues.")
@click.option("--serializer", "-S", expose_value=False, help="No effect.")
@click.argument("queues", nargs=-1)
def empty(
    url: str | None,
    namespace: str | None,
    all_: bool,
    queues: tuple[str, ...],
) -> None:
    """Delete the waiting jobs of queues: `rqd queue empty NAME`."""
    with backend(url, namespace) as there:
        names = there.views.queue_names() if all_ else queues
        if not names:
            say("Nothing to do")
        for name in names:
            say(f"{name}: {Queue(name, there).empty()} jobs deleted")


def _start(workers: int, own: Sequence[str], given: dict[str, Any]) -> Any:
    queues = given["queues"] or ("default",)
    for name in queues:
        if _A_WORKER.match(name):
            raise ConfigurationError(f"rqd worker runs jobs: rqd workers {name} shows a worker")
    _check(given, "worker_class", _WORKER_CLASSES, "write --middleware to wrap each job")
    _check(given, "job_class", _JOB_CLASSES, "write functions that take a job")
    if (precedence := _PRECEDENCES.get(given["dequeue_strategy"])) is None:
        choices = ", ".join(_PRECEDENCES)
        raise ConfigurationError(
            f"--dequeue-strategy {given['dequeue_strategy']!r}: write {choices}"
        )
    if given["verbose"] and given["quiet"]:
        raise ConfigurationError("write either --verbose or --quiet")
    args = [*_redis(given["url"], given["namespace"]), *own, "--workers", str(workers)]
    args += ["--queues", ",".join(queues), "--precedence", precedence]
    args += ["--burst"] * given["burst"] + ["--quiet"] * given["quiet"]
    args += ["--log-level", "debug"] * given["verbose"]
    args += [word for one in given["path"] for word in ("--path", one)]
    args += [word for one in given["exception_handler"] for word in ("--exception-handler", one)]
    if given["max_jobs"] is not None:
        args += ["--max-jobs", str(given["max_jobs"])]
    if given["max_idle_time"] is not None:
        args += ["--max-idle", given["max_idle_time"]]
    if given["pid"]:
        _write_pid(given["pid"])
    return _other(start, args)


def _write_pid(path: str) -> None:
    try:
        with open(path, "w") as file:
            file.write(f"{os.getpid()}\n")
    except OSError as error:
        raise ConfigurationError(f"--pid {path} can't be written: {error.strerror}") from error


def _check(given: dict[str, Any], name: str, known: frozenset[str], instead: str) -> None:
    if given[name] is not None and given[name] not in known:
        raise ConfigurationError(f"--{name.replace('_', '-')} {given[name]}: {instead}")


def _redis(url: str | None, namespace: str | None) -> list[str]:
    found = ["--url", url] if url else []
    return found + (["--namespace", namespace] if namespace else [])


def _other(command: click.Command, args: list[str]) -> Any:
    """Runs another command; returns its status."""
    return command.main(args, prog_name=f"rqd {command.name}", standalone_mode=False)
