"""RQ's worker as its documentation advises: the jobs' module imported before the fork.

Its clean-ups come far more often than by default (every 10 minutes), so that what it does find
again is found while the campaign waits.
"""

from typing import Any

from rq import Worker

from tests.torture import workload


class PreloadedWorker(Worker):  # type: ignore[misc]  # RQ is not always there to be typed
    """Looks for abandoned jobs every 20 s, and beats every 5 s."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, maintenance_interval=20, job_monitoring_interval=5, **options)


__all__ = ["PreloadedWorker", "workload"]
