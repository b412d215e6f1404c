"""JobTimeoutException, at the path RQ's users know."""

from rqd.model.errors import JobTimeoutException

__all__ = ["JobTimeoutException"]
