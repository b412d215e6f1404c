"""The actions of operators. Each function does one, and returns its result in a few words."""

from __future__ import annotations

from rqd.client.control import DEFAULT_GRACE_S
from rqd.client.queue import Queue
from rqd.model.errors import InvalidJobOperation
from rqd.web.frame import Look, action
from rqd.web.job import visible_job


@action("pause", "queue")
def pause(look: Look) -> str:
    """Pauses a queue, for the time in `for` or until it is resumed."""
    time = look.param("for").strip()
    _queue(look).pause(time or None)
    return f"queue {look.param('queue')} paused{f' for {time}' if time else ''}"


@action("resume", "queue")
def resume(look: Look) -> str:
    """Resumes a queue."""
    _queue(look).resume()
    return f"queue {look.param('queue')} resumed"


@action("empty", "queue")
def empty(look: Look) -> str:
    """Deletes the waiting jobs of a queue."""
    deleted = _queue(look).empty()
    return f"{deleted:,} {'job' if deleted == 1 else 'jobs'} of {look.param('queue')} deleted"


@action("stop", "id")
def stop(look: Look) -> str:
    """Stops a running job: raises an exception in it, and kills it after `grace`."""
    job = visible_job(look)
    job.stop(look.param("grace").strip() or DEFAULT_GRACE_S, by=look.access.who)
    return f"job {job.id} is asked to stop"


@action("extend", "id")
def extend(look: Look) -> str:
    """Gives a running job more time, as much as `more` says."""
    job, more = visible_job(look), look.param("more").strip()
    if job.timeout <= 0:
        raise InvalidJobOperation(f"job {job.id} has no time limit: there is nothing to extend")
    job.extend(more)
    return f"the time limit of job {job.id} is asked to grow by {more}"


@action("requeue", "id")
def requeue(look: Look) -> str:
    """Runs an ended job again."""
    job = visible_job(look)
    job.requeue()
    return f"job {job.id} requeued"


@action("cancel", "id")
def cancel(look: Look) -> str:
    """Cancels a waiting job."""
    job = visible_job(look)
    job.cancel()
    return f"job {job.id} canceled"


@action("delete", "id")
def delete(look: Look) -> str:
    """Deletes a job with all its records; kills it if it runs."""
    job = visible_job(look)
    job.delete()
    return f"job {job.id} deleted"


def _queue(look: Look) -> Queue:
    name = look.param("queue")
    look.check_sees(name, f"queue {name!r}")
    return Queue(name, look.backend)
