"""`WorkerPool`, at RQ's path. The code is in `rqd.client`."""

from rqd.client.rq_compat import names_elsewhere
from rqd.client.worker import WorkerPool

TYPE_CHECKING = False  # as typing has it, whose import would be paid at every fork

__all__ = ["WorkerPool"]

if not TYPE_CHECKING:  # type checkers know which names exist
    __getattr__ = names_elsewhere("rqd.worker_pool", {})
