"""`RateLimit`, at RQ's path. The code is in `rqd.model`."""

from rqd.client.rq_compat import names_elsewhere
from rqd.model.limits import RateLimit

TYPE_CHECKING = False  # as typing has it, whose import would be paid at every fork

__all__ = ["RateLimit"]

if not TYPE_CHECKING:  # type checkers know which names exist
    __getattr__ = names_elsewhere("rqd.rate_limit", {})
