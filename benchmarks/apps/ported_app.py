"""A module of jobs as users of RQ have it, once its import is changed."""

from rqd import Queue, get_current_job
from rqd.decorators import job

mails = Queue("mails")


@job("mails")
def send() -> int:
    """As most are."""
    return 1


def noop() -> int:
    """Does nothing."""
    return 1


__all__ = ["get_current_job", "noop", "send"]
