"""RQ's workers with the jobs' module imported before the fork, as RQ's performance notes advise.

BENCH_PRELOAD names what else is imported: an application.
"""

import importlib
import os

from rq import SimpleWorker, Worker

from benchmarks import tasks

if name := os.environ.get("BENCH_PRELOAD"):
    importlib.import_module(name)
PreloadedWorker = Worker
PreloadedSimpleWorker = SimpleWorker
__all__ = ["PreloadedSimpleWorker", "PreloadedWorker", "tasks"]
