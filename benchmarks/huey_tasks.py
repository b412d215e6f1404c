"""The same jobs as Huey wants them: tasks of an instance that consumer and producer both import."""

import os

from huey import RedisHuey  # type: ignore[import-untyped]

from benchmarks import tasks

huey = RedisHuey("bench", url=os.environ["BENCH_URL"])
noop = huey.task()(tasks.noop)
started_at = huey.task()(tasks.started_at)
