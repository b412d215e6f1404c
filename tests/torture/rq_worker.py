"""RQ's worker as its documentation advises: the jobs' module imported before the fork.

It looks after its registries far more often than by default (where idle, every 7 to 10 minutes),
so that what it does find again is found while the campaign waits.
"""

from typing import Any

from rq import Worker

from tests.torture import workload

_OFTEN = {"maintenance_interval": 15, "job_monitoring_interval": 5, "worker_ttl": 25}


class PreloadedWorker(Worker):  # type: ignore[misc]  # RQ is not always there to be typed
    """Looks for abandoned jobs every 15 s, and beats every 5 s."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **_OFTEN, **options)


__all__ = ["PreloadedWorker", "workload"]
