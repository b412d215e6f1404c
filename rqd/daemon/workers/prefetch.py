"""Jobs that workers hold behind the ones they run: how many, given to whom, and back when.

A worker that has much to do holds some for the next 20 ms. A child that takes many jobs gets them
into its mailbox, and goes on by itself; other workers' wait here for the next process. Whoever has
nothing takes of what others hold, as threads do from each other's deques (Blumofe and Leiserson).
"""

from __future__ import annotations

import math
from collections.abc import Collection

from rqd.daemon.workers.mailbox import LONGEST_MESSAGE_BYTES
from rqd.daemon.workers.worker import Run, Worker
from rqd.daemon.workers.workers import Workers
from rqd.daemon.zygote import protocol

# A fork takes about so long.
_FORK_S = 0.002
# With something ahead of all workers, an outcome is recorded so soon at the latest.
_TURN_S = 0.005
# A child that leaves after its job tells nothing more that somebody waits for: of that the zygote
# tells. But before that it may have told how far it is.
_LEAVES_S = 0.02
# Who has nothing takes no job that starts so soon where it is: it costs as much to move it.
_SOON_S = 0.003
# What a worker holds ahead goes back after so long, for whoever is free.
_WAITS_S = 0.05
# And is not begun after so long, should the master have stood still: far less than its lease.
_BEGINS_S = 1.0


class Prefetch:
    """What all workers of a master hold ahead."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._due = 0.0  # nothing has waited for too long before

    def numbers(self, now: float) -> list[int]:
        """Workers for which further jobs may be claimed, each as often as it takes one; none beside
        a suspect.
        """
        wanted = {worker.number: worker.ahead_wanted(now) for worker in self._workers}
        if not any(wanted.values()) or self._workers.has_suspect(now):
            return []
        # Those of all workers in turn, so that few jobs are not all behind one.
        rounds = range(max(wanted.values()))
        return [number for turn in rounds for number, count in wanted.items() if turn < count]

    def need_jobs_in_s(self, now: float) -> float:
        """When there will be a process with nothing to do, as far as can be told; 0 for now."""
        workers = self._workers
        if any(worker.is_free for worker in workers):
            return 0.0 if workers.has_waiting_child() else _FORK_S
        short = [worker for worker in workers if worker.ahead_wanted(now) > len(worker.ahead)]
        if any(worker.child and worker.child.jobs_left > 0 for worker in short):
            return 0.0
        return _FORK_S if short else _TURN_S

    def hear_in_s(self, worker: Worker, now: float) -> float:
        """When to hear a quiet one, at the latest: before a child that goes on by itself has done
        all; ever less often where a job takes longer than the others did.
        """
        if not worker.goes_on:
            return _LEAVES_S
        done_in_s = worker.pace_s * len(worker.ahead) / 2
        return min(_TURN_S, max(done_in_s, (now - worker.began_at) / 2))

    def post(self, worker: Worker, now: float) -> None:
        """Gives a child what its worker holds, behind the job that it runs."""
        child, run = worker.child, worker.run
        if not worker.ahead or child is None or child.mailbox is None or not worker.wanted:
            return
        is_free = run is not None and run.is_posted and run.is_free
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
            child.jobs_left -= 1
            worker.segments.expect(following.mark)

    def share(self, now: float) -> list[Worker]:
        """Gives workers that have nothing some of what waits behind others' jobs, the longest
        waiting first; all whose jobs are others by that.
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
        """Forgets those of these attempts that nothing has begun with."""
        for worker in self._workers:
            if any(run.claim.token in tokens for run in worker.held()):
                worker.recall()
                for run in worker.held():
                    if not run.is_given and run.claim.token in tokens:
                        worker.let_go(run)

    def free_waiting(self, now: float) -> list[Run]:
        """Lets go of what waits behind a job that takes longer than was thought, or in a place that
        was taken away.
        """
        if now < self._due and all(worker.wanted for worker in self._workers):
            return []
        freed: list[Run] = []
        for worker in self._workers:
            if now >= _waits_since(worker) + _WAITS_S:
                freed += worker.release_prefetched()
            elif not worker.wanted:
                freed += worker.release_unstarted()
        # What is claimed from now on has its time, too.
        self._due = min([now, *map(_waits_since, self._workers)]) + _WAITS_S
        return freed

    def next_due(self) -> float:
        """When `free_waiting` has something to do, at the earliest."""
        return self._due if any(worker.ahead for worker in self._workers) else math.inf


def _waits_since(worker: Worker) -> float:
    """Since when the first one of those ahead has waited; infinity for none."""
    waiting = (run.claimed_at for run in worker.ahead if not run.is_taken)
    return next(waiting, math.inf)
