"""A project of django-rq that has changed its imports."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import request_finished
from django.db import transaction
from django.test import override_settings

from rqd import Worker
from rqd.client.connection import Backend
from rqd.django import compat
from tests import jobs

SENTINELS = [("s1", 26379), ("s2", 26380)]


def report(number: int) -> None:
    """Is decorated below."""


def tidy(name: str) -> None:
    """Is decorated below."""


@pytest.fixture
def rq_queues(there: Backend) -> Any:
    """Two queues of the test's Redis."""
    queues = {
        "default": {"URL": there.url, "DEFAULT_TIMEOUT": 360, "DEFAULT_RESULT_TTL": 800},
        "high": {"URL": there.url, "SERIALIZER": "json"},
    }
    with override_settings(RQ_QUEUES=queues, RQ={}):
        yield


@pytest.mark.parametrize(
    ("config", "url"),
    [
        ({"HOST": "h"}, "redis://h:6379/0"),
        (
            {"HOST": "h", "PORT": 1, "DB": 2, "USERNAME": "u", "PASSWORD": "p/@", "SSL": True},
            "rediss://u:p%2F%40@h:1/2",
        ),
        ({"URL": "redis://h", "DB": 3}, "redis://h?db=3"),
        ({"UNIX_SOCKET_PATH": "/run/redis.sock", "DB": 1}, "unix:///run/redis.sock?db=1"),
        (
            {"SENTINELS": SENTINELS, "MASTER_NAME": "m", "DB": 0, "PASSWORD": "p"},
            "redis+sentinel://:p@s1:26379,s2:26380/m?db=0",
        ),
        (
            {"HOST": "h", "REDIS_CLIENT_KWARGS": {"socket_timeout": 3}},
            "redis://h:6379/0?socket_timeout=3",
        ),
    ],
)
def test_the_settings_of_a_connection_are_a_url(config: dict[str, Any], url: str) -> None:
    with override_settings(RQ_QUEUES={"default": config}):
        assert compat.url_of("default") == url
        assert compat.get_connection().url == url


@pytest.mark.parametrize(
    ("queues", "text"),
    [
        ({}, "RQ_QUEUES has no 'default': it has no queue"),
        ({"low": {}}, "RQ_QUEUES has no 'default': it has low"),
        ({"default": {}}, "names no Redis: write URL or HOST"),
        ({"default": {"USE_REDIS_CACHE": "x"}}, "rqd has no USE_REDIS_CACHE: write URL or HOST"),
    ],
)
def test_settings_that_are_not_enough_are_named(queues: dict[str, Any], text: str) -> None:
    with (
        override_settings(RQ_QUEUES=queues),
        pytest.raises(ImproperlyConfigured, match=text),
    ):
        compat.get_queue()


def test_a_queue_has_the_settings_of_its_name(rq_queues: Any, there: Backend) -> None:
    job = compat.enqueue(jobs.multiply, 6, 7)
    kept = compat.get_queue().enqueue(jobs.multiply, 6, 7, result_ttl=5)
    high = compat.get_queue("high", default_timeout=7).enqueue("tests.jobs.multiply", 6, 7)

    assert (job.origin, job.timeout, job.result_ttl) == ("default", 360, 800)
    assert kept.result_ttl == 5
    assert (high.origin, high.timeout, high.result_ttl) == ("high", 7, 500)
    records = there.views.jobs([job.id, high.id])
    assert [record and record.serializer for record in records] == ["pickle", "json"]


def test_the_decorator_works_in_all_its_forms(rq_queues: Any) -> None:
    plain = compat.job(report).delay(6)
    named = compat.job("high", timeout=3)(tidy).delay("a")

    assert (plain.origin, plain.timeout, plain.result_ttl) == ("default", 360, 800)
    assert (named.origin, named.timeout) == ("high", 3)


def test_jobs_are_enqueued_when_the_transaction_commits(
    rq_queues: Any, there: Backend, database: Any
) -> None:
    with transaction.atomic():
        job = compat.enqueue(jobs.multiply, 6, 7)
        compat.get_queue(commit_mode="auto").enqueue(jobs.multiply, 1, 1, job_id="auto")
        assert there.views.ready_ids("default") == ["auto"]

    assert there.views.ready_ids("default") == ["auto", job.id]
    with transaction.atomic():
        compat.enqueue(jobs.multiply, 6, 7)
        transaction.set_rollback(True)
    assert there.views.ready_ids("default") == ["auto", job.id]


def test_jobs_are_enqueued_when_the_request_is_over(rq_queues: Any, there: Backend) -> None:
    with override_settings(RQ={"COMMIT_MODE": "request_finished"}):
        job = compat.enqueue(jobs.multiply, 6, 7)
    assert there.views.ready_ids("default") == []

    request_finished.send(sender=None)
    request_finished.send(sender=None)

    assert there.views.ready_ids("default") == [job.id]


def test_a_mode_that_does_not_exist_is_named(rq_queues: Any) -> None:
    with (
        override_settings(RQ={"COMMIT_MODE": "soon"}),
        pytest.raises(ImproperlyConfigured, match="'soon': write one of on_db_commit, auto"),
    ):
        compat.get_queue()


def test_a_worker_has_therq_queues_and_djangos_set_up(rq_queues: Any, there: Backend) -> None:
    worker = compat.get_worker("high", "default")

    assert isinstance(worker, Worker)
    assert [queue.name for queue in worker.queues] == ["high", "default"]
    assert worker.preload == ["rqd.django.preload"]
