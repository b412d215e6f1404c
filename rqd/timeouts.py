"""JobTimeoutException, at the path RQ's users know."""

from rqd.client.rq_compat import names_elsewhere
from rqd.model.errors import JobTimeoutException

TYPE_CHECKING = False  # as typing has it, whose import would be paid at every fork

__all__ = ["JobTimeoutException"]


if not TYPE_CHECKING:  # type checkers know what is there, and what is not
    __getattr__ = names_elsewhere("rqd.timeouts", {})
