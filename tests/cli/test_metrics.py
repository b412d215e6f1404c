"""`rqd metrics`: to the terminal, to a file in a single step, and with Redis away."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from rqd import Queue
from rqd.client.connection import Backend
from rqd.store.connection import client_connection
from rqd.store.store import Store
from tests import jobs
from tests.cli.running import rqd


@pytest.fixture
def there(redis_url: str) -> Backend:
    backend = Backend(Store(client_connection(redis_url)), redis_url)
    Queue("low", connection=backend).enqueue(jobs.multiply, 2, 3)
    return backend


def enqueued(text: str) -> list[float]:
    return [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "rqd_jobs_enqueued_total"
    ]


def test_metrics_are_printed_in_prometheus_format(there: Backend, redis_url: str) -> None:
    assert enqueued(rqd("metrics", url=redis_url).out) == [1.0]


def test_a_file_is_replaced_in_one_step_and_readable_by_others(
    there: Backend, redis_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "rqd.prom"
    path.write_text("old")

    ran = rqd("metrics", "--file", str(path), url=redis_url)

    assert (ran.status, ran.out, ran.err) == (0, "", "")
    assert enqueued(path.read_text()) == [1.0]
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_a_redis_that_is_away_is_written_as_down(tmp_path: Path) -> None:
    ran = rqd("metrics", url="redis://127.0.0.1:1")
    assert ran.status == 0
    assert 'rqd_redis_up{namespace="rqd"} 0.0' in ran.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--file", "/nowhere/rqd.prom"), "--file /nowhere/rqd.prom: cannot be written: "),
        (("--target-wait", "0"), "--target-wait 0: write a time above 0, such as 30s"),
        (("--target-wait", "soon"), "--target-wait 'soon' is no duration"),
    ],
)
def test_a_mistake_is_answered_in_one_line(
    there: Backend, redis_url: str, arguments: tuple[str, ...], said: str
) -> None:
    ran = rqd("metrics", *arguments, url=redis_url)
    assert ran.status != 0
    assert ran.err.startswith(f"rqd: {said}")
    assert ran.err.count("\n") == 1
