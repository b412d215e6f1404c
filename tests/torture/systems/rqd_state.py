"""rqd's keys after a campaign: each job as it stands, and each key that nothing leads to."""

from __future__ import annotations

import pickle
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import redis

from tests.torture.history import Event

_BATCH = 500
_TERMINAL_KINDS = ("successful", "failed", "stopped")
_JOB_FIELDS = (
    "status", "origin", "attempt", "settled", "cause", "worker", "ended_at", "losses", "lease",
    "callbacks", "progress",
)  # fmt: skip
_INDEXES = (
    "started", "scheduled", "deferred", "limited", "finished", "failed", "canceled",
)  # fmt: skip
_WHERE = {"queued": "ready", "stopped": "failed"}
_PLAIN_KEYS = {
    "queues", "nonempty", "scheduled", "leases", "counters", "masters", "groups", "limits",
    "bridge:rq",
}  # fmt: skip


@dataclass
class _Indexes:
    """What leads to jobs, queues and masters."""

    queues: set[str] = field(default_factory=set)
    masters: set[str] = field(default_factory=set)
    jobs: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


def final_state(client: redis.Redis, prefix: str) -> Iterator[Event]:
    """`job` events for all jobs, `stray` for keys nothing leads to, `miscount` for counters."""
    names: Any = client.scan_iter(count=5000)
    keys = sorted(name.decode() for name in names)
    indexes = _read_indexes(client, prefix)
    yield from _leases_left(client, prefix)
    yield from _counters(client, prefix, indexes)
    job_ids = [k.removeprefix(f"{prefix}job:") for k in keys if _is_job(k, prefix)]
    for start in range(0, len(job_ids), _BATCH):
        yield from _jobs(client, prefix, job_ids[start : start + _BATCH], indexes)
    known = set(job_ids)
    others = [key for key in keys if not _is_job(key, prefix)]
    for start in range(0, len(others), _BATCH):
        part = others[start : start + _BATCH]
        pipe = client.pipeline(transaction=False)
        for key in part:
            pipe.pttl(key)
        for key, ttl_ms in zip(part, pipe.execute(), strict=True):
            if why := _stray(key, prefix, ttl_ms, known, indexes):
                yield {"ev": "stray", "key": key, "why": why}
    for job_id, where in indexes.jobs.items():
        if job_id not in known:
            yield {"ev": "stray", "key": job_id, "why": f"in {', '.join(where)} and no job"}


def _is_job(key: str, prefix: str) -> bool:
    return key.startswith(f"{prefix}job:") and key.count(":") == 2


def _read_indexes(client: redis.Redis, prefix: str) -> _Indexes:
    found = _Indexes()
    members: Any = client.smembers(f"{prefix}queues")
    found.queues = {name.decode() for name in members}
    masters: Any = client.zrange(f"{prefix}masters", 0, -1)
    found.masters = {name.decode() for name in masters}
    for queue in found.queues:
        for index in ("ready", *_INDEXES):
            key = f"{prefix}queue:{queue}" + ("" if index == "ready" else f":{index}")
            ids: Any = client.zrange(key, 0, -1)
            for job_id in ids:
                found.jobs[job_id.decode()].append(f"{queue}:{index}")
    return found


def _leases_left(client: redis.Redis, prefix: str) -> Iterator[Event]:
    for index in ("leases", "scheduled"):
        ids: Any = client.zrange(f"{prefix}{index}", 0, -1)
        for job_id in ids:
            yield {"ev": "stray", "key": job_id.decode(), "why": f"left in {index}"}


def _counters(client: redis.Redis, prefix: str, indexes: _Indexes) -> Iterator[Event]:
    for queue in sorted(indexes.queues):
        counted: Any = client.hgetall(f"{prefix}stats:{queue}")
        for status in (b"finished", b"failed"):
            held: Any = client.zcard(f"{prefix}queue:{queue}:{status.decode()}")
            told = int(counted.get(status, 0))
            if status == b"failed":  # the index has the stopped ones, too
                told += int(counted.get(b"stopped", 0))
            if told != held:
                what = f"{told} counted as {status.decode()}, {held} in the index"
                yield {"ev": "miscount", "queue": queue, "what": what}


def _jobs(
    client: redis.Redis, prefix: str, job_ids: list[str], indexes: _Indexes
) -> Iterator[Event]:
    pipe = client.pipeline(transaction=False)
    for job_id in job_ids:
        key = f"{prefix}job:{job_id}"
        pipe.hmget(key, *_JOB_FIELDS)
        pipe.pttl(key)
        pipe.xrange(f"{key}:results")
        pipe.strlen(f"{key}:result")
    answers = iter(pipe.execute())
    for job_id in job_ids:
        held, ttl_ms, entries, beside = (next(answers) for _ in range(4))
        fields = {
            name: value.decode(errors="replace") if value is not None else None
            for name, value in zip(_JOB_FIELDS, held, strict=True)
        }
        yield _job(job_id, fields, ttl_ms, entries, beside, indexes.jobs.get(job_id, []))


def _job(
    job_id: str,
    fields: dict[str, str | None],
    ttl_ms: int,
    entries: list[Any],
    beside: int,
    where: list[str],
) -> Event:
    kinds = [entry[b"type"].decode() for _, entry in entries]
    ends = [
        entry for (_, entry), kind in zip(entries, kinds, strict=True) if kind in _TERMINAL_KINDS
    ]
    last = ends[-1] if ends else {}
    status = fields["status"] or "damaged"
    worker = fields["worker"] or ""
    wanted = f"{fields['origin']}:{_WHERE.get(status, status)}"
    return {
        "ev": "job",
        "id": job_id,
        "status": status,
        "records": len(ends),
        "result": _read_result(last.get(b"result"), beside),
        "settled_fence": int((fields["settled"] or "0").split(":")[0]),
        "cause": fields["cause"] or "",
        "pid": int(last.get(b"pid", 0)),
        "master": worker.rpartition(":")[0],
        "ended": int(fields["ended_at"] or 0) / 1e6,
        "losses": int(fields["losses"] or 0),
        "callbacks": (fields["callbacks"] or "").split(),
        "progress": fields["progress"] or "",
        "expires": ttl_ms > 0,
        "misplaced": "" if where == [wanted] else f"{status}, and in {where}",
    }


def _read_result(result: bytes | None, beside: int) -> str | None:
    """The result as text: the campaign's own, from a server nobody else writes to."""
    if result is None:
        return f"<{beside} bytes beside>" if beside else None
    try:
        return str(pickle.loads(result))[:200]
    except Exception as error:  # noqa: BLE001 - then it is not what a job returned
        return f"<unreadable: {error}>"


def _stray(key: str, prefix: str, ttl_ms: int, known: set[str], indexes: _Indexes) -> str:
    """Why a key should not be there; empty if something leads to it, or it goes by itself."""
    if not key.startswith(prefix):
        return "not in the namespace"
    if ttl_ms > 0 or ttl_ms == -2:
        return ""
    kind, _, rest = key.removeprefix(prefix).partition(":")
    if not rest:
        return "" if kind in _PLAIN_KEYS else "unknown"
    match kind:
        case "job":
            return "" if rest.partition(":")[0] in known else "belongs to no job, and stays"
        case "queue" | "stats":
            return "" if rest.partition(":")[0] in indexes.queues else "of no known queue"
        case "metrics" | "by-end":
            return "" if rest.partition(":")[2] in indexes.queues else "of no known queue"
        case "wake":
            what, _, name = rest.partition(":")
            led = indexes.queues if what == "queue" else indexes.masters
            return "" if name in led else f"of no known {what}"
        case "control":
            return "" if rest in indexes.masters else "of no known master"
    return "stays for ever"
