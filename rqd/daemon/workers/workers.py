"""The table of the master's workers: each slot's child, and each child's job.

Knows nothing of Redis and forks nothing (Pitchfork's child table): it is fed with events, and
writes frames to the children. A worker is free while it holds no job, even if its next child is
still being forked. The claim then waits here for the child, and the fork's cost stays off the path.
A worker whose child could not be had is free again when it has a child.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import chain

from rqd.daemon.workers.mailbox import LONGEST_MESSAGE_BYTES
from rqd.daemon.workers.worker import HARD_KILL_AFTER_S, Attempt, AttemptState, Child, Worker
from rqd.daemon.zygote import protocol
from rqd.daemon.zygote.protocol import encode_frame
from rqd.daemon.zygotes.events import Forked
from rqd.model.outcome import Stopped, TimedOut
from rqd.model.records import Claim
from rqd.model.resources import NO_RESOURCE_LIMITS, ResourceLimits

_MOST_EARLY = 100
# A client that follows the output says so again in less.
_FOLLOWED_S = 10.0


class Workers:
    """The workers by number, with the attempts that need attention."""

    def __init__(self, jobs_per_child: int, limits: ResourceLimits = NO_RESOURCE_LIMITS) -> None:
        self.jobs_per_child = jobs_per_child  # for children that are attached from now on
        self.limits = limits  # for jobs that have no limits of their own
        self.limited: list[Attempt] = []  # attempts with a limit of memory or cpu time
        self.telling: list[Attempt] = []  # attempts whose updates are not written yet
        self.asking: list[Attempt] = []  # attempts whose jobs ask for their record
        # More time for attempts whose claims are still on their way, by id and fence.
        self._early_s: dict[tuple[str, int], float] = {}
        self.followed: dict[int, Attempt] = {}  # by worker
        self.by_number: dict[int, Worker] = {}
        self._knows_suspects = False  # a suspect was held when this was last looked at, or since

    def __iter__(self) -> Iterator[Worker]:
        return iter(self.by_number.values())

    def free_numbers(self, now: float) -> list[int]:
        """Numbers of workers that can run a job, with a waiting child first; none beside a
        suspect.
        """
        if self.has_suspect(now):
            return []
        free = [worker for worker in self if worker.is_free]
        free.sort(key=lambda worker: worker.child is None or worker.child.jobs_left < 1)
        return [worker.number for worker in free]

    def has_waiting_child(self) -> bool:
        """True if a job that is claimed now could start at once."""
        return any(
            worker.wanted and worker.attempt is None and worker.child and worker.child.jobs_left > 0
            for worker in self
        )

    def waiting_pids(self, numbers: list[int]) -> dict[int, int]:
        """The pid of the waiting child of each of these workers, by number, where there is one."""
        found = {}
        for number in numbers:
            child = self.by_number[number].child
            if child is not None and child.jobs_left > 0:
                found[number] = child.pid
        return found

    def current_attempts(self) -> list[Attempt]:
        """The current attempts: they run, or start as soon as there is a child for them."""
        return [worker.attempt for worker in self if worker.attempt is not None]

    def busy(self, unrecorded: Collection[Attempt]) -> int:
        """How many workers have a job, or had an attempt of `unrecorded`, whose end is not in Redis
        yet.
        """
        ending = {attempt.worker for attempt in unrecorded}
        return sum(one.attempt is not None or (one.wanted and one.number in ending) for one in self)

    def held(self) -> list[Attempt]:
        """All attempts that are leased to this master: the current and the prefetched."""
        return [attempt for worker in self for attempt in worker.held()]

    def holds(self, attempt: Attempt) -> bool:
        """True until this attempt has ended here."""
        worker = self.by_number[attempt.worker]
        return worker.attempt is attempt or attempt in worker.ahead

    def attempt_of(self, job_id: str, fence: int) -> Attempt | None:
        """The current attempt with this fence; None if no worker has it."""
        found = (
            attempt
            for attempt in self.current_attempts()
            if (attempt.claim.id, attempt.claim.fence) == (job_id, fence)
        )
        return next(found, None)

    def has_suspect(self, now: float) -> bool:
        """True while a worker holds a job that has to run alone."""
        # Most often there is no suspect, and this is asked at each start.
        if self._knows_suspects:
            self._knows_suspects = any(attempt.claim.is_suspect for attempt in self.held())
        return self._knows_suspects and any(
            attempt.is_to_be_alone(now) for attempt in self.current_attempts()
        )

    def attach(self, forked: Forked, zygote: int = 0) -> Worker:
        """Puts a child into its worker, and returns the worker."""
        worker = self.by_number[forked.worker]
        jobs = self.jobs_per_child
        mailbox = forked.mailbox
        worker.child = Child(forked.pid, forked.channel, forked.pidfd, jobs, zygote, mailbox)
        worker.lacks_child = False
        worker.segments.clear()
        return worker

    def assign(self, claim: Claim, now: float = 0.0) -> Attempt:
        """Gives a claimed job to the worker that the claim names, behind its other jobs if any."""
        worker = self.by_number[claim.worker]
        granted_s = self._early_s.pop((claim.id, claim.fence), 0.0) if self._early_s else 0.0
        limits = self.limits.of_job(claim.terms)
        self._knows_suspects = self._knows_suspects or claim.is_suspect
        attempt = Attempt(claim, claim.worker, claimed_at=now, limits=limits, granted_s=granted_s)
        if worker.attempt is None:
            worker.attempt = attempt
        else:
            worker.ahead.append(attempt)
        if limits:
            self.limited.append(attempt)
        return attempt

    def note_row_pid(self, number: int, pid: int) -> None:
        """Notes the pid that the claim wrote into the worker's row.

        It is the child that waited when the claim was sent, 0 without one. By the time of the
        answer it may be another child.
        """
        worker = self.by_number[number]
        if worker.attempt is not None:
            worker.attempt.row_pid = pid
            worker.row_has_pid = pid != 0

    def without_row_pid(self) -> list[Worker]:
        """Workers whose rows name no process, although they have a child by now."""
        return [worker for worker in self if worker.child is not None and not worker.row_has_pid]

    def refresh_pids(self) -> bool:
        """True if a worker's row names no process, or another process than its running job's.

        Marks these rows as corrected: the caller has to write them.
        """
        wrong = self.without_row_pid()
        for worker in self:
            attempt, child = worker.attempt, worker.child
            if (
                attempt
                and child
                and attempt.started_at is not None
                and attempt.row_pid != child.pid
            ):
                attempt.row_pid = child.pid
                wrong.append(worker)
        for worker in wrong:
            worker.row_has_pid = True
        return bool(wrong)

    def send(self, worker: Worker, now: float) -> bool:
        """Gives the worker's job to its waiting child, if both are there; True if bytes remain."""
        attempt, child = worker.attempt, worker.child
        if (
            attempt is None
            or child is None
            or child.jobs_left < 1
            or attempt.started_at is not None
        ):
            return False
        if not self._may_start(attempt, now):
            return False
        frame = attempt.frame(protocol.JOB)
        if child.mailbox is not None:
            # A job that is too large for it, or finds no room as on hosts with small buffers, goes
            # by the channel.
            attempt.is_posted = len(frame) <= LONGEST_MESSAGE_BYTES and child.mailbox.post(frame)
            if not attempt.is_posted and not child.mailbox.post(attempt.large_frame()):
                return False
        attempt.start(now)
        child.jobs_left -= 1
        if not attempt.is_posted:
            # Behind a record that an earlier job has asked for and not read, if there is any.
            child.outbox = memoryview(bytes(child.outbox) + frame)
        return self.push(worker)

    def follow(self, job_id: str, fence: int, is_first: bool, now: float) -> bool:
        """Notes that a client follows the output of the attempt with this fence.

        `is_first`: the client has nothing of it yet. False if no worker runs the attempt.
        """
        for worker in self:
            attempt = worker.attempt
            if attempt is not None and (attempt.claim.id, attempt.claim.fence) == (job_id, fence):
                attempt.followed_until = now + _FOLLOWED_S
                if is_first:
                    attempt.published_bytes = -1  # even if there is nothing yet
                self.followed[worker.number] = attempt
                return True
        return False

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

    def extend(self, job_id: str, fence: int, seconds: float) -> Worker | None:
        """Gives the attempt with this fence so many seconds more; returns its worker.

        A child that has the job gets a frame, which it reads when its time is over. None if no
        worker has the attempt: its claim may be on its way, so the seconds are kept for it.
        """
        for attempt in self.held():
            if (attempt.claim.id, attempt.claim.fence) != (job_id, fence):
                continue
            worker = self.by_number[attempt.worker]
            child = worker.child
            attempt.granted_s += seconds
            attempt.set_deadline()
            if attempt.started_at is not None and child is not None:
                # From here on unread bytes can be this frame, and prove nothing about the job.
                is_taken = not (child.outbox or child.has_unread())
                if child.has_hung_up():
                    return worker  # the child is gone: the report of its exit is on its way
                attempt.is_taken = attempt.is_taken or is_taken
                told = encode_frame(protocol.EXTEND, attempt.claim.token.encode(), b"%f" % seconds)
                child.outbox = memoryview(bytes(child.outbox) + told)
            return worker
        self._early_s[job_id, fence] = self._early_s.get((job_id, fence), 0.0) + seconds
        if len(self._early_s) > _MOST_EARLY:
            del self._early_s[next(iter(self._early_s))]
        return None

    def answer_ask(self, attempt: Attempt, fields: Mapping[bytes, bytes]) -> Worker | None:
        """Queues a job's record for its child, as the job asked for it; returns the worker.

        None if the job does not run any more, or its child has not read an earlier frame.
        """
        attempt.updates.asks_record = False
        worker = self.by_number[attempt.worker]
        if worker.attempt is not attempt or worker.child is None or worker.child.outbox:
            return None  # a job that asks again before it has read the answer can wait
        if attempt.is_moved and (named := fields.get(b"worker")):
            # The row may name the worker of the claim until the next heartbeat.
            fields = {**fields, b"worker": b"%b:%d" % (named.rpartition(b":")[0], attempt.worker)}
        told = chain.from_iterable(fields.items())
        frame = encode_frame(protocol.RECORD, attempt.claim.token.encode(), *told)
        worker.child.outbox = memoryview(bytes(worker.child.outbox) + frame)
        return worker

    def _may_start(self, attempt: Attempt, now: float) -> bool:
        """True if no suspect forbids the start.

        A suspect starts when all other jobs here are suspects that wait, or after a long wait.
        Other jobs wait during a suspect's first minute of running.
        """
        if not self._knows_suspects:
            return True
        others = [other for other in self.current_attempts() if other is not attempt]
        if attempt.is_to_be_alone(now):
            return all(o.claim.is_suspect and o.started_at is None for o in others)
        return not any(o.is_to_be_alone(now) and o.started_at is not None for o in others)

    def push(self, worker: Worker) -> bool:
        """Writes more of a child's outbox; True if bytes are left until it is writable again."""
        child = worker.child
        if child is None or not child.outbox:
            return False
        try:
            child.outbox = child.outbox[child.channel.send(child.outbox) :]
        except BlockingIOError:
            return True
        except (BrokenPipeError, ConnectionResetError):
            child.unread = True  # it died before it had read the job; its exit is on its way
            child.outbox = memoryview(b"")
        return bool(child.outbox)

    def stop_soon(
        self, attempt: Attempt, verdict: Stopped | TimedOut, kill_at: float, now: float
    ) -> Child | None:
        """Notes that an attempt is to stop, and when it is killed otherwise.

        Returns its child, which gets no more jobs; None if no child has begun the attempt.
        """
        child = self.make_last(attempt, now)
        if child is None:
            return None
        if attempt.killed_at is None and not isinstance(attempt.verdict, Stopped):
            attempt.verdict = verdict
        attempt.stop_by = min(kill_at, attempt.stop_by)
        if attempt.state is AttemptState.RUNNING:
            attempt.state = AttemptState.STOPPING
        attempt.set_deadline()
        return child

    def make_last(self, attempt: Attempt, now: float) -> Child | None:
        """Makes this job the last of its child, and returns the child.

        None if the child has not begun the job: the child then leaves without it.
        """
        worker = self.by_number[attempt.worker]
        self.retire_after_current(worker, now)
        return worker.child if attempt.started_at is not None else None

    def retire_after_current(self, worker: Worker, now: float) -> None:
        """Has a worker's child leave, after the job that it has begun, if any."""
        worker.recall()
        child, attempt = worker.child, worker.attempt
        if child is None or child.jobs_left < 1:
            return
        child.jobs_left = 0
        # After a running job the end comes with the answer: nothing else would have it leave.
        child.expects_more = attempt is not None and attempt.started_at is not None
        if not child.expects_more:
            child.end_jobs()
            child.leave_by = now + HARD_KILL_AFTER_S

    def detach(self, worker: Worker) -> None:
        """Closes and forgets a worker's child, after taking back the jobs that it has not read."""
        if worker.child is not None:
            worker.recall()
            worker.child.close()
            worker.child = None
