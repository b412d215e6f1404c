"""Who is measured: how each is started, takes jobs, and has its finished jobs counted.

All get the same server, the same functions, four processes, results stored, and little logging.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.contenders.base import Contender
from benchmarks.contenders.celery import Celery
from benchmarks.contenders.dramatiq import Dramatiq
from benchmarks.contenders.huey import Huey
from benchmarks.contenders.rq import RqPool
from benchmarks.contenders.rqd import MANY, Rqd
from benchmarks.contenders.ruby import sidekiq
from benchmarks.contenders.taskiq import Taskiq
from benchmarks.server import Server

Makers = Mapping[str, Callable[[Server], Contender]]


def _reusing(server: Server) -> Rqd:
    return Rqd(server, jobs_per_child=MANY)


def _simple_workers(server: Server) -> RqPool:
    return RqPool(server, worker="PreloadedSimpleWorker")


# Whose processes run job after job.
PYTHON_PEERS: Makers = {
    "RQ's SimpleWorker": _simple_workers,
    "Celery": Celery,
    "Dramatiq": Dramatiq,
    "Huey": Huey,
    "taskiq": Taskiq,
}
PEERS: Makers = {**PYTHON_PEERS, "Sidekiq": sidekiq}
RQD: Makers = {"rqd": Rqd}
REUSING: Makers = {"rqd": _reusing}
RQ: Makers = {"RQ": RqPool}
