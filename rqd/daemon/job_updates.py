"""Writes updates of running jobs to Redis: all jobs' together, at most every 0.2 s."""

from __future__ import annotations

from functools import partial

from rqd.daemon.redis_client import RedisLink
from rqd.daemon.timers import Needs, Timers
from rqd.daemon.workers.attempt import Attempt
from rqd.daemon.workers.pool import Pool
from rqd.daemon.workers.updates import PendingUpdates
from rqd.daemon.workers.worker import Worker
from rqd.store.messages import JobUpdate

_PAUSE_S = 0.2
_MOST_JOBS = 100  # the most that a script accepts


class JobUpdates:
    """Writes the jobs' updates and followed output, and fetches records for jobs that ask.

    An ended job's updates are written before its outcome.
    """

    def __init__(self, link: RedisLink, pool: Pool, timers: Timers) -> None:
        self._link = link
        self._pool = pool
        self._workers = pool.workers
        self._next_at = 0.0
        self._timer = timers.timer(self._perform, Needs.REDIS)

    def wake(self) -> None:
        """Sets its timer by the updates, questions and output that jobs have by now."""
        if self._workers.asking:
            self._timer.hasten(0.0)
        elif self._workers.updated or self._workers.unpublished(self._next_at):
            self._timer.hasten(self._next_at)

    def _perform(self, now: float) -> None:
        """Answers jobs that ask for their record; writes updates and output when they are due."""
        if self._workers.asking:
            self._answer_asks(now)
        if now < self._next_at:
            return
        if self._workers.updated:
            self.write(now)
        if followed := self._workers.unpublished(now):
            self._publish(followed, now)

    def write(self, now: float) -> bool:
        """Writes all updates now. False if Redis is away, and they have to wait."""
        updated = self._workers.updated
        while updated:
            attempts = updated[:_MOST_JOBS]
            updates = [update_of(attempt) for attempt in attempts]
            is_written = self._link.try_call(partial(self._link.store.write_updates, updates), now)
            if is_written is None and now < self._link.retry_at:
                return False
            # Written or refused: a refused update would be refused again.
            for attempt in attempts:
                if attempt.updates is not None:
                    attempt.updates.written()
            del updated[: len(attempts)]
        self._next_at = now + _PAUSE_S
        return True

    def _answer_asks(self, now: float) -> None:
        asking, store = self._workers.asking, self._link.store
        while asking:
            fields = self._link.try_call(partial(store.job_fields, asking[0].claim.id), now)
            if fields is None and now < self._link.retry_at:
                return
            self._pool.answer_ask(asking.pop(0), fields or {})

    def _publish(self, followed: list[Worker], now: float) -> None:
        """Sends followed output to Redis; a piece that fails is part of the next one."""
        for worker in followed:
            attempt, tail = worker.attempt, worker.tail
            assert attempt is not None
            piece = tail.since(max(0, attempt.published_bytes))
            update = JobUpdate(attempt.claim.id, attempt.claim.token, output=piece)
            write = partial(self._link.store.write_updates, [update])
            if self._link.try_call(write, now) is not None:
                attempt.published_bytes = tail.total_bytes
        self._next_at = now + _PAUSE_S


def update_of(attempt: Attempt) -> JobUpdate:
    """Returns a job's updates in the form that the store writes."""
    updates, claim = attempt.updates or PendingUpdates(), attempt.claim
    fields: list[tuple[str, bytes]] = []
    if updates.meta is not None:
        meta, signature = updates.meta
        fields.append(("meta", meta))
        if signature:
            fields.append(("meta_signature", signature))
    return JobUpdate(claim.id, claim.token, updates.progress or b"", fields=tuple(fields))
