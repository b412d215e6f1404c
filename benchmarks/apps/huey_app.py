"""Huey's tasks, of an instance that consumer and producer both import."""

import os

from huey import RedisHuey

from benchmarks import tasks

huey = RedisHuey("bench", url=os.environ["BENCH_URL"])
calls = {
    function: huey.task()(function)
    for function in (tasks.noop, tasks.started_at, tasks.sleep, tasks.burn)
}
