"""Examines a server and its cron entries for `rqd doctor`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import redis

from rqd.model.diagnosis import Finding, Verdict, judged
from rqd.model.errors import RqdError
from rqd.model.numbers import instant
from rqd.store.crons import Crons
from rqd.store.keys import Keys
from rqd.store.permissions import check_permissions
from rqd.store.queries import Queries
from rqd.store.server_check import check_server
from rqd.store.store import Store

if TYPE_CHECKING:
    from rqd.model.cron import CronEntry, CronRecord


_PINGS = 20
_SLOW_MS = 5.0
_CLOCK_S = 1.0
_FULL_SHARE = 0.8


def examine_server(connection: redis.Redis, keys: Keys) -> list[Finding]:
    """Checks the server, its settings and our rights there.

    Raises redis-py's errors where it can't be reached.
    """
    findings = [_latency(connection), _clock(connection)]
    try:
        info: dict[str, Any] = connection.info()
    except redis.exceptions.NoPermissionError:
        advice = "allow INFO to this user to have it examined"
        findings.append(Finding("redis", Verdict.WARNING, "it may not be asked", advice))
        return [*findings, *_rights(connection, keys)]
    return [
        _version(connection, info),
        *findings,
        _persistence(info),
        _eviction(info),
        *_memory(info),
        *_replication(info),
        *_rights(connection, keys),
    ]


def _version(connection: redis.Redis, info: dict[str, Any]) -> Finding:
    name = "Valkey" if "valkey_version" in info else "Redis"
    seen = f"{name} {info.get('valkey_version') or info.get('redis_version')}"
    try:
        check_server(connection)
    except RqdError as error:
        return Finding("redis version", Verdict.FAILED, seen, str(error))
    return Finding("redis version", Verdict.OK, seen)


def _latency(connection: redis.Redis) -> Finding:
    taken_ms = []
    for _ in range(_PINGS):
        begun = time.perf_counter()
        connection.time()
        taken_ms.append((time.perf_counter() - begun) * 1000)
    median_ms = statistics.median(taken_ms)
    seen = f"{median_ms:.2f} ms, {max(taken_ms):.1f} ms at most"
    advice = "every job waits for two such round trips: bring daemon and Redis nearer"
    return judged("redis latency", seen, fine=median_ms < _SLOW_MS, advice=advice)


def _clock(connection: redis.Redis) -> Finding:
    before = time.time()
    seconds_and_us: Any = connection.time()
    ahead_s = seconds_and_us[0] + seconds_and_us[1] / 1e6 - (before + time.time()) / 2
    seen = f"{abs(ahead_s):.2f} s {'ahead of' if ahead_s > 0 else 'behind'} this host"
    advice = (
        "due times go by Redis' clock, logs by the host's: run chrony or systemd-timesyncd on both"
    )
    return judged("redis clock", seen, fine=abs(ahead_s) < _CLOCK_S, advice=advice)


def _persistence(info: dict[str, Any]) -> Finding:
    what = "redis persistence"
    if not info.get("aof_enabled"):
        advice = "unsaved jobs are lost when it dies: CONFIG SET appendonly yes"
        return Finding(what, Verdict.WARNING, "no append-only file", advice)
    if info.get("aof_last_write_status") != "ok":
        advice = "it can't write its append-only file: see its log, and its disk"
        return Finding(what, Verdict.FAILED, "writing fails", advice)
    return Finding(what, Verdict.OK, "append-only file")


def _eviction(info: dict[str, Any]) -> Finding:
    policy = str(info.get("maxmemory_policy", "noeviction"))
    advice = "jobs would be dropped when memory is full: CONFIG SET maxmemory-policy noeviction"
    return judged("redis eviction", policy, fine=policy == "noeviction", advice=advice)


def _memory(info: dict[str, Any]) -> list[Finding]:
    limit, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    if not limit:
        return []
    seen = f"{used / 2**20:,.0f} of {limit / 2**20:,.0f} MiB"
    advice = "when it is full no job can be enqueued, and outcomes wait: raise maxmemory"
    return [judged("redis memory", seen, fine=used < _FULL_SHARE * limit, advice=advice)]


def _replication(info: dict[str, Any]) -> list[Finding]:
    if info.get("role") == "slave":
        advice = "nothing can be written there: name the primary, or use redis+sentinel://"
        return [Finding("redis role", Verdict.FAILED, "replica", advice)]
    replicas = int(info.get("connected_slaves", 0))
    if not replicas:
        return []
    is_bound = "min_slaves_good_slaves" in info  # there if min-replicas-to-write is set
    seen = f"{replicas} connected, min-replicas-to-write {'is' if is_bound else 'not'} set"
    advice = "a primary that is cut off accepts jobs, and loses them: min-replicas-to-write 1"
    return [judged("redis replicas", seen, fine=is_bound, advice=advice)]


def _rights(connection: redis.Redis, keys: Keys) -> list[Finding]:
    try:
        check_permissions(connection, keys)
    except RqdError as error:
        return [Finding("redis permissions", Verdict.FAILED, "some are missing", str(error))]
    return [Finding("redis permissions", Verdict.OK, "all that the scripts need")]


# A running master makes a run within a second; a master that was just lost is noticed by then.
_OVERDUE_US = 60_000_000


def examine_crons(store: Store, entries: Sequence[CronEntry], source: str) -> Iterator[Finding]:
    """Finds the reasons that keep cron entries from running.

    `entries` are the entries of the file `source`, which is empty for no file. Raises redis-py's
    errors where Redis can't be reached.
    """
    records, views = Crons(store).all(), Queries(store)
    if source:
        yield _judge_file(entries, {record.name for record in records})
    if broken := [f"{record.name}: {record.error}" for record in records if record.error]:
        yield _warn("cron broken", broken, "write its schedule again: rqd cron add, or load")
    waiting = [record for record in records if record.next_us is not None]
    since_us = views.now_us() - _OVERDUE_US
    if overdue := [_late(one) for one in waiting if (one.next_us or 0) < since_us]:
        advice = "check that a daemon runs (rqd info), and read its log"
        yield _warn("cron overdue", overdue, advice)
    served = {queue for row in views.masters() for queue in row.get("queues", "").split(",")}
    if unserved := [one for one in waiting if one.queue not in served]:
        seen = [f"no daemon serves {one.queue}, for {one.name}" for one in unserved]
        queues = ",".join(sorted({one.queue for one in unserved}))
        yield _warn("cron queues", seen, f"their runs wait: rqd start --queues {queues}")


def _judge_file(entries: Sequence[CronEntry], there: set[str]) -> Finding:
    missing = [entry.name for entry in entries if entry.name not in there]
    if not missing:
        return Finding("cron file", Verdict.OK, "its entries are all in Redis")
    advice = "rqd cron load loads it at once; so does a start, and rqd reload"
    return _warn("cron file", [f"not in Redis: {', '.join(missing)}"], advice)


def _late(record: CronRecord) -> str:
    return f"{record.name}, due {instant(record.next_us or 0):%Y-%m-%d %H:%M:%SZ}"


def _warn(what: str, seen: Sequence[str], advice: str) -> Finding:
    return Finding(what, Verdict.WARNING, "; ".join(seen), advice)
