"""What running jobs tell, on its way to Redis: all jobs' together, at most every 0.2 s."""

from __future__ import annotations

from functools import partial

from rqd.daemon.redis_link import RedisLink
from rqd.daemon.workers import Run, Workers
from rqd.store.exchange import Told

_PAUSE_S = 0.2
_MOST_JOBS = 100  # as many as one script takes


class Reporting:
    """Writes the news of running jobs; those of one that has ended before its outcome."""

    def __init__(self, link: RedisLink, workers: Workers) -> None:
        self._link = link
        self._workers = workers
        self._next_at = 0.0

    def next_due(self) -> float:
        """When `perform` has something to do."""
        return self._next_at if self._workers.telling else float("inf")

    def perform(self, now: float) -> None:
        """Writes what there is to write, if it is time."""
        if self._workers.telling and now >= self._next_at:
            self.write(now)

    def write(self, now: float) -> bool:
        """Writes it now. False if Redis is away, and it has to wait."""
        telling = self._workers.telling
        while telling:
            runs = telling[:_MOST_JOBS]
            told = [told_by(run) for run in runs]
            is_written = self._link.attempt(partial(self._link.store.tell, told), now)
            if is_written is None and now < self._link.retry_at:
                return False
            # Written, or refused: then it would be refused again.
            for run in runs:
                run.news.written()
            del telling[: len(runs)]
        self._next_at = now + _PAUSE_S
        return True


def told_by(run: Run) -> Told:
    """A job's news, as they are written."""
    news, claim = run.news, run.claim
    fields: list[tuple[str, bytes]] = []
    if news.meta is not None:
        meta, signature = news.meta
        fields.append(("meta", meta))
        if signature:
            fields.append(("meta_signature", signature))
    return Told(claim.id, claim.token, news.progress or b"", tuple(fields))
