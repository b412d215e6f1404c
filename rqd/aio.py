"""rqd for asyncio. The code is in `rqd.client`."""

from rqd.client.aio import Job, Queue, close
from rqd.client.rq_compat import names_elsewhere

TYPE_CHECKING = False  # as typing has it, whose import would be paid at every fork

__all__ = ["Job", "Queue", "close"]

if not TYPE_CHECKING:  # type checkers know which names exist
    __getattr__ = names_elsewhere("rqd.aio", {})
