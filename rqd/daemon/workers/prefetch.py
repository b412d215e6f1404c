"""Prefetches jobs: decides how many a worker holds, and when they go elsewhere.

A busy worker holds jobs for the next 20 ms. A reused child gets them into its mailbox, and goes on
by itself. With single-use children they wait here for the next process. An idle worker steals from
others, as threads do from each other's deques (Blumofe and Leiserson).
"""

from __future__ import annotations

import math
from operator import attrgetter

from rqd.daemon.workers.attempt import Attempt
from rqd.daemon.workers.worker import Worker
from rqd.daemon.workers.workers import Workers

# A busy worker prefetches up to so many jobs, enough for about so long. The next job then starts as
# soon as there is a process for it. A turn settles and claims many jobs.
_MOST_AHEAD = 48
_AHEAD_S = 0.02
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
WAITS_S = 0.05


def numbers_to_prefetch(workers: Workers, now: float) -> list[int]:
    """Numbers of workers for which jobs may be prefetched, each once for each job; none beside a
    suspect.
    """
    wanted = {number: jobs_wanted(worker, now) for number, worker in workers.by_number.items()}
    if not any(wanted.values()) or workers.has_suspect(now):
        return []
    # All workers in turn, so that a few jobs do not all go to the same worker.
    rounds = range(max(wanted.values()))
    return [number for turn in rounds for number, count in wanted.items() if turn < count]


def jobs_wanted(worker: Worker, now: float) -> int:
    """How many more jobs a worker may prefetch.

    As many as it will have run in 20 ms, going by its pace. So no job waits here while another
    master has nothing to do.
    """
    has_rested = worker.attempt is None and now > worker.ended_at + _AHEAD_S
    if not worker.wanted or has_rested or worker.lacks_child:
        return 0
    pace_s = worker.pace_s
    if worker.attempt is not None:
        pace_s = max(pace_s, now - worker.began_at)
    soon = int(_AHEAD_S / max(pace_s, _AHEAD_S / _MOST_AHEAD))
    return max(0, soon - len(worker.prefetched))


def need_jobs_in_s(workers: Workers, now: float) -> float:
    """Estimates the seconds until a process will have nothing to do; 0 for now."""
    free = [worker for worker in workers.by_number.values() if worker.is_free]
    if free:
        return 0.0 if any(worker.has_waiting_child for worker in free) else _FORK_S
    short = [worker for worker in workers if jobs_wanted(worker, now) > len(worker.prefetched)]
    if any(worker.has_waiting_child for worker in short):
        return 0.0
    return _FORK_S if short else _TURN_S


def read_in_s(worker: Worker, now: float) -> float:
    """The seconds until a quiet child is read, at the latest.

    A child that goes on by itself is read before it has run all its jobs. It is read ever less
    often while a job is slower than the jobs before.
    """
    if not worker.has_queued:
        return _LEAVES_S
    done_in_s = worker.pace_s * len(worker.prefetched) / 2
    return min(_TURN_S, max(done_in_s, (now - worker.began_at) / 2))


def hand_over(worker: Worker, workers: Workers, now: float) -> None:
    """Gives a worker's prefetched jobs to its child, as far as they may go there already."""
    if worker.child is None or worker.attempt is None or not worker.wanted:
        return
    if not workers.has_suspect(now):
        worker.child.prefetch(worker.attempt, worker.prefetched)


def steal(workers: Workers, now: float) -> list[Worker]:
    """Has workers without a job steal prefetched jobs of others, the longest waiting first.

    Returns all workers whose jobs have changed.
    """
    changed: list[Worker] = []
    if not any(map(attrgetter("prefetched"), workers.by_number.values())):
        return changed
    for number in workers.free_numbers(now):
        givers = [worker for worker in workers if _lasts_s(worker, now) > _SOON_S]
        if not givers:
            break
        giver, thief = min(givers, key=waits_since), workers.by_number[number]
        waiting = giver.release_prefetched()
        half = (len(waiting) + 1) // 2
        giver.prefetched += waiting[half:]
        thief.add_stolen(waiting[:half], now)
        changed += [thief, giver]
    return changed


def release_late(workers: Workers, now: float) -> list[Attempt]:
    """Gives up prefetched attempts that have waited too long, and returns them.

    Also gives up all attempts that have not begun in a worker that is not wanted any more.
    """
    released: list[Attempt] = []
    for worker in workers:
        if now >= waits_since(worker) + WAITS_S:
            released += worker.release_prefetched()
        elif not worker.wanted:
            released += worker.release_unstarted()
    return released


def waits_since(worker: Worker) -> float:
    """The claim time of the first prefetched attempt that waits; infinity if no attempt waits."""
    waiting = (attempt.claimed_at for attempt in worker.prefetched if not attempt.is_taken)
    return next(waiting, math.inf)


def _lasts_s(worker: Worker, now: float) -> float:
    """Estimates how many seconds the last prefetched job will wait for its start, by the pace.

    0 without a waiting job.
    """
    waiting = sum(not attempt.is_taken for attempt in worker.prefetched)
    return waiting * max(worker.pace_s, now - worker.began_at) if waiting else 0.0
