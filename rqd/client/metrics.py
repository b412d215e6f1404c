"""The metrics of a namespace: for Prometheus, OpenTelemetry, and whatever else collects numbers.

All counters and histograms are added up in Redis. So they do not fall when daemons or exporters
start again, and any number of exporters show the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from math import ceil
from typing import TYPE_CHECKING, Literal

from rqd.client.snapshot import Seen, snapshot
from rqd.model.history import Histogram, Numbers, added_up
from rqd.store.crons import Crons
from rqd.store.errors import RedisGone

if TYPE_CHECKING:
    from rqd.client.connection import Backend

Kind = Literal["gauge", "counter", "histogram"]
# A queue's jobs should wait for so long at most, if nothing else is asked for.
TARGET_WAIT_S = 60.0
_HOUR_US = 3_600_000_000
_STATES = (
    *("ready", "limited", "started", "scheduled", "deferred"),
    *("finished", "failed", "canceled"),
)
_BECAME = ("finished", "failed", "stopped", "canceled", "retried", "repeated")
_WORKER_STATES = ("busy", "idle", "starting", "paused", "suspended", "stopping")


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric with its samples: the values of `labels`, and a number or a histogram."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...]
    samples: list[tuple[tuple[str, ...], float | Histogram]] = field(default_factory=list)

    def add(self, value: float | Histogram, *labels: str) -> None:
        """Adds a sample."""
        self.samples.append((labels, value))


def read_metrics(there: Backend, target_wait_s: float = TARGET_WAIT_S) -> list[Metric]:
    """Returns all metrics, each with its `namespace` as the first label.

    `target_wait_s`: the wait that `rqd_queue_workers_wanted` aims at, in seconds. If Redis is away,
    only `rqd_redis_up` is there, and it is 0.
    """
    up = Metric("rqd_redis_up", "gauge", "1 if Redis answers.", ("namespace",))
    try:
        seen = snapshot(there.views)
        names = [queue["name"] for queue in seen.queues]
        totals = there.views.metrics(names)
        found = [
            *_of_queues(seen),
            _workers_wanted(there, seen, totals, target_wait_s),
            *_of_attempts(totals),
            *_of_masters(seen),
            _cron_late(Crons(there.store), seen.now_us),
        ]
    except RedisGone:
        up.add(0.0, there.namespace)
        return [up]
    up.add(1.0, there.namespace)
    return [up, *(_in_namespace(metric, there.namespace) for metric in found)]


def _in_namespace(metric: Metric, namespace: str) -> Metric:
    samples = [((namespace, *labels), value) for labels, value in metric.samples]
    return Metric(metric.name, metric.kind, metric.help, ("namespace", *metric.labels), samples)


def _of_queues(seen: Seen) -> Iterable[Metric]:
    jobs = Metric("rqd_jobs", "gauge", "Jobs by state.", ("queue", "state"))
    latency = Metric(
        "rqd_queue_latency_seconds", "gauge", "Wait of the next ready job so far.", ("queue",)
    )
    oldest = Metric(
        "rqd_queue_oldest_started_seconds",
        "gauge",
        "Run time so far of the job that runs for longest.",
        ("queue",),
    )
    paused = Metric("rqd_queue_paused", "gauge", "1 if the queue is paused.", ("queue",))
    workers = Metric(
        "rqd_queue_workers", "gauge", "Workers that serve the queue.", ("queue", "state")
    )
    enqueued = Metric("rqd_jobs_enqueued_total", "counter", "Jobs enqueued.", ("queue",))
    became = Metric(
        "rqd_jobs_total", "counter", "Ends of jobs, and runs that led to another.",
        ("queue", "became"),
    )  # fmt: skip
    put_back = Metric(
        "rqd_jobs_put_back_total", "counter", "Attempts put back after they had begun.", ("queue",)
    )
    lost = Metric("rqd_jobs_lost_total", "counter", "Attempts lost with their process.", ("queue",))
    serving = _serving(seen)
    for queue in seen.queues:
        name, counts = queue["name"], queue["totals"]
        for state in _STATES:
            jobs.add(queue[state], name, state)
        latency.add(queue["latency_s"], name)
        oldest.add(_oldest_s(seen, name), name)
        paused.add(float(queue["paused"]), name)
        for state in _WORKER_STATES:
            workers.add(serving.get((name, state), 0), name, state)
        enqueued.add(counts["enqueued"], name)
        for word in _BECAME:
            became.add(counts[word], name, word)
        put_back.add(counts["put_back"], name)
        lost.add(counts["lost"], name)
    return jobs, latency, oldest, paused, workers, enqueued, became, put_back, lost


def _serving(seen: Seen) -> dict[tuple[str, str], int]:
    """Counts the workers by each queue that their master serves, and by state."""
    queues_of = {master["name"]: master["queues"] for master in seen.masters}
    found: dict[tuple[str, str], int] = {}
    for worker in seen.workers:
        for queue in queues_of.get(worker["master"], ()):
            key = (queue, worker["state"])
            found[key] = found.get(key, 0) + 1
    return found


def _oldest_s(seen: Seen, queue: str) -> float:
    starts = [
        worker["since"]
        for worker in seen.workers
        if worker.get("job") and worker.get("queue") == queue and worker.get("since")
    ]
    return max((_age_s(since, seen.now_us) for since in starts), default=0.0)


def _age_s(instant: str, now_us: int) -> float:
    return max(0.0, now_us / 1e6 - datetime.fromisoformat(instant).timestamp())


def _workers_wanted(
    there: Backend,
    seen: Seen,
    totals: Mapping[str, tuple[Numbers, dict[str, Numbers]]],
    target_wait_s: float,
) -> Metric:
    wanted = Metric(
        "rqd_queue_workers_wanted",
        "gauge",
        f"Workers with which the ready jobs would start within {target_wait_s:g} s.",
        ("queue",),
    )
    for queue in seen.queues:
        name = queue["name"]
        recent = added_up(
            one.numbers
            for one in there.views.history([name], seen.now_us - _HOUR_US, seen.now_us, 3600)
        )
        mean_s = _mean(recent.run) or _mean(totals[name][0].run)
        ready = 0 if queue["paused"] else queue["ready"]
        wanted.add(queue["started"] + ceil(ready * mean_s / target_wait_s), name)
    return wanted


def _mean(histogram: Histogram) -> float:
    return histogram.sum / histogram.count if histogram.count else 0.0


def _of_attempts(totals: Mapping[str, tuple[Numbers, dict[str, Numbers]]]) -> Iterable[Metric]:
    failed = Metric(
        "rqd_attempts_failed_total",
        "counter",
        "Attempts that failed or were stopped, by the kind of their cause.",
        ("queue", "function", "cause"),
    )
    wait = Metric(
        "rqd_job_wait_seconds", "histogram", "Wait from the moment a job could run.", ("queue",)
    )
    of_function = ("queue", "function")
    run = Metric("rqd_job_run_seconds", "histogram", "Run time of an attempt.", of_function)
    cpu = Metric("rqd_job_cpu_seconds_total", "counter", "Cpu time of attempts.", of_function)
    memory = Metric(
        "rqd_job_peak_memory_bytes", "histogram", "Peak memory of an attempt's own.", of_function
    )
    for queue, (own, functions) in totals.items():
        if own.wait.count:
            wait.add(own.wait, queue)
        for function, numbers in functions.items():
            for why, count in numbers.causes.items():
                failed.add(count, queue, function, why)
            run.add(numbers.run, queue, function)
            cpu.add(numbers.cpu_s, queue, function)
            if numbers.memory.count:
                memory.add(numbers.memory, queue, function)
    return failed, wait, run, cpu, memory


def _of_masters(seen: Seen) -> Iterable[Metric]:
    info = Metric(
        "rqd_master_info", "gauge", "1 for each live master.", ("master", "host", "version")
    )
    age = Metric(
        "rqd_master_heartbeat_age_seconds", "gauge", "Time since the last heartbeat.", ("master",)
    )
    memory = Metric(
        "rqd_master_resident_memory_bytes", "gauge", "Resident memory of the master.", ("master",)
    )
    for master in seen.masters:
        name = master["name"]
        info.add(1.0, name, master.get("host", ""), master.get("version", ""))
        if master.get("heartbeat"):
            age.add(_age_s(master["heartbeat"], seen.now_us), name)
        memory.add(master.get("rss_bytes", 0), name)
    return info, age, memory


def _cron_late(crons: Crons, now_us: int) -> Metric:
    late = Metric(
        "rqd_cron_late_seconds",
        "gauge",
        "Time by which the next run of a cron entry is overdue.",
        ("cron",),
    )
    for entry in crons.all():
        if not entry.is_paused:
            overdue_us = max(0, now_us - entry.next_us) if entry.next_us is not None else 0
            late.add(overdue_us / 1e6, entry.name)
    return late
