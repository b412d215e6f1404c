"""The dashboard serves the metrics, to visitors that may see all queues."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from rqd.web.access import Access

Open = Callable[..., Any]


def test_a_scrape_gets_the_metrics_in_prometheus_format(dashboard: Open) -> None:
    answer = dashboard().get("/metrics")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    names = {family.name for family in text_string_to_metric_families(answer.text)}
    assert {"rqd_redis_up", "rqd_jobs", "rqd_queue_workers_wanted"} <= names


def test_a_visitor_of_some_queues_gets_no_metrics_of_all(dashboard: Open) -> None:
    served = dashboard(auth=lambda _scope: Access("ann", queues=("low",)))
    assert served.get("/metrics").status_code == 403


def test_the_metrics_of_a_redis_that_is_away_say_so(dashboard: Open) -> None:
    answer = dashboard(url="redis://127.0.0.1:1").get("/metrics")
    assert answer.status_code == 200
    assert 'rqd_redis_up{namespace="rqd"} 0.0' in answer.text
