"""The master's workers: which place has a child, and which child has a job.

Knows nothing of Redis and forks nothing (Pitchfork's child table): it is fed with events, and gives
the children what they are told. A worker is free while it holds no job, even if its next child is
still being forked: the claim then waits here for the child, and the fork's cost stays off the path.
One whose child could not be had is free again when it has one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import chain

from rqd.daemon.workers.mailbox import LONGEST_MESSAGE_BYTES
from rqd.daemon.workers.worker import HARD_KILL_AFTER_S, Child, Run, Worker
from rqd.daemon.zygote import protocol
from rqd.daemon.zygote.protocol import encode_frame
from rqd.daemon.zygotes.events import Forked
from rqd.model.outcome import Stopped, TimedOut
from rqd.model.records import Claim
from rqd.model.resources import NO_RESOURCE_LIMITS, ResourceLimits

_MOST_EARLY = 100
# Whoever follows says so again in less.
_FOLLOWED_S = 10.0


class Workers:
    """All places by number."""

    def __init__(self, jobs_per_child: int, limits: ResourceLimits = NO_RESOURCE_LIMITS) -> None:
        self.jobs_per_child = jobs_per_child  # of those that are attached from now on
        self.limits = limits  # of jobs that say nothing else
        self.limited: list[Run] = []  # those with a limit of memory or cpu time
        self.telling: list[Run] = []  # those whose news are not written yet
        self.asking: list[Run] = []  # those whose jobs ask for their record
        # More time for attempts whose claims are still on their way, by id and fence.
        self._early_s: dict[tuple[str, int], float] = {}
        self.followed: dict[int, Run] = {}  # by worker
        self.by_number: dict[int, Worker] = {}
        self._knows_suspects = False  # one was held since this was looked at

    def __iter__(self) -> Iterator[Worker]:
        return iter(self.by_number.values())

    def free_numbers(self, now: float) -> list[int]:
        """Workers that can take a job, those with a waiting child first; none beside a suspect."""
        if self.has_suspect(now):
            return []
        free = [worker for worker in self if worker.is_free]
        free.sort(key=lambda worker: worker.child is None or worker.child.jobs_left < 1)
        return [worker.number for worker in free]

    def has_waiting_child(self) -> bool:
        """True if a job claimed now could start now."""
        return any(
            worker.wanted and worker.run is None and worker.child and worker.child.jobs_left > 0
            for worker in self
        )

    def waiting_pids(self, numbers: list[int]) -> dict[int, int]:
        """The pid of the child that waits in each of these workers, where one does."""
        found = {}
        for number in numbers:
            child = self.by_number[number].child
            if child is not None and child.jobs_left > 0:
                found[number] = child.pid
        return found

    def runs(self) -> list[Run]:
        """The jobs that run, or start as soon as there is a child for them."""
        return [worker.run for worker in self if worker.run is not None]

    def busy(self, unrecorded: Collection[Run]) -> int:
        """How many workers have a job, or had one whose end is not recorded yet: one of these."""
        ending = {run.worker for run in unrecorded}
        return sum(one.run is not None or (one.wanted and one.number in ending) for one in self)

    def held(self) -> list[Run]:
        """All jobs that are leased to this master: those that run, and those behind them."""
        return [run for worker in self for run in worker.held()]

    def holds(self, run: Run) -> bool:
        """True until this attempt has ended here."""
        worker = self.by_number[run.worker]
        return worker.run is run or run in worker.ahead

    def run_of(self, job_id: str, fence: int) -> Run | None:
        """The attempt with this fence, if a worker holds it."""
        found = (run for run in self.runs() if (run.claim.id, run.claim.fence) == (job_id, fence))
        return next(found, None)

    def has_suspect(self, now: float) -> bool:
        """True while a worker holds a job that has to run alone."""
        # Most often there was none, and this is asked at each start.
        if self._knows_suspects:
            self._knows_suspects = any(run.claim.is_suspect for run in self.held())
        return self._knows_suspects and any(run.is_to_be_alone(now) for run in self.runs())

    def attach(self, forked: Forked, zygote: int = 0) -> Worker:
        """A child has arrived in its place."""
        worker = self.by_number[forked.worker]
        jobs = self.jobs_per_child
        mailbox = forked.mailbox
        worker.child = Child(forked.pid, forked.channel, forked.pidfd, jobs, zygote, mailbox)
        worker.lacks_child = False
        worker.segments.clear()
        return worker

    def assign(self, claim: Claim, now: float = 0.0) -> Run:
        """The worker the claim names holds the job from now on, behind others if it has some."""
        worker = self.by_number[claim.worker]
        granted_s = self._early_s.pop((claim.id, claim.fence), 0.0) if self._early_s else 0.0
        limits = self.limits.of_job(claim.terms)
        self._knows_suspects = self._knows_suspects or claim.is_suspect
        run = Run(claim, claim.worker, claimed_at=now, limits=limits, granted_s=granted_s)
        if worker.run is None:
            worker.run = run
        else:
            worker.ahead.append(run)
        if limits:
            self.limited.append(run)
        return run

    def note_shown_pid(self, number: int, pid: int) -> None:
        """What the claim wrote into the worker's row: the child that waited when it was asked for,
        0 if none did; by the time of the answer it may be another.
        """
        worker = self.by_number[number]
        if worker.run is not None:
            worker.run.shown_pid = pid
            worker.is_shown = pid != 0

    def unshown(self) -> list[Worker]:
        """Those whose rows name no process, though there is one by now."""
        return [worker for worker in self if worker.child is not None and not worker.is_shown]

    def refresh_pids(self) -> bool:
        """True if a running job's row names another process than its own, or a row names none;
        taken as corrected.
        """
        wrong = self.unshown()
        for worker in self:
            run, child = worker.run, worker.child
            if run and child and run.sent_at is not None and run.shown_pid != child.pid:
                run.shown_pid = child.pid
                wrong.append(worker)
        for worker in wrong:
            worker.is_shown = True
        return bool(wrong)

    def send(self, worker: Worker, now: float) -> bool:
        """Hands the worker's job to its waiting child, if both are there; True if bytes remain."""
        run, child = worker.run, worker.child
        if run is None or child is None or child.jobs_left < 1 or run.sent_at is not None:
            return False
        if not self._may_start(run, now):
            return False
        frame = run.frame(protocol.JOB)
        if child.mailbox is not None:
            # What has no room there, as hosts have less of it than usual, goes by the channel.
            run.is_posted = len(frame) <= LONGEST_MESSAGE_BYTES and child.mailbox.post(frame)
            if not run.is_posted and not child.mailbox.post(run.large_frame()):
                return False
        run.start(now)
        child.jobs_left -= 1
        if not run.is_posted:
            # Behind what an earlier one has asked for and not read, if anything.
            child.outbox = memoryview(bytes(child.outbox) + frame)
        return self.push(worker)

    def follow(self, job_id: str, fence: int, is_first: bool, now: float) -> bool:
        """Somebody follows the output of the attempt with this fence; False if none has it.

        `is_first`: they have nothing of it yet.
        """
        for worker in self:
            run = worker.run
            if run is not None and (run.claim.id, run.claim.fence) == (job_id, fence):
                run.followed_until = now + _FOLLOWED_S
                if is_first:
                    run.published_bytes = -1  # even if there is nothing yet
                self.followed[worker.number] = run
                return True
        return False

    def unpublished(self, now: float) -> list[Worker]:
        """Those whose output is followed, and has more to be read."""
        found = []
        for number, run in [*self.followed.items()]:
            worker = self.by_number[number]
            if worker.run is not run or now >= run.followed_until:
                del self.followed[number]
            elif worker.tail.total_bytes > run.published_bytes:
                found.append(worker)
        return found

    def extend(self, job_id: str, fence: int, seconds: float) -> Worker | None:
        """So much more time for the attempt with this fence; the worker that runs it, if one does.

        The child is told: it reads that when its time is over.
        """
        for run in self.held():
            if (run.claim.id, run.claim.fence) != (job_id, fence):
                continue
            worker = self.by_number[run.worker]
            child = worker.child
            run.granted_s += seconds
            run.set_deadline()
            if run.sent_at is not None and child is not None:
                # What its child leaves unread is this frame then, and not the job.
                is_taken = not (child.outbox or child.has_unread())
                if child.has_hung_up():
                    return worker  # how it ended is on its way
                run.is_taken = run.is_taken or is_taken
                told = encode_frame(protocol.EXTEND, run.claim.token.encode(), b"%f" % seconds)
                child.outbox = memoryview(bytes(child.outbox) + told)
            return worker
        self._early_s[job_id, fence] = self._early_s.get((job_id, fence), 0.0) + seconds
        if len(self._early_s) > _MOST_EARLY:
            del self._early_s[next(iter(self._early_s))]
        return None

    def answer_ask(self, run: Run, fields: Mapping[bytes, bytes]) -> Worker | None:
        """The job's record for the job that asked, if it still runs; its worker then."""
        run.news.asks_record = False
        worker = self.by_number[run.worker]
        if worker.run is not run or worker.child is None or worker.child.outbox:
            return None  # one that asks again before it has read the answer can wait
        if run.is_moved and (named := fields.get(b"worker")):
            # It may be another one until the next heartbeat.
            fields = {**fields, b"worker": b"%b:%d" % (named.rpartition(b":")[0], run.worker)}
        told = chain.from_iterable(fields.items())
        frame = encode_frame(protocol.RECORD, run.claim.token.encode(), *told)
        worker.child.outbox = memoryview(bytes(worker.child.outbox) + frame)
        return worker

    def _may_start(self, run: Run, now: float) -> bool:
        """A suspect starts when no other job is here but suspects that wait as it does, or when it
        has waited for long.
        """
        if not self._knows_suspects:
            return True
        others = [other for other in self.runs() if other is not run]
        if run.is_to_be_alone(now):
            return all(o.claim.is_suspect and o.sent_at is None for o in others)
        return not any(o.is_to_be_alone(now) and o.sent_at is not None for o in others)

    def push(self, worker: Worker) -> bool:
        """Writes more of a job's frame; True if bytes are left for when the channel is writable."""
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
        self, run: Run, verdict: Stopped | TimedOut, kill_at: float, now: float
    ) -> Child | None:
        """A running job is to stop, or be killed then; its child, which takes no more jobs, or None
        if no child has begun it.
        """
        child = self.make_last(run, now)
        if child is None:
            return None
        if run.killed_at is None and not isinstance(run.verdict, Stopped):
            run.verdict = verdict
        run.stop_by = min(kill_at, run.stop_by)
        run.set_deadline()
        return child

    def make_last(self, run: Run, now: float) -> Child | None:
        """The child that runs this job takes no other one after it; None if it has not begun it,
        and leaves without it.
        """
        worker = self.by_number[run.worker]
        self.give_no_more(worker, now)
        return worker.child if run.sent_at is not None else None

    def give_no_more(self, worker: Worker, now: float) -> None:
        """A worker's child takes no other job than the one that it has begun, and has to leave."""
        worker.recall()
        child, run = worker.child, worker.run
        if child is None or child.jobs_left < 1:
            return
        child.jobs_left = 0
        # Told after its answer, if there is to be one: nothing else would have it leave.
        child.expects_more = run is not None and run.sent_at is not None
        if not child.expects_more:
            child.end_jobs()
            child.leave_by = now + HARD_KILL_AFTER_S

    def detach(self, worker: Worker) -> None:
        """Forgets a worker's child."""
        if worker.child is not None:
            worker.recall()
            worker.child.close()
            worker.child = None
