"""Results, at RQ's path. The code is in `rqd.client`."""

from rqd.client.results import Result, ResultType
from rqd.client.rq_compat import names_elsewhere

TYPE_CHECKING = False  # as typing has it, whose import would be paid at every fork

__all__ = ["Result", "ResultType"]

if not TYPE_CHECKING:  # type checkers know which names exist
    __getattr__ = names_elsewhere("rqd.results", {})
