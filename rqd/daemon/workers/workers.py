"""The table of the master's workers, and the questions that concern several of them.

A worker is free while it holds no job, even if its next child is still being forked. The claim then
waits here for the child, and the fork's cost stays off the path. A worker whose child could not be
had is free again when it has a child. The table forks nothing and knows nothing of Redis
(Pitchfork's child table).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from rqd.daemon.timers import Timer
from rqd.daemon.workers.attempt import Attempt
from rqd.daemon.workers.worker import Worker
from rqd.model.records import Claim
from rqd.model.resources import NO_RESOURCE_LIMITS, ResourceLimits

_MOST_EARLY = 100
# A client that follows the output says so again in less.
_FOLLOWED_S = 10.0


class Workers:
    """The workers by number, with the attempts that need attention."""

    def __init__(
        self, timer: Timer | None = None, limits: ResourceLimits = NO_RESOURCE_LIMITS
    ) -> None:
        """`timer` is due when a worker needs attention: see `Worker`."""
        self.timer = timer or Timer()
        self.limits = limits  # for jobs that have no limits of their own
        self.limited: list[Attempt] = []  # attempts with a limit of memory or cpu time
        self.updated: list[Attempt] = []  # attempts whose updates are not written yet
        self.asking: list[Attempt] = []  # attempts whose jobs ask for their record
        self.followed: dict[int, Attempt] = {}  # by worker
        self.by_number: dict[int, Worker] = {}
        # More time for attempts whose claims are still on their way, by id and fence.
        self._early_s: dict[tuple[str, int], float] = {}
        self.knows_suspects = False  # a suspect was held when this was last looked at, or since

    def __iter__(self) -> Iterator[Worker]:
        return iter(self.by_number.values())

    def add(self, number: int) -> Worker:
        """Returns the worker with this number, a fresh one if there is none."""
        return self.by_number.setdefault(number, Worker(number, self.timer))

    # -- which workers get jobs ---------------------------------------------------------------

    def free_numbers(self, now: float) -> list[int]:
        """Numbers of workers that can run a job, with a waiting child first; none beside a
        suspect.
        """
        if self.knows_suspects and self.has_suspect(now):
            return []
        free = [worker for worker in self.by_number.values() if worker.is_free]
        free.sort(key=lambda worker: not worker.has_waiting_child)
        return [worker.number for worker in free]

    def waiting_pids(self, numbers: list[int]) -> dict[int, int]:
        """The pid of the waiting child of each of these workers, by number, where there is one."""
        children = {number: self.by_number[number].child for number in numbers}
        return {n: child.pid for n, child in children.items() if child and child.jobs_left > 0}

    def has_suspect(self, now: float) -> bool:
        """True while a worker holds a job that has to run alone."""
        # Most often there is no suspect, and this is asked at each start.
        if self.knows_suspects:
            self.knows_suspects = any(attempt.claim.is_suspect for attempt in self.held())
        return self.knows_suspects and any(a.is_to_be_alone(now) for a in self.current_attempts())

    def may_start(self, attempt: Attempt, now: float) -> bool:
        """True if no suspect forbids the start.

        A suspect starts when all other jobs here are suspects that wait, or after a long wait.
        Other jobs wait during a suspect's first minute of running.
        """
        if not self.knows_suspects:
            return True
        self.timer.hasten(now + 1.0)  # a suspect's minute may be over by then
        others = [other for other in self.current_attempts() if other is not attempt]
        if attempt.is_to_be_alone(now):
            return all(o.claim.is_suspect and o.started_at is None for o in others)
        return not any(o.is_to_be_alone(now) and o.started_at is not None for o in others)

    # -- attempts -----------------------------------------------------------------------------

    def assign(self, claim: Claim, now: float = 0.0) -> Attempt:
        """Gives a claimed job to the worker that the claim names, behind its other jobs if any."""
        granted_s = self._early_s.pop((claim.id, claim.fence), 0.0) if self._early_s else 0.0
        limits = self.limits.of_job(claim.terms) if claim.terms else self.limits
        attempt = Attempt(claim, claim.worker, claimed_at=now, limits=limits, granted_s=granted_s)
        self.knows_suspects = self.knows_suspects or claim.is_suspect
        worker = self.by_number[claim.worker]
        if worker.attempt is None:
            worker.attempt = attempt
        else:
            worker.prefetched.append(attempt)
        if limits is not NO_RESOURCE_LIMITS and limits:
            self.limited.append(attempt)
        return attempt

    def current_attempts(self) -> list[Attempt]:
        """The current attempts: they run, or start as soon as there is a child for them."""
        return [one.attempt for one in self.by_number.values() if one.attempt is not None]

    def held(self) -> list[Attempt]:
        """All attempts that are leased to this master: the current and the prefetched."""
        return [attempt for worker in self.by_number.values() for attempt in worker.held()]

    def holds(self, attempt: Attempt) -> bool:
        """True until this attempt has ended here."""
        return attempt in self.by_number[attempt.worker].held()

    def attempt_of(self, job_id: str, fence: int) -> Attempt | None:
        """The current attempt with this fence; None if no worker has it."""
        found = (
            attempt
            for attempt in self.current_attempts()
            if (attempt.claim.id, attempt.claim.fence) == (job_id, fence)
        )
        return next(found, None)

    def busy(self, unrecorded: Collection[Attempt]) -> int:
        """How many workers have a job, or had an attempt of `unrecorded`, whose end is not in Redis
        yet.
        """
        ending = {attempt.worker for attempt in unrecorded}
        return sum(
            [
                one.attempt is not None or (one.wanted and one.number in ending)
                for one in self.by_number.values()
            ]
        )

    def grant_early(self, job_id: str, fence: int, seconds: float) -> None:
        """Keeps more time for an attempt whose claim may be on its way."""
        self._early_s[job_id, fence] = self._early_s.get((job_id, fence), 0.0) + seconds
        if len(self._early_s) > _MOST_EARLY:
            del self._early_s[next(iter(self._early_s))]

    # -- rows in Redis, updates and output ----------------------------------------------------

    def note_row_pid(self, number: int, pid: int) -> None:
        """Notes the pid that the claim wrote into the worker's row.

        It is the child that waited when the claim was sent, 0 without one. By the time of the
        answer it may be another child.
        """
        worker = self.by_number[number]
        if worker.attempt is not None:
            worker.attempt.row_pid = pid
            worker.row_has_pid = pid != 0

    def refresh_pids(self) -> bool:
        """True if a worker's row names no process, or another process than its running job's.

        Marks these rows as corrected: the caller has to write them.
        """
        wrong = [worker for worker in self if worker.child is not None and not worker.row_has_pid]
        for worker in self:
            attempt, child = worker.attempt, worker.child
            is_running = attempt is not None and attempt.started_at is not None
            if attempt and child and is_running and attempt.row_pid != child.pid:
                attempt.row_pid = child.pid
                wrong.append(worker)
        for worker in wrong:
            worker.row_has_pid = True
        return bool(wrong)

    def note_updates(self, attempt: Attempt) -> None:
        """Notes that an attempt has updates to be written, or that its job asks for its record."""
        if (updates := attempt.updates) is None:
            return
        if updates and attempt not in self.updated:
            self.updated.append(attempt)
        if updates.asks_record and attempt not in self.asking:
            self.asking.append(attempt)

    def follow(self, job_id: str, fence: int, is_first: bool, now: float) -> bool:
        """Notes that a client follows the output of the attempt with this fence.

        `is_first`: the client has nothing of it yet. False if no worker runs the attempt.
        """
        attempt = self.attempt_of(job_id, fence)
        if attempt is None:
            return False
        attempt.followed_until = now + _FOLLOWED_S
        if is_first:
            attempt.published_bytes = -1  # even if there is nothing yet
        self.followed[attempt.worker] = attempt
        return True

    def unpublished(self, now: float) -> list[Worker]:
        """Workers whose output is followed and has bytes that are not published."""
        found = []
        for number, attempt in [*self.followed.items()]:
            worker = self.by_number[number]
            if worker.attempt is not attempt or now >= attempt.followed_until:
                del self.followed[number]
            elif worker.tail.total_bytes > attempt.published_bytes:
                found.append(worker)
        return found
