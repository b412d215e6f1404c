"""`rqd job ID` shows all that is known of a job; `rqd job stop ID` and others act on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

from rqd.cli.completing import complete_jobs
from rqd.cli.grammar import VerbGroup, verbs_too
from rqd.cli.masters import serving
from rqd.cli.options import as_json, backend, redis_options
from rqd.cli.output import echo_field, mebibytes, plain, say, with_unit
from rqd.cli.pause import state_of
from rqd.cli.suggest import whole_id
from rqd.client.control import DEFAULT_GRACE_S
from rqd.client.job import Job
from rqd.client.job_views import describe_attempt, describe_callback, describe_job
from rqd.model.errors import ConfigurationError, NoSuchJobError
from rqd.model.names import parse_duration_s
from rqd.model.outcome import signal_name

EX_STILL_RUNS = 1
# The longest time for the kill and the outcome's way to Redis.
_KILL_S = 10.0
_MOST_IDS = 5
# Tracebacks are cut when they are written.
_OUTPUT_LINES, _MOST_LINES = 20, 10_000


_ID = click.argument("job_id", metavar="ID", shell_complete=complete_jobs)


@click.group(name="job", cls=VerbGroup, noun="ID", default="show")
def command() -> None:
    """Show a job, or stop, cancel, requeue.. it.

    The beginning of an ID is enough if no other ID begins so.
    """


@command.command(name="show")
@redis_options
@as_json
@click.argument("job_id", metavar="ID", shell_complete=verbs_too(complete_jobs))
def show(url: str | None, namespace: str | None, as_json: bool, job_id: str) -> None:
    """Show a job's state and its attempts.

    Each attempt has its cause and traceback. Nothing of the job is unpickled: arguments and results
    show as the texts stored with them.
    """
    with backend(url, namespace) as there:
        job = Job.fetch(whole_id(job_id, there.views, only_to_look=True), there)
        results = job.results()
        position = job.get_position()
        callbacks = Job.fetch_many(job.callback_ids, there)
        fields = describe_job(job, position, there.views.paused())
        if fields["status"] == "queued":
            fields["served_by"] = serving(there, job.origin)
    fields["callbacks"] = [describe_callback(made) for made in callbacks if made is not None]
    fields |= {"attempts": [describe_attempt(r) for r in results]}
    if as_json:
        click.echo(json.dumps(fields, indent=2))
    else:
        _show(fields)


@command.command(name="stop")
@redis_options
@as_json
@click.option("--grace", metavar="TIME", help="Time from the exception to the kill.  [default: 5]")
@click.option("--no-wait", is_flag=True, help="Don't wait for the job's end.")
@_ID
def stop(grace: str | None, no_wait: bool, **common: Any) -> int:
    """Stop a running job: raise an exception in it, then kill it."""

    def do(job: Job[object]) -> str | None:
        grace_s = parse_duration_s(grace, "--grace")
        grace_s = DEFAULT_GRACE_S if grace_s is None else grace_s
        job.stop(grace_s)
        if not no_wait:
            job.latest_result(timeout=grace_s + _KILL_S)
        return "asked to stop" if _status(job) == "started" else None

    still_runs = _act(do, **common) == "started"
    return EX_STILL_RUNS if still_runs and not no_wait else 0


@command.command(name="cancel")
@redis_options
@as_json
@_ID
def cancel(**common: Any) -> None:
    """Cancel a waiting job."""
    _act(lambda job: job.cancel(), **common)


@command.command(name="extend")
@redis_options
@as_json
@click.option("--by", metavar="TIME", help="Time to add: 600, 10m.")
@_ID
def extend(by: str | None, **common: Any) -> None:
    """Extend a running job's time limit."""
    if by is None:
        raise ConfigurationError("extend needs --by, such as --by 10m")

    def do(job: Job[object]) -> str:
        job.extend(by)
        return f"extended by {with_unit(by)}"

    _act(do, **common)


@command.command(name="requeue")
@redis_options
@as_json
@click.option("--at-front", is_flag=True, help="Put the job before all waiting jobs.")
@_ID
def requeue(at_front: bool, **common: Any) -> None:
    """Run a failed, stopped or canceled job again."""

    def do(job: Job[object]) -> str:
        job.requeue(at_front)
        return "requeued"

    _act(do, **common)


@command.command(name="delete")
@redis_options
@as_json
@_ID
def delete(**common: Any) -> None:
    """Delete a job with all its records; kill it if it runs."""
    _act(lambda job: job.delete(), **common)


def _act(
    do: Callable[[Job[object]], str | None],
    url: str | None,
    namespace: str | None,
    as_json: bool,
    job_id: str,
) -> str:
    """Calls `do` with a job, and prints the words that it returns, or else the job's state.

    Returns the state after it. Raises as the job's method does.
    """
    with backend(url, namespace, signs=True) as there:
        job = Job.fetch(whole_id(job_id, there.views), there)
        was = str(job.get_status())
        words = do(job)
        status = _status(job)
    if as_json:
        click.echo(json.dumps({"id": job.id, "was": was, "status": status}, indent=2))
    else:
        say(f"{job.id}: {words or status}")
    return status


def _status(job: Job[object]) -> str:
    try:
        return str(job.get_status())
    except NoSuchJobError:
        return "deleted"


def _show(fields: dict[str, Any]) -> None:
    for name, value in (fields | _way_back(fields)).items():
        if name == "callbacks":
            for made in value:
                echo_field("callback", f"{made['status']}  {made['id']}  {made['description']}")
        elif name == "served_by" and value == []:
            echo_field(name, f"no master (rqd start --queues {fields['queue']})")
        elif name not in ("attempts", "paused", "paused_until") and value not in (None, "", []):
            held = f" ({state_of(fields)})" if name == "queue" and fields["paused"] else ""
            echo_field(name, _in_words(name, value) + held)
    for attempt in reversed(fields["attempts"]):
        _echo_attempt(attempt)


def _way_back(fields: dict[str, Any]) -> dict[str, str | None]:
    """Describes for people how it got back to its queue without an attempt charged to it."""
    back = f"uncharged, from {fields['worker']}" if fields["put_back"] else None
    lost = f"{fields['losses']} in a row with the process that ran it; a third fails it"
    return {"put_back": back, "losses": lost if fields["losses"] else None}


def _echo_attempt(attempt: dict[str, Any]) -> None:
    click.echo()
    click.secho(f"attempt {attempt['attempt']}: {attempt['type']}, {attempt['ended']}", bold=True)
    shown = {
        "cause": attempt["cause"],
        "result": attempt.get("result"),
        "ran": _duration(attempt.get("wall_s")),
        "cpu": _duration(attempt.get("cpu_s")),
        "peak memory": _own_memory(attempt.get("peak_memory_bytes")),
        "died by": _death(attempt),
        "pid": _process(attempt),
    }
    for name, value in shown.items():
        if value not in (None, ""):
            echo_field(name, str(value), "  ")
    for name, most in (
        ("traceback", _MOST_LINES),
        ("stack", _MOST_LINES),
        ("output", _OUTPUT_LINES),
    ):
        if attempt[name]:
            lines = plain(attempt[name]).splitlines()
            note = f" the last {most} of {len(lines):,} lines, `rqd logs` shows all"
            click.echo(f"  {name}:{note if len(lines) > most else ''}")
            click.echo("".join(f"    {line}".rstrip() + "\n" for line in lines[-most:]), nl=False)


def _death(attempt: dict[str, Any]) -> str | None:
    """Describes the death of its process: the signal and its sender, or the exit status."""
    if not (number := attempt.get("signal")):
        return f"exit status {attempt['exit_status']}" if "exit_status" in attempt else None
    core = ", core dumped" if attempt.get("core_dumped") else ""
    return f"{signal_name(number)}{core}; {_sender(attempt.get('sent_by'))}"


def _sender(sent_by: str | None) -> str:
    return f"sent by: {sent_by}" if sent_by else "not sent by rqd"


def _process(attempt: dict[str, Any]) -> str | None:
    """Formats its process as `4711 on web1, zygote 2`; zygotes are numbered in each daemon."""
    if "pid" not in attempt:
        return None
    host = f" on {attempt['host']}" if attempt.get("host") else ""
    zygote = f", zygote {attempt['zygote']}" if attempt.get("zygote") else ""
    return f"{attempt['pid']}{host}{zygote}"


def _in_words(name: str, value: Any) -> str:
    if isinstance(value, list):
        more = [f"and {len(value) - _MOST_IDS:,} more"] if len(value) > _MOST_IDS else []
        return ", ".join([*value[:_MOST_IDS], *more])
    return _progress_in_words(value) if name == "progress" else str(value)


def _progress_in_words(progress: dict[str, Any]) -> str:
    share = f"{progress['fraction']:.0%} {progress['message']}".rstrip()
    return f"{share}, {progress['updated']}"


def _duration(duration_s: float | None) -> str | None:
    if duration_s is None:
        return None
    return f"{duration_s * 1000:.1f} ms" if duration_s < 1 else f"{duration_s:,.1f} s"


def _own_memory(size_bytes: int | None) -> str | None:
    if size_bytes is None:
        return None
    return f"{mebibytes(size_bytes):,} MiB of its own, without pages shared with the zygote"
