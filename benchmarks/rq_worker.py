"""RQ's worker with the jobs' module imported before the fork, as RQ's performance notes advise."""

from rq import Worker

from benchmarks import tasks

PreloadedWorker = Worker
__all__ = ["PreloadedWorker", "tasks"]
