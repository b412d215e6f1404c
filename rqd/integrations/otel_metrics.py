"""OpenTelemetry metrics of a namespace: the same as Prometheus', by the extra `rqd[otel]`.

OpenTelemetry has no histogram that is read from elsewhere. So a histogram becomes three observable
counters, as in Prometheus' format: its buckets with the attribute `le`, its sum, its count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from threading import Lock
from typing import TYPE_CHECKING

from opentelemetry import metrics as otel
from opentelemetry.metrics import CallbackOptions, Observation

from rqd import __version__
from rqd.client.metrics import TARGET_WAIT_S, Metric, read_metrics
from rqd.model.history import Histogram

if TYPE_CHECKING:
    from rqd.client.connection import Backend

# All instruments of one export are read at once, from one look at Redis.
_KEPT_S = 1.0
Observe = Callable[[CallbackOptions], Iterable[Observation]]


def observe(
    there: Backend, meter: otel.Meter | None = None, target_wait_s: float = TARGET_WAIT_S
) -> None:
    """Makes an instrument of each metric, which reads Redis at each export.

    `there` is what `rqd.client.connection.Backend` opens; `meter` None is the global provider's.
    Call it once, in one process of a namespace: each caller exports all numbers.
    """
    meter = meter or otel.get_meter("rqd", __version__)
    source = _Source(there, target_wait_s)
    for metric in source.metrics():
        for name, read in _instruments(metric):
            callbacks = [_observer(source, metric.name, read)]
            is_gauge = metric.kind == "gauge"
            make = meter.create_observable_gauge if is_gauge else meter.create_observable_counter
            make(name, callbacks=callbacks, description=metric.help)


class _Source:
    """The metrics as of a moment ago."""

    def __init__(self, there: Backend, target_wait_s: float) -> None:
        self._there = there
        self._target_wait_s = target_wait_s
        self._lock = Lock()
        self._read_at = float("-inf")
        self._metrics: list[Metric] = []

    def metrics(self) -> list[Metric]:
        """Returns the metrics, not older than a second."""
        with self._lock:
            if time.monotonic() >= self._read_at + _KEPT_S:
                self._metrics = read_metrics(self._there, self._target_wait_s)
                self._read_at = time.monotonic()
            return self._metrics


Read = Callable[[Metric], Iterator[Observation]]


def _instruments(metric: Metric) -> list[tuple[str, Read]]:
    if metric.kind != "histogram":
        return [(metric.name, _values)]
    return [
        (f"{metric.name}_bucket", _buckets),
        (f"{metric.name}_sum", _sums),
        (f"{metric.name}_count", _counts),
    ]


def _observer(source: _Source, name: str, read: Read) -> Observe:
    def observed(_options: CallbackOptions) -> Iterable[Observation]:
        return [one for metric in source.metrics() if metric.name == name for one in read(metric)]

    return observed


def _values(metric: Metric) -> Iterator[Observation]:
    for labels, value in metric.samples:
        if not isinstance(value, Histogram):
            yield Observation(value, dict(zip(metric.labels, labels, strict=True)))


def _histograms(metric: Metric) -> Iterator[tuple[dict[str, str], Histogram]]:
    for labels, value in metric.samples:
        if isinstance(value, Histogram):
            yield dict(zip(metric.labels, labels, strict=True)), value


def _buckets(metric: Metric) -> Iterator[Observation]:
    for labels, histogram in _histograms(metric):
        bounds = [*map(str, histogram.bounds), "+Inf"]
        for bound, count in zip(bounds, accumulate(histogram.counts), strict=True):
            yield Observation(count, labels | {"le": bound})


def _sums(metric: Metric) -> Iterator[Observation]:
    for labels, histogram in _histograms(metric):
        yield Observation(histogram.sum, labels)


def _counts(metric: Metric) -> Iterator[Observation]:
    for labels, histogram in _histograms(metric):
        yield Observation(histogram.count, labels)
