"""Prometheus: the metrics of a namespace in its text format, or in a registry of your own.

Needs the extra `rqd[web]` or `rqd[prometheus]`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from rqd.client import metrics
from rqd.client.metrics import TARGET_WAIT_S
from rqd.model.history import Histogram

if TYPE_CHECKING:
    from rqd.client.connection import Backend

# The format's version that all of Prometheus' releases read.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class RqdCollector(Collector):
    """Collects the metrics of a namespace from Redis, at each scrape anew.

    `target_wait_s`: the wait that `rqd_queue_workers_wanted` aims at, in seconds.
    """

    def __init__(self, there: Backend, target_wait_s: float = TARGET_WAIT_S) -> None:
        self._there = there
        self._target_wait_s = target_wait_s

    def collect(self) -> Iterator[Metric]:
        """Reads Redis, and yields each metric with its samples."""
        for one in metrics.read_metrics(self._there, self._target_wait_s):
            yield _family(one)

    def describe(self) -> list[Metric]:
        """Returns nothing: to register a collector reads no Redis."""
        return []


def exposition(there: Backend, target_wait_s: float = TARGET_WAIT_S) -> bytes:
    """Returns the metrics of a namespace in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(RqdCollector(there, target_wait_s))
    return generate_latest(registry)


def _family(one: metrics.Metric) -> Metric:
    if one.kind == "histogram":
        histogram = HistogramMetricFamily(one.name, one.help, labels=one.labels)
        for labels, value in one.samples:
            if isinstance(value, Histogram):
                histogram.add_metric(labels, _buckets(value), value.sum)
        return histogram
    family = CounterMetricFamily if one.kind == "counter" else GaugeMetricFamily
    found = family(one.name, one.help, labels=one.labels)
    for labels, value in one.samples:
        if not isinstance(value, Histogram):
            found.add_metric(labels, value)
    return found


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    bounds = [*map(floatToGoString, histogram.bounds), "+Inf"]
    return list(zip(bounds, map(float, accumulate(histogram.counts)), strict=True))
