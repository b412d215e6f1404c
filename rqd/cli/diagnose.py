"""`rqd doctor`, `config` and `acl`: shows obstacles, settings, and the rights needed in Redis."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from shlex import quote
from typing import Any

import click
from click.core import ParameterSource

from rqd.cli.grammar import Command
from rqd.cli.options import as_json, backend, redis_options
from rqd.cli.output import duration, echo_table
from rqd.cli.pause import why_not_started
from rqd.cli.settings import (
    SettingsCommand,
    SettingsFile,
    file_in_force,
    key_of,
    options_of,
    variable_of,
)
from rqd.cli.start import command as start
from rqd.cli.start import config_of
from rqd.client.connection import Backend
from rqd.daemon.config import Config, zygote_path
from rqd.daemon.host.diagnostics import (
    examine_application,
    examine_host,
    examine_limits,
    examine_unit,
)
from rqd.model.diagnosis import Finding, Verdict
from rqd.model.errors import ConfigurationError, ServerUnavailableError
from rqd.model.words import counted
from rqd.store.connection import RedisError, answers_are_read
from rqd.store.diagnostics import examine_crons, examine_server
from rqd.store.embedded import is_embedded
from rqd.store.errors import is_lasting, is_refusal
from rqd.store.permissions import acl_lines
from rqd.store.queue_queries import QueueCounts
from rqd.store.signing_keys import keyring_of
from rqd.store.standing import causes_of, held_jobs, other_namespaces, silent_masters
from rqd.store.urls import default_namespace, default_url, hide_password

# States in which a master starts no further jobs than it already holds.
_TAKES_NONE = ("paused", "stopping")
_RESUMED_BY = {"suspended": "rqd resume --all", "paused": "rqd resume --master NAME"}
_MOST_NAMED = 5
_MOST_QUEUES = 20
# The number of next scheduled jobs of a queue that are searched for parked jobs.
_MOST_LOOKED_AT = 100
_PARKED = "parked: "


def _examine(as_json: bool, unit: str, **settings: Any) -> int:
    """Check whether Redis, host and application suit a daemon.

    It checks the systemd unit, too, and whether the waiting jobs of the namespace have daemons.
    Give it the options and settings of `rqd start`. It exits with 1 if a finding has failed.
    """
    config = config_of(settings, keyring_of(os.environ))
    findings = list(_findings(config, unit))
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        rows = [(one.verdict, one.what, one.seen, one.advice) for one in findings]
        echo_table("Findings", ("", "of", "seen", "to do"), rows, wraps=True)
    return int(any(finding.verdict is Verdict.FAILED for finding in findings))


doctor = SettingsCommand("doctor", callback=_examine, help=_examine.__doc__, params=[*start.params])
click.option("--unit", default="rqd.service", show_default=True, help="Name of the systemd unit.")(
    doctor
)
as_json(doctor)


def _findings(config: Config, unit: str) -> Iterator[Finding]:
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


@dataclass(frozen=True, slots=True)
class Standing:
    """The state of a namespace.

    `parked` counts the parked jobs by cause. `held` counts the jobs that masters hold, dead masters
    included. `silent` has the dead masters that no live master has cleaned up yet.
    """

    masters: Sequence[Mapping[str, str]] = ()
    silent: Sequence[str] = ()
    queues: Sequence[QueueCounts] = ()
    paused: Mapping[str, int | None] = field(default_factory=dict)
    held: int = 0
    crons: int = 0
    parked: Mapping[str, int] = field(default_factory=dict)
    others: Sequence[str] = ()

    @property
    def waiting(self) -> list[QueueCounts]:
        """The queues with ready jobs."""
        return [queue for queue in self.queues if queue.ready]


def examine_work(there: Backend, config: Config) -> list[Finding]:
    """Returns obstacles to the namespace's jobs, and to the cron entries of this configuration.

    Raises redis-py's errors of a lost server.
    """
    try:
        crons = examine_crons(there.store, config.crons, config.cron_source)
        return [*judge_work(_standing(there)), *crons]
    except RedisError as error:
        if not is_refusal(error) and not is_lasting(error):
            raise
        advice = "this user has to be allowed to read it (rqd acl), and it has to be rqd's alone"
        return [Finding("work", Verdict.WARNING, f"can't be read: {error}", advice)]


def judge_work(seen: Standing) -> Iterator[Finding]:
    """Yields the findings about a namespace in this state."""
    yield _judge_masters(seen)
    if seen.held and not seen.masters:
        who = f" ({_some(seen.silent)})" if seen.silent else ""
        count = f"{counted(seen.held, 'job')} held by daemons that are gone{who}"
        advice = "start a daemon of this namespace, and they run again: rqd start"
        yield Finding("held jobs", Verdict.WARNING, count, advice)
    troubles = [found for queue in seen.waiting if (found := _judge_queue(queue, seen)) is not None]
    yield from troubles[:_MOST_QUEUES]
    if more := troubles[_MOST_QUEUES:]:
        verdicts = {one.verdict for one in more}
        worst = Verdict.FAILED if Verdict.FAILED in verdicts else Verdict.WARNING
        yield Finding("queues", worst, f"{len(more):,} more queues wait", "rqd info shows them")
    if seen.waiting and not troubles:
        ready = counted(sum(queue.ready for queue in seen.waiting), "ready job")
        yield Finding("queues", Verdict.OK, f"{ready}, and daemons that run them")
    for cause, jobs in Counter(seen.parked).most_common(_MOST_NAMED):
        advice = "give the daemons that key, behind their own: RQD_SIGNING_KEY=own,that"
        yield Finding("parked jobs", Verdict.WARNING, f"{counted(jobs, 'job')} {cause}", advice)


def _judge_masters(seen: Standing) -> Finding:
    if seen.masters:
        named = _some([f"{row['name']} {row.get('state', '')}".strip() for row in seen.masters])
        states = {row.get("state", "") for row in seen.masters}
        if states <= _RESUMED_BY.keys():
            advice = "if jobs shall start: " + ", ".join(sorted(_RESUMED_BY[s] for s in states))
            state = f"{len(seen.masters)} alive, all paused: {named}"
            return Finding("daemons", Verdict.WARNING, state, advice)
        return Finding("daemons", Verdict.OK, f"{len(seen.masters)} alive: {named}")
    later = sum(queue.scheduled + queue.limited + queue.deferred for queue in seen.queues)
    queues = ",".join(queue.name for queue in seen.waiting) or "default"
    if seen.waiting or seen.held:
        jobs = sum(queue.ready for queue in seen.waiting) + seen.held
        state = f"no daemon is alive for {counted(jobs, 'job')}"
        return Finding(
            "daemons", Verdict.FAILED, state, f"start a daemon: rqd start --queues {quote(queues)}"
        )
    if later or seen.crons:
        state = f"no daemon is alive for {later} later jobs and {seen.crons} cron entries"
        return Finding("daemons", Verdict.WARNING, state, "start a daemon: rqd start")
    if seen.queues or seen.silent:
        return Finding("daemons", Verdict.OK, "no daemon is alive, and no job waits")
    advice = f"are the jobs elsewhere? there is namespace {_some(seen.others)}: --namespace"
    state = "no daemon runs here yet, and no queue had a job"
    return Finding("daemons", Verdict.OK, state, advice if seen.others else "")


def _judge_queue(queue: QueueCounts, seen: Standing) -> Finding | None:
    """Finds the cause that keeps this queue's ready jobs waiting; None if there is none."""
    what = f"queue {queue.name}"
    jobs = f"{counted(queue.ready, 'job')}, the first for {duration(queue.latency_s)}"
    serving = [row for row in seen.masters if queue.name in row.get("queues", "").split(",")]
    if not serving:
        advice = f"rqd start --queues {quote(queue.name)}"
        return Finding(what, Verdict.FAILED, f"no daemon serves it: {jobs}", advice)
    if held := why_not_started(queue.name, seen.paused):
        state, _, instead = held.partition(" (")
        advice = instead.removesuffix(")")
        return Finding(what, Verdict.WARNING, f"{state}: {queue.name} has {jobs}", advice)
    taking = [row for row in serving if row.get("state") not in _TAKES_NONE]
    if not taking:
        state = f"its daemons are paused or stop: {jobs}"
        return Finding(what, Verdict.WARNING, state, "`rqd resume --master NAME` ends a pause")
    if all(row.get("why_no_zygote") for row in taking):
        state = f"its daemons can start no job: {jobs}"
        return Finding(
            what, Verdict.FAILED, state, "rqd info shows the reason: mend it, then rqd reload"
        )
    return None


def _standing(there: Backend) -> Standing:
    views, redis, keys = there.views, there.store.redis, there.store.keys
    names = views.queue_names()
    masters, queues = views.masters(), views.queue_counts(names)
    is_empty = not names and not masters
    return Standing(
        masters,
        silent_masters(redis, keys),
        queues,
        views.paused(),
        held_jobs(redis, keys),
        len(views.cron_names()),
        _parked(there, names),
        other_namespaces(redis, keys) if is_empty else (),
    )


def _parked(there: Backend, queues: Sequence[str]) -> Counter[str]:
    """Counts, by cause, the parked jobs among the next scheduled jobs."""
    found: Counter[str] = Counter()
    for queue in queues:
        ids = there.views.index_ids(queue, "scheduled", 0, _MOST_LOOKED_AT - 1)
        causes = causes_of(there.store.redis, there.store.keys, ids)
        found.update(why.removeprefix(_PARKED) for why in causes if why.startswith(_PARKED))
    return found


def _some(names: Sequence[str]) -> str:
    more = f", and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


@click.pass_context
def _show_settings(context: click.Context, /, as_json: bool, **values: Any) -> None:
    """Show the settings of `rqd start`, with their sources.

    Give it options of `rqd start` to see their effect.
    """
    found = file_in_force(context)
    rows = []
    for option in options_of(start):
        name = option.name or ""
        rows.append((key_of(option), _value(name, values[name]), _source(context, option, found)))
    if as_json:
        shown_json = [dict(zip(("setting", "value", "from"), row, strict=True)) for row in rows]
        click.echo(json.dumps(shown_json, indent=2))
    else:
        shown = [(key, _text(value), source) for key, value, source in rows]
        echo_table("Settings", ("setting", "value", "from"), shown)


config = SettingsCommand(
    "config", callback=_show_settings, help=_show_settings.__doc__, params=[*start.params]
)
as_json(config)


def _value(name: str, value: Any) -> Any:
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


@click.command(name="acl", cls=Command)
@redis_options
@click.option("--user", default="rqd", show_default=True, help="Name of the Redis user.")
@click.option("--wait-replicas", is_flag=True, help="Add the command of enqueue's wait_replicas.")
@click.option(
    "--wait-aof", is_flag=True, help="Add the command of enqueue's wait_aof: Redis 7.2 and newer."
)
@click.option("--bridge", is_flag=True, help="Add the rights of rqd bridge rq, on RQ's keys.")
def acl(
    url: str | None,
    namespace: str | None,
    user: str,
    wait_replicas: bool,
    wait_aof: bool,
    bridge: bool,
) -> None:
    """Print the permissions a Redis user needs.

    It prints ACL SETUSER lines, with only the commands and keys that rqd needs. Nothing is sent to
    a server. Put a password in place of PASSWORD, and hand the lines to redis-cli.
    """
    if not user or not user.isprintable() or " " in user:
        raise ConfigurationError(f"--user {user!r}: write a name without spaces")
    waits = {"wait"} if wait_replicas else set()
    waits |= {"waitaof"} if wait_aof else set()
    chosen = namespace or default_namespace()
    for where, line in acl_lines(user, chosen, url or default_url(), waits, has_bridge=bridge):
        click.echo(f"# {where}:", err=True)
        click.echo(line)
