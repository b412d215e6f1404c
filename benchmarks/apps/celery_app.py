"""Celery's tasks. Short ones: Celery's docs advise a prefetch multiplier of 64 or more for them."""

import os

from celery import Celery

from benchmarks import tasks

_URL = os.environ["BENCH_URL"]
app = Celery("bench", broker=f"{_URL}/0", backend=f"{_URL}/1")
app.conf.update(
    worker_prefetch_multiplier=64,
    broker_connection_retry_on_startup=True,
    result_expires=3600,
)
calls = {
    function: app.task(name=function.__name__)(function)
    for function in (tasks.noop, tasks.started_at, tasks.sleep, tasks.burn)
}
