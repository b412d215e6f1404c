"""Dramatiq's actors, with their results stored."""

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from benchmarks import tasks

_URL = os.environ["BENCH_URL"]
broker = RedisBroker(url=f"{_URL}/0")
broker.add_middleware(Results(backend=RedisBackend(url=f"{_URL}/1"), store_results=True))
dramatiq.set_broker(broker)
calls = {
    function: dramatiq.actor(function)
    for function in (tasks.noop, tasks.started_at, tasks.sleep, tasks.burn)
}
