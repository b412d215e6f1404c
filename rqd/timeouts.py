"""JobTimeoutException, at the path RQ's users know."""

from rqd.client.rq_compat import absent
from rqd.model.errors import JobTimeoutException

TYPE_CHECKING = False  # as typing has it, whose import would be paid at every fork

__all__ = ["JobTimeoutException"]


if not TYPE_CHECKING:  # type checkers know which names exist

    def __getattr__(name: str) -> object:
        raise absent("rqd.timeouts", name)
