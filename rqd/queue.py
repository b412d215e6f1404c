"""Queues, at RQ's path. The code is in `rqd.client`."""

from rqd.client.options import EnqueueData
from rqd.client.queue import Queue
from rqd.client.rq_compat import names_elsewhere

TYPE_CHECKING = False  # as typing has it, whose import would be paid at every fork

__all__ = ["EnqueueData", "Queue"]

if not TYPE_CHECKING:  # type checkers know which names exist
    __getattr__ = names_elsewhere("rqd.queue", {})
