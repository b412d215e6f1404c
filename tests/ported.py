"""A module of jobs as RQ's users write it, with the import changed."""

import sys

from rqd import Queue, Retry, get_current_job, progress, use_redis
from rqd.decorators import job

use_redis("redis://localhost:1")  # where nobody answers: the jobs here don't ask for it
mails = Queue("mails")


@job("mails", retry=Retry(2))
def send(text: str) -> str:
    """A decorated job, as most are."""
    return text


def look_at_itself() -> tuple[str, bool]:
    """Uses what a job has at hand; returns its own name, and whether that loaded redis-py."""
    progress(0.5)
    this = get_current_job()
    assert this is not None
    return str(this.func_name), "redis" in sys.modules
