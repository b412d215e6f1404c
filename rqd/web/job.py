"""The page of a job: its attempts, its output as it is printed, its graph; and its live stack."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import asdict, dataclass, field
from threading import Lock
from typing import Any

from rqd.client.connection import Backend
from rqd.client.control import DEFAULT_GRACE_S, live_stack
from rqd.client.job import Job
from rqd.client.job_views import describe_attempt, describe_callback, describe_job
from rqd.client.records import fetch_record, no_such_job
from rqd.model.errors import NoSuchJobError, RqdError, ServerUnavailableError
from rqd.model.names import is_job_id
from rqd.model.numbers import iso, read_decimal, read_whole
from rqd.model.outcome import signal_name
from rqd.model.records import JobRecord
from rqd.model.resources import NO_RESOURCE_LIMITS
from rqd.store.follow import Follower
from rqd.web.frame import Data, Look, NotHereError, page
from rqd.web.graph import around, ids_in
from rqd.web.pages import redacted, served_in

_MOST_OUTPUT_BYTES = 32 * 1024
# As many as there are viewers: with fewer, each look would ask for all output again.
_MOST_FEEDS = 500


@page("job", "Job", in_menu=False)
def job(look: Look) -> Data:
    """Reads a job with all its attempts and the jobs around it. Nothing of it is unpickled."""
    record, there = _visible_record(look), look.backend
    found: Job[Any] = Job(record, there)
    fields = describe_job(found, found.get_position(), there.views.paused())
    fields["served_by"] = served_in(look.seen).get(found.origin, [])
    graph = around(look, record)
    if not look.access.sees_all:
        fields |= {name: ids_in(graph[name]) for name in ("depends_on", "dependents")}
    made = [one for one in Job.fetch_many(found.callback_ids, there) if one is not None]
    status = fields["status"]
    return {
        "job": redacted(look, fields | {"memory_limit_bytes": _memory_limit(record)}),
        "running": _running(look, record) if status == "started" else None,
        "attempts": [redacted(look, _attempt(describe_attempt(one))) for one in found.results()],
        "callbacks": [
            redacted(look, describe_callback(one)) for one in made if look.access.sees(one.origin)
        ],
        "graph": graph,
        "grace_s": DEFAULT_GRACE_S,
        "can": {
            "stop": status == "started",
            "extend": status == "started" and found.timeout > 0,
            "cancel": status in ("queued", "scheduled", "deferred"),
            "requeue": status in ("failed", "stopped", "canceled"),
        },
    }


@page("stack", "Stack", in_menu=False, live=False)
def stack(look: Look) -> Data:
    """Asks a running job for its stack, by way of its master; `why` says why there is none."""
    found = visible_job(look)
    status = str(found.get_status(refresh=False))
    named = redacted(look, {"id": found.id, "function": found.func_name, "status": status})
    try:
        taken = live_stack(found.id, look.backend)
    except (NoSuchJobError, ServerUnavailableError):
        raise
    except RqdError as error:
        return {"job": named, "taken": None, "why": str(error), "at": None}
    now = iso(look.backend.views.now_us())
    return {"job": named, "taken": redacted(look, asdict(taken)), "why": "", "at": now}


def visible_job(look: Look) -> Job[Any]:
    """Returns the job that the parameter `id` names.

    Raises NoSuchJobError if there is none, with the same words for a job that the visitor may not
    see.
    """
    return Job(_visible_record(look), look.backend)


def _visible_record(look: Look) -> JobRecord:
    job_id = look.param("id").strip()
    if not is_job_id(job_id):
        raise NotHereError(f"there is no job {job_id!r}")
    record = fetch_record(look.backend, job_id)
    if not look.access.sees(record.origin):
        raise no_such_job(job_id)
    return record


def _attempt(fields: dict[str, Any]) -> dict[str, Any]:
    """Adds to an attempt the name of its signal."""
    number = fields.get("signal")
    return fields | {"signal_name": signal_name(number) if number else None}


def _memory_limit(record: JobRecord) -> int | None:
    """Returns the job's own limit; None without one: its daemon's limit is not in Redis."""
    return NO_RESOURCE_LIMITS.of_job(record.terms).memory_bytes


def _running(look: Look, record: JobRecord) -> dict[str, Any]:
    """Reads the attempt that runs: its process, its use of memory and cpu, its output so far."""
    row = _row_of(look, record)
    is_measured = row.get("measured") == record.id
    output, skipped_bytes = _FEEDS.output(look.backend, record)
    return {
        "attempt": record.attempt,
        "started": iso(record.started_us),
        "for_s": _seconds_since(look, record.started_us),
        "host": row.get("host", ""),
        "pid": read_whole(row.get("pid")) or None,
        "cpu_percent": read_decimal(row.get("cpu_percent")) if is_measured else None,
        "memory_bytes": read_whole(row.get("memory_bytes")) if is_measured else None,
        "output": look.redact(output),
        "skipped_bytes": skipped_bytes,
    }


def _row_of(look: Look, record: JobRecord) -> dict[str, str]:
    """Returns the row of the worker that runs the job; empty if it has another job by now."""
    master, _, number = record.worker.rpartition(":")
    masters = [row for row in look.backend.views.masters() if row["name"] == master]
    rows = look.backend.views.workers(masters)
    return next((r for r in rows if r["number"] == number and r.get("job") == record.id), {})


def _seconds_since(look: Look, at_us: int | None) -> float | None:
    return None if at_us is None else max(0.0, (look.seen.now_us - at_us) / 1e6)


@dataclass(slots=True)
class _Feed:
    """The output of a running attempt, as far as it came."""

    follower: Follower
    lock: Lock = field(default_factory=Lock)
    fence: int = 0
    tail: bytes = b""
    skipped_bytes: int = 0

    def read(self, record: JobRecord) -> None:
        """Adds the output that came since the last call."""
        if record.fence < self.fence:
            return  # another thread has seen a later attempt
        if record.fence > self.fence:
            self.fence, self.tail, self.skipped_bytes = record.fence, b"", 0
        for piece in self.follower.arrived(record):
            if piece.attempt != record.attempt:
                break  # the next attempt has begun and ended meanwhile: its record says all
            if piece.missing_bytes:
                self.skipped_bytes += piece.missing_bytes + len(self.tail)
                self.tail = b""
            self.tail += piece.data
            self.skipped_bytes += self._cut()

    def _cut(self) -> int:
        """Cuts the tail to whole lines; returns the number of bytes cut away."""
        if len(self.tail) <= _MOST_OUTPUT_BYTES:
            return 0
        kept = self.tail[-_MOST_OUTPUT_BYTES:]
        whole = kept[kept.find(b"\n") + 1 :] or kept
        cut_bytes = len(self.tail) - len(whole)
        self.tail = whole
        return cut_bytes


class _Feeds:
    """Follows the output of the running jobs that somebody looks at: once for all visitors."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._by_job: OrderedDict[tuple[Backend, str], _Feed] = OrderedDict()

    def output(self, there: Backend, record: JobRecord) -> tuple[str, int]:
        """Returns the last output of a running job, and the number of bytes before it.

        Waits a quarter of a second at most, at the first look.
        """
        feed = self._of(there, record.id)
        with feed.lock:
            feed.read(record)
            return feed.tail.decode(errors="replace"), feed.skipped_bytes

    def _of(self, there: Backend, job_id: str) -> _Feed:
        with self._lock:
            feed = self._by_job.pop((there, job_id), None)
            if feed is None:
                feed = _Feed(Follower(there.store, there.views, job_id, there.keyring))
            self._by_job[there, job_id] = feed
            while len(self._by_job) > _MOST_FEEDS:
                self._by_job.popitem(last=False)
            return feed


_FEEDS = _Feeds()
