"""taskiq's tasks: coroutines, as its docs write them, on the broker with acknowledgements."""

import asyncio
import os

from taskiq_redis import (
    RedisAsyncResultBackend,
    RedisStreamBroker,
)

from benchmarks import tasks

_URL = os.environ["BENCH_URL"]
# From the stream's begin: jobs that were enqueued before the workers started are theirs, too. A
# process takes ten at a time: with the default's hundred others have none of a short queue.
broker = RedisStreamBroker(f"{_URL}/0", consumer_id="0", xread_count=10).with_result_backend(
    RedisAsyncResultBackend(f"{_URL}/1", result_ex_time=3600)
)


async def _noop() -> int:
    return tasks.noop()


async def _started_at() -> float:
    return tasks.started_at()


async def _sleep(seconds: float) -> float:
    began = tasks.started_at()
    await asyncio.sleep(seconds)
    return began


async def _burn(seconds: float) -> float:
    return tasks.burn(seconds)


calls = {
    function: broker.register_task(coroutine, task_name=function.__name__)
    for function, coroutine in (
        (tasks.noop, _noop),
        (tasks.started_at, _started_at),
        (tasks.sleep, _sleep),
        (tasks.burn, _burn),
    )
}
