"""The metrics of a namespace, in Prometheus' format and by OpenTelemetry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from rqd import Queue
from rqd.client.connection import Backend
from rqd.client.metrics import read_metrics
from rqd.integrations.prometheus import RqdCollector, exposition
from rqd.store.connection import client_connection
from rqd.store.messages import Beat, QueueNumbers, Turn
from rqd.store.store import Store
from tests import jobs

FIELDS = (
    *(("became finished", 40), ("became failed", 2)),
    *(("run 3", 42), ("run sum", 84_000_000), ("wait 2", 42), ("wait sum", 700_000)),
    *(("run 3 1", 42), ("run sum 1", 84_000_000), ("memory 1 1", 42), ("memory sum 1", 9_000)),
    *(("cpu sum 1", 900_000), ("cause crashed 1", 2)),
)
# As window.md's table of names lists them, for dashboards and alerts in the world.
NAMES = {
    "rqd_jobs", "rqd_queue_latency_seconds", "rqd_queue_oldest_started_seconds",
    "rqd_queue_paused", "rqd_queue_workers_wanted", "rqd_queue_workers", "rqd_jobs_enqueued_total",
    "rqd_jobs_total", "rqd_attempts_failed_total", "rqd_jobs_put_back_total", "rqd_jobs_lost_total",
    "rqd_job_wait_seconds", "rqd_job_run_seconds", "rqd_job_cpu_seconds_total",
    "rqd_job_peak_memory_bytes", "rqd_master_info", "rqd_master_heartbeat_age_seconds",
    "rqd_master_resident_memory_bytes", "rqd_cron_late_seconds", "rqd_redis_up",
}  # fmt: skip


@pytest.fixture
def there(backend: Backend) -> Backend:
    """A namespace with waiting jobs, a running one, a master of two workers, and a history."""
    queue = Queue("low", connection=backend)
    for _ in range(90):
        queue.enqueue(jobs.multiply, 2, 3)
    store = backend.store
    row: Any = {"boot": "b", "host": "web1", "queues": "low", "state": "busy", "workers": 2,
           "version": "0.1.0", "rss_bytes": 4096}  # fmt: skip
    workers: Any = {n: {"state": "idle", "host": "web1", "pid": n} for n in (1, 2)}
    store.beat(Beat("m", "b", 15_000_000, 15, "", (), row, workers))
    store.turn(Turn("b.1", "m", 15_000_000, (), (1,), ("low",)))
    store.add_history("1", "m", QueueNumbers("low", ('app."send"\\n',), FIELDS))
    return backend


def parsed(there: Backend) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(exposition(there).decode()):
        for one in family.samples:
            labels = tuple(sorted(one.labels.items()))
            assert labels not in found.setdefault(one.name, {})
            found[one.name][labels] = one.value
    return found


def value(there: Backend, name: str, **labels: str) -> float:
    return parsed(there)[name][tuple(sorted({"namespace": "rqd", **labels}.items()))]


def test_prometheus_parses_every_name_of_the_table(there: Backend) -> None:
    names = set(parsed(there))
    families = {name.removesuffix(end) for name in names for end in ("_bucket", "_sum", "_count")}
    assert NAMES - {"rqd_cron_late_seconds"} <= names | families
    assert all("namespace" in dict(labels) for found in parsed(there).values() for labels in found)


def test_queues_show_their_jobs_waits_workers_and_wants(there: Backend) -> None:
    assert value(there, "rqd_jobs", queue="low", state="ready") == 89
    assert value(there, "rqd_jobs", queue="low", state="started") == 1
    assert value(there, "rqd_jobs_enqueued_total", queue="low") == 90
    assert 0 < value(there, "rqd_queue_latency_seconds", queue="low") < 60
    assert value(there, "rqd_queue_workers", queue="low", state="busy") == 1
    assert value(there, "rqd_queue_workers", queue="low", state="idle") == 1
    # One has started; 89 jobs of two seconds each within a minute need three more.
    assert value(there, "rqd_queue_workers_wanted", queue="low") == 1 + 3


def test_attempts_are_histograms_by_function_with_any_name_escaped(there: Backend) -> None:
    function = 'app."send"\\n'
    run = {"queue": "low", "function": function}
    assert value(there, "rqd_job_run_seconds_bucket", **run, le="0.025") == 0
    assert value(there, "rqd_job_run_seconds_bucket", **run, le="0.05") == 42
    assert value(there, "rqd_job_run_seconds_bucket", **run, le="+Inf") == 42
    assert value(there, "rqd_job_run_seconds_sum", **run) == 84
    assert value(there, "rqd_job_peak_memory_bytes_bucket", **run, le="8.388608e+06") == 0
    assert value(there, "rqd_job_peak_memory_bytes_sum", **run) == 9_000 * 1024
    assert value(there, "rqd_attempts_failed_total", **run, cause="crashed") == 2
    assert value(there, "rqd_job_cpu_seconds_total", **run) == 0.9
    assert value(there, "rqd_job_wait_seconds_count", queue="low") == 42


def test_a_paused_queue_wants_no_workers_for_its_waiting_jobs(there: Backend) -> None:
    there.store.pause("low")
    assert value(there, "rqd_queue_paused", queue="low") == 1
    assert value(there, "rqd_queue_workers_wanted", queue="low") == 1


def test_masters_and_late_crons_are_shown(there: Backend) -> None:
    from rqd import cron

    assert value(there, "rqd_master_info", master="m", host="web1", version="0.1.0") == 1
    assert 0 <= value(there, "rqd_master_heartbeat_age_seconds", master="m") < 60
    assert value(there, "rqd_master_resident_memory_bytes", master="m") == 4096
    cron.register(jobs.instant, "nightly", cron="0 3 * * *", name="nightly", connection=there)
    assert value(there, "rqd_cron_late_seconds", cron="nightly") == 0
    redis: Any = there.store.redis
    redis.zadd(there.store.keys.crons, {"nightly": there.views.now_us() - 90_000_000})
    assert value(there, "rqd_cron_late_seconds", cron="nightly") == pytest.approx(90, abs=5)


def test_counters_do_not_fall_when_records_go_and_masters_leave(there: Backend) -> None:
    before = parsed(there)
    redis: Any = there.store.redis
    redis.delete(there.store.keys.masters, there.store.keys.ready("low"))
    after = parsed(there)
    counters = [name for name in before if name.endswith(("_total", "_count", "_sum", "_bucket"))]
    assert counters
    for name in counters:
        assert after[name] == before[name]


def test_a_redis_that_is_away_is_a_metric_and_no_error() -> None:
    url = "redis://127.0.0.1:1"
    away = Backend(Store(client_connection(url)), url)
    text = exposition(away).decode()
    assert [line for line in text.splitlines() if line[0] != "#"] == [
        'rqd_redis_up{namespace="rqd"} 0.0'
    ]


def test_a_registry_of_ones_own_reads_redis_at_each_scrape_only(there: Backend) -> None:
    registry = CollectorRegistry()
    redis: Any = there.store.redis
    before = redis.info("stats")["total_commands_processed"]
    registry.register(RqdCollector(there))
    assert redis.info("stats")["total_commands_processed"] == before + 1
    labels = {"namespace": "rqd", "queue": "low"}
    assert registry.get_sample_value("rqd_jobs_enqueued_total", labels) == 90
    Queue("low", connection=there).enqueue(jobs.multiply, 1, 1)
    assert registry.get_sample_value("rqd_jobs_enqueued_total", labels) == 91


@pytest.fixture
def exported(there: Backend) -> Iterator[dict[str, Any]]:
    pytest.importorskip("opentelemetry.sdk.metrics")
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    from rqd.integrations.otel_metrics import observe

    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    observe(there, provider.get_meter("test"))
    data: Any = reader.get_metrics_data()
    yield {m.name: m.data.data_points for m in data.resource_metrics[0].scope_metrics[0].metrics}
    provider.shutdown()


def test_opentelemetry_exports_the_same_numbers(there: Backend, exported: dict[str, Any]) -> None:
    expected = {one.name: one for one in read_metrics(there)}
    for name, metric in expected.items():
        if metric.kind == "histogram" or not metric.samples:
            continue
        points = {
            tuple(point.attributes[label] for label in metric.labels): point.value
            for point in exported[name]
        }
        assert points.keys() == dict(metric.samples).keys()
    (count,) = exported["rqd_job_run_seconds_count"]
    assert (count.value, count.attributes["queue"]) == (42, "low")
    assert max(point.value for point in exported["rqd_job_run_seconds_bucket"]) == 42
