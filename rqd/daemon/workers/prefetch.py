"""Prefetches jobs: decides how many a worker holds, and when they go elsewhere.

A busy worker holds jobs for the next 20 ms. A reused child gets them into its mailbox, and goes on
by itself. With single-use children they wait here for the next process. An idle worker steals from
others, as threads do from each other's deques (Blumofe and Leiserson).
"""

from __future__ import annotations

import math
from collections.abc import Collection

from rqd.daemon.workers.mailbox import LONGEST_MESSAGE_BYTES
from rqd.daemon.workers.worker import Attempt, AttemptState, Worker
from rqd.daemon.workers.workers import Workers
from rqd.daemon.zygote import protocol

# Duration of a fork, about.
_FORK_S = 0.002
# While all workers have prefetched jobs, an outcome is recorded after so long at the latest.
_TURN_S = 0.005
# A child that leaves after its job is read so late: the zygote reports its exit anyway. But it may
# have sent an update before.
_LEAVES_S = 0.02
# A job that will start so soon is not stolen: to move it costs as much.
_SOON_S = 0.003
# A prefetched job goes back to its queue after so long, for any free worker.
_WAITS_S = 0.05
# A child begins no prefetched job after so long, in case the master stood still: far less than a
# lease.
_BEGINS_S = 1.0


class Prefetch:
    """The prefetched jobs of all workers."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._due = 0.0  # no job has waited for too long before this

    def numbers(self, now: float) -> list[int]:
        """Numbers of workers for which jobs may be prefetched, each once for each job; none beside
        a suspect.
        """
        wanted = {worker.number: worker.ahead_wanted(now) for worker in self._workers}
        if not any(wanted.values()) or self._workers.has_suspect(now):
            return []
        # All workers in turn, so that a few jobs do not all go to the same worker.
        rounds = range(max(wanted.values()))
        return [number for turn in rounds for number, count in wanted.items() if turn < count]

    def need_jobs_in_s(self, now: float) -> float:
        """Estimates the seconds until a process will have nothing to do; 0 for now."""
        workers = self._workers
        if any(worker.is_free for worker in workers):
            return 0.0 if workers.has_waiting_child() else _FORK_S
        short = [worker for worker in workers if worker.ahead_wanted(now) > len(worker.ahead)]
        if any(worker.child and worker.child.jobs_left > 0 for worker in short):
            return 0.0
        return _FORK_S if short else _TURN_S

    def hear_in_s(self, worker: Worker, now: float) -> float:
        """The seconds until a quiet child is read, at the latest.

        A child that goes on by itself is read before it has run all its jobs. It is read ever less
        often while a job is slower than the jobs before.
        """
        if not worker.has_queued:
            return _LEAVES_S
        done_in_s = worker.pace_s * len(worker.ahead) / 2
        return min(_TURN_S, max(done_in_s, (now - worker.began_at) / 2))

    def post(self, worker: Worker, now: float) -> None:
        """Puts the prefetched jobs of a worker into its child's mailbox, as far as they may."""
        child, attempt = worker.child, worker.attempt
        if not worker.ahead or child is None or child.mailbox is None or not worker.wanted:
            return
        is_free = attempt is not None and attempt.is_posted and attempt.is_free
        if not is_free or self._workers.has_suspect(now):
            return
        for following in worker.ahead:
            if following.is_posted:
                continue
            if child.jobs_left < 1 or not following.is_free or following.claim.is_suspect:
                return
            frame = following.frame(protocol.NEXT, b"%f" % (following.claimed_at + _BEGINS_S))
            if len(frame) > LONGEST_MESSAGE_BYTES or not child.mailbox.post(frame):
                return
            following.is_posted = following.is_behind = True
            following.state = AttemptState.QUEUED
            child.jobs_left -= 1
            worker.segments.expect(following.mark)

    def share(self, now: float) -> list[Worker]:
        """Has workers without a job steal prefetched jobs of others, the longest waiting first.

        Returns all workers whose jobs have changed.
        """
        changed: list[Worker] = []
        if not any(worker.ahead for worker in self._workers):
            return changed
        for number in self._workers.free_numbers(now):
            givers = [worker for worker in self._workers if worker.ahead_lasts_s(now) > _SOON_S]
            if not givers:
                break
            giver, taker = min(givers, key=_waits_since), self._workers.by_number[number]
            taker.take_ahead(giver.give_stolen(), now)
            changed += [taker, giver]
        return changed

    def drop_lost(self, tokens: Collection[str]) -> None:
        """Forgets the attempts with these tokens that no child has begun."""
        for worker in self._workers:
            if any(attempt.claim.token in tokens for attempt in worker.held()):
                worker.recall()
                for attempt in worker.held():
                    if not attempt.is_given and attempt.claim.token in tokens:
                        worker.let_go(attempt)

    def free_waiting(self, now: float) -> list[Attempt]:
        """Gives up prefetched attempts that have waited too long, and returns them.

        Also gives up all attempts that have not begun in a worker that is not wanted any more.
        """
        if now < self._due and all(worker.wanted for worker in self._workers):
            return []
        freed: list[Attempt] = []
        for worker in self._workers:
            if now >= _waits_since(worker) + _WAITS_S:
                freed += worker.release_prefetched()
            elif not worker.wanted:
                freed += worker.release_unstarted()
        # A job that is claimed from now on has its full time, too.
        self._due = min([now, *map(_waits_since, self._workers)]) + _WAITS_S
        return freed

    def next_due(self) -> float:
        """The earliest moment at which `free_waiting` may have work; infinity for never."""
        return self._due if any(worker.ahead for worker in self._workers) else math.inf


def _waits_since(worker: Worker) -> float:
    """The claim time of the first prefetched attempt that waits; infinity if no attempt waits."""
    waiting = (attempt.claimed_at for attempt in worker.ahead if not attempt.is_taken)
    return next(waiting, math.inf)
