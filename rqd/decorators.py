"""The decorator `job`, at RQ's path. The code is in `rqd.client`."""

from rqd.client.decorators import job
from rqd.client.rq_compat import names_elsewhere

TYPE_CHECKING = False  # as typing has it, whose import would be paid at every fork

__all__ = ["job"]

if not TYPE_CHECKING:  # type checkers know which names exist
    __getattr__ = names_elsewhere("rqd.decorators", {})
