"""The bridge from RQ: takes jobs from RQ's queues, and shows RQ what becomes of them.

Its only state is the list of open jobs in Redis. A turn is a look at that list and the next step of
each job; every step may be done twice, by this bridge after a crash or by another beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

from rqd.bridge.rq import (
    is_open_wait,
    new_job,
    shown_end,
    shown_failure,
    shown_waiting,
    standing,
)
from rqd.client.connection import Backend
from rqd.model.errors import DuplicateJobError, RqdError, ServerUnavailableError
from rqd.store.bridge import OpenJob, RqJob, RqSide, Shown, Standing
from rqd.store.errors import RedisGone
from rqd.store.urls import hide_password

# More would not run sooner. The others stay where RQ's own code sees them.
MOST_WAITING = 200
_PORTION = 200
_STOP_GRACE_S = 5.0
_QUEUED_FIRST = Shown(standing("queued", 0), fields={"status": "queued"})
_LOST = (
    "its record in rqd is gone, or another job has its id by now: enqueue it again if it has to run"
)


class Log(Protocol):
    """The part of the daemon's log that the bridge writes to."""

    def debug(self, text: str, **fields: object) -> None:
        """Logs a step of a job on its usual way."""

    def info(self, text: str, **fields: object) -> None:
        """Logs an event of the bridge's normal life."""

    def warning(self, text: str, **fields: object) -> None:
        """Logs an event that an operator may want to see."""


@dataclass(slots=True)
class Counts:
    """How many jobs this bridge has taken, refused, and shown RQ the end of."""

    taken: int = 0
    refused: int = 0
    ended: int = 0


class Bridge:
    """Serves RQ's `queues`, in this order, by rqd's queues of the same names."""

    def __init__(self, backend: Backend, queues: Sequence[str], log: Log) -> None:
        self.counts = Counts()
        self._backend = backend
        self._queues = queues
        self._log = log
        self._side = RqSide(backend.store)

    def run(self, wait: Callable[[float], bool], poll_s: float, *, is_burst: bool) -> None:
        """Takes turns until `wait`, called with seconds between two of them, returns True.

        In a burst it also ends when RQ's queues are empty and no job is open. Redis may go away:
        the next turns try again.
        """
        self._log.info(
            "bridge serves RQ",
            queues=",".join(self._queues),
            url=hide_password(self._backend.url),
            namespace=self._backend.namespace,
        )
        self._take_turns(wait, poll_s, is_burst)
        counts = self.counts
        self._log.info(
            "bridge has stopped", taken=counts.taken, refused=counts.refused, ended=counts.ended
        )

    def _take_turns(self, wait: Callable[[float], bool], poll_s: float, is_burst: bool) -> None:
        is_gone = False
        while True:
            began = monotonic()
            try:
                steps = self.turn()
                # A turn over many open jobs must not keep Redis busy.
                pause_s = 0.0 if steps else max(poll_s, monotonic() - began)
                if is_burst and not steps and not self.has_work():
                    return
                if is_gone:
                    self._log.info("redis is back for the bridge")
                is_gone = False
            except (ServerUnavailableError, *RedisGone) as error:
                if not is_gone:
                    self._log.warning("redis is gone, the bridge tries again", error=error)
                is_gone, pause_s = True, max(poll_s, 1.0)
            if wait(pause_s):
                return

    def turn(self) -> int:
        """Does the next step of each open job, and takes more; returns the number of steps."""
        orders = set(self._side.stop_orders())
        opened = self._side.open_jobs()
        for job in opened:
            if job.id in orders:
                self._stop(job)
        steps, waiting = 0, Counter[str]()
        for start in range(0, len(opened), _PORTION):
            steps += self._advance(opened[start : start + _PORTION], waiting)
        # By queue: the jobs of a queue that no daemon serves must not keep out all others.
        most = {queue: max(MOST_WAITING - waiting[queue], 0) for queue in self._queues}
        taken = self._side.take(most)
        self.counts.taken += taken
        return steps + taken

    def has_work(self) -> bool:
        """True if RQ's queues hold a job, or a job is open."""
        return self._side.has_queued(self._queues) or bool(self._side.open_jobs())

    def _advance(self, jobs: Sequence[OpenJob], waiting: Counter[str]) -> int:
        """Returns how many steps it did; adds to `waiting` the jobs that wait in rqd, by queue."""
        unsent, changed, lost, steps = [], [], [], 0
        standings = self._side.standings([job.id for job in jobs])
        for job, now in zip(jobs, standings, strict=True):
            waiting[job.queue] += now.status == "queued" or not job.shown
            if not job.shown:
                unsent.append(job)
            elif now.request != job.request:
                lost.append(job)
            elif standing(now.status, now.attempt) != job.shown:
                changed.append(job)
            elif is_open_wait(job) and now.rq_status in (None, "canceled"):
                steps += self._cancel(job, now)
        return steps + self._send(unsent) + self._show(changed) + self._give_up(lost)

    def _send(self, jobs: Sequence[OpenJob]) -> int:
        """Enqueues jobs in rqd; a replay of the same request changes nothing."""
        for job, came in zip(jobs, self._side.jobs(jobs) if jobs else (), strict=True):
            if "data" not in came.fields or came.text("status") == "canceled":
                # Its ttl is over, or RQ's user deleted or canceled it: RQ's worker drops it, too.
                self._side.write(job, Shown("dropped", "dropped"))
                continue
            try:
                new = new_job(came, self._backend)
                self._backend.store.enqueue([new], job.request)
            except ServerUnavailableError:
                raise
            except DuplicateJobError:
                self._refuse(job, came, f"rqd has a job {job.id} from elsewhere: choose another id")
            except RqdError as error:
                self._refuse(job, came, str(error))
            else:
                self._side.write(job, _QUEUED_FIRST)
                self._log.debug("job came from RQ", job_id=job.id, queue=job.queue)
        return len(jobs)

    def _refuse(self, job: OpenJob, came: RqJob, why: str) -> None:
        self.counts.refused += self._side.write(job, shown_failure(f"refused by rqd: {why}", came))
        self._log.warning("job of RQ is refused", job_id=job.id, queue=job.queue, error=why)

    def _show(self, jobs: Sequence[OpenJob]) -> int:
        """Shows RQ how jobs stand that have changed since."""
        if not jobs:
            return 0
        views = self._backend.views
        records = views.jobs([job.id for job in jobs])
        for job, came, record in zip(jobs, self._side.jobs(jobs), records, strict=True):
            if record is None:
                continue  # gone since the look: the next turn gives it up
            if not record.status.is_terminal:
                self._side.write(job, shown_waiting(record))
                continue
            latest = views.attempts(job.id, 1)
            attempt = latest[0] if latest else None
            result = views.result_bytes(job.id, attempt) if attempt else None
            shown = shown_end(record, came, attempt, result, self._backend)
            self.counts.ended += self._side.write(job, shown)
            self._log.debug("job's end is shown to RQ", job_id=job.id, became=shown.ending)
            if came.has_dependents:
                self._log.warning("job of RQ has dependents, which wait on", job_id=job.id)
        return len(jobs)

    def _give_up(self, jobs: Sequence[OpenJob]) -> int:
        """Closes jobs whose record in rqd is gone, or is another job's."""
        for job, came in zip(jobs, self._side.jobs(jobs) if jobs else (), strict=True):
            if came.text("ttl") and job.shown == _QUEUED_FIRST.shown:
                self._side.write(job, Shown("gone", "gone"))  # its ttl is over: so goes RQ's record
                continue
            self._side.write(job, shown_failure(_LOST, came))
            self._log.warning("job of RQ has no record in rqd", job_id=job.id, queue=job.queue)
        return len(jobs)

    def _stop(self, job: OpenJob) -> None:
        """Stops a running job that RQ's user has ordered to stop; its end is shown as any other."""
        store = self._backend.store
        found = store.stop(job.id, store.request_id(), "rq", _STOP_GRACE_S)
        self._log.debug("job is to stop, by RQ", job_id=job.id, status=found)

    def _cancel(self, job: OpenJob, now: Standing) -> int:
        """Cancels in rqd a waiting job that RQ's user has canceled or deleted."""
        found = self._backend.store.cancel(job.id)
        self._log.debug("job was canceled in RQ", job_id=job.id, status=found or now.status)
        return 1
