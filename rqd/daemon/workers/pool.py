"""The pool: the workers with their children, and the zygotes that fork these.

Feeds the table of workers with the loop's events, and returns the attempts that ended. The order
within a wake matters. The zygote's reports come first. The child's channel is read to its end
before its exit is judged. So a success is never taken for a crash.

To follow a death: forking.py gets the zygote's report, reader.py reads what the child has left, and
outcomes.py finds the outcome.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from rqd.daemon.config import Config
from rqd.daemon.event_loop import Loop
from rqd.daemon.host.orphans import become_subreaper, kill_descendants
from rqd.daemon.instance import Instance
from rqd.daemon.log.log import Log
from rqd.daemon.timers import Timers
from rqd.daemon.workers import deadlines, prefetch
from rqd.daemon.workers.attempt import Attempt
from rqd.daemon.workers.channels import Channels
from rqd.daemon.workers.forking import Forking, no_process, put_back
from rqd.daemon.workers.link import queue_record
from rqd.daemon.workers.output import Outputs
from rqd.daemon.workers.reader import Ended
from rqd.daemon.workers.slots import Slots
from rqd.daemon.workers.worker import Worker
from rqd.daemon.workers.workers import Workers
from rqd.daemon.zygote import protocol
from rqd.daemon.zygote.protocol import encode_frame
from rqd.daemon.zygotes.learning import Learning
from rqd.daemon.zygotes.manager import Zygotes
from rqd.daemon.zygotes.process import ZygoteSpawner
from rqd.model.outcome import (
    AskedAgain,
    Lost,
    Outcome,
    Parked,
    Released,
    Stopped,
    Succeeded,
    cause,
)
from rqd.model.records import Claim

# Outcomes that leave a worker no error to show.
_NO_ERRORS = Succeeded | AskedAgain | Released | Parked | Lost | Stopped


class Pool:
    """The workers, their children and the zygotes."""

    def __init__(
        self, config: Config, instance: Instance, loop: Loop, timers: Timers, log: Log
    ) -> None:
        self._timer = timers.timer(self._perform)
        self.workers = Workers(self._timer, config.limits)
        # First of all that starts a process: it would be in the group that has to be left.
        spawner = ZygoteSpawner(config, instance, log)
        hints = config.preload_hints if config.preload_learn else ()
        learning = Learning(is_on=config.preload_learn, hints=hints)
        self.zygotes = Zygotes(spawner, loop, log, learning)
        outputs = Outputs(loop, log)
        self.slots = Slots(self.workers, self.zygotes, outputs, log)
        self.channels = Channels(self.workers, self.slots, outputs, loop, log)
        self.forking = Forking(self.zygotes, self.slots, self.channels, timers, log)
        self._assigned: dict[int, Worker] = {}  # got jobs since the last `start_assigned`
        self.ended_meanwhile: list[Ended] = []  # for the next `poll`

    def start(self, now: float) -> None:
        """Starts a zygote for the configured number of workers."""
        become_subreaper()
        for number in range(1, self.config.workers + 1):
            self.workers.add(number)
        self.forking.boot(now)

    @property
    def config(self) -> Config:
        """The settings of the zygote that serves."""
        return self.zygotes.spawner.config

    @property
    def is_ready(self) -> bool:
        """True while a zygote serves and has imported the application."""
        return self.zygotes.is_ready

    def close(self, spare: set[int]) -> None:
        """Ends the zygotes, their children and all other descendants, but `spare`."""
        for worker in self.workers:
            worker.detach()
        self.zygotes.table.close()
        kill_descendants(spare)

    # -- the loop's events --------------------------------------------------------------------

    def poll(self, ready: set[int], now: float) -> list[Ended]:
        """Handles the descriptors that are ready; returns the attempts that ended."""
        if now >= self._timer.at:
            # First: after a suspension of this process a waiting job may be another master's by
            # now, and must not start here.
            self._release_waiting(now)
        ended, self.ended_meanwhile = self.ended_meanwhile, []
        zygotes = [*self.zygotes.table]
        for zygote in zygotes:
            if zygote.output_fd in ready:
                self.zygotes.table.read_output(zygote)
            if zygote.control_fd in ready and not zygote.is_dismissed:
                ended += self.forking.receive(zygote, now)
        ended += self.channels.read_ready(ready, now)
        if self.zygotes.table.leaving:
            ended += self.forking.end_unreported(now)
            self.forking.dismiss_unneeded(now)
        for zygote in zygotes:
            if zygote.pidfd in ready:
                ended += self.forking.note_loss(zygote, now)
        return ended

    def _perform(self, now: float) -> None:
        """Does all that is due: releases and starts waiting jobs, kills, fills slots."""
        self._release_waiting(now)
        for worker in self.workers:
            if worker.is_out_of_sync:
                # The first job's answer is there, or never comes: nothing else may wake us.
                self.ended_meanwhile += self.channels.stop_prefetch(worker, now)
        for worker in self.workers:
            deadlines.end_due(worker, now)
        for worker in self.workers:
            if worker.attempt is not None and worker.attempt.is_held:
                # A suspect that waited for other jobs, or a job that waited for a suspect.
                self.channels.start(worker, now)
        self.slots.fill_due(now)
        due = [self.channels.read_quiet_at, *self.slots.refill_at.values()]
        for worker in self.workers:
            due += (deadlines.next_due(worker), prefetch.waits_since(worker) + prefetch.WAITS_S)
        self._timer.hasten(0.0 if self.ended_meanwhile else min(due))

    def _release_waiting(self, now: float) -> None:
        """Takes back prefetched jobs that wait too long behind another job.

        Also takes back all jobs that wait for a process which no zygote can fork now.
        """
        late = Released("its worker has no time for it", is_usual=True)
        self.ended_meanwhile += put_back(prefetch.release_late(self.workers, now), late)
        for worker, error in self.slots.take_unfilled():
            self.ended_meanwhile += put_back(worker.release_unstarted(), no_process(error))
        if not self.is_ready:
            self.ended_meanwhile += self.release_unsent("there is no zygote", now)

    # -- jobs ---------------------------------------------------------------------------------

    def assign(self, claim: Claim, now: float) -> None:
        """Gives a claimed job to its worker: see `start_assigned`."""
        self.workers.assign(claim, now)
        worker = self._assigned[claim.worker] = self.workers.by_number[claim.worker]
        if not self.is_ready:
            self._timer.hasten(now)
        elif worker.prefetched:
            self._timer.hasten(now + prefetch.WAITS_S)

    def start_assigned(self, now: float) -> None:
        """Sends the assigned jobs to waiting children.

        All jobs of a worker go at once: a child at work need not be woken for the next job.
        """
        for worker in self._assigned.values():
            self.channels.start(worker, now)
        self._assigned.clear()

    def steal(self, now: float) -> None:
        """Gives workers without a job some of the prefetched jobs of others, and starts them."""
        for worker in prefetch.steal(self.workers, now):
            self.channels.start(worker, now)
            self.channels.listen(worker, now)

    def release_unsent(self, reason: str, now: float) -> list[Ended]:
        """Takes back all jobs that no child has begun, for this reason.

        Returns them with the attempts that ended. Only begun attempts stay, none behind another.
        """
        ended: list[Ended] = []
        for worker in self.workers:
            ended += self.channels.stop_prefetch(worker, now)
        unsent = [attempt for worker in self.workers for attempt in worker.release_unstarted()]
        return ended + put_back(unsent, Released(reason, is_usual=True))

    def stop_prefetch(self, attempt: Attempt, now: float) -> bool:
        """Takes back the jobs behind this attempt from its process, for now.

        Returns False if the attempt has ended.
        """
        worker = self.workers.by_number[attempt.worker]
        self._keep_ended(self.channels.stop_prefetch(worker, now))
        return self.workers.holds(attempt)

    def stop_all_prefetch(self, now: float) -> list[Attempt]:
        """Does as `stop_prefetch` for all workers; returns their current attempts."""
        for worker in self.workers:
            self._keep_ended(self.channels.stop_prefetch(worker, now))
        return self.workers.current_attempts()

    def kill(self, attempt: Attempt, verdict: Outcome, now: float) -> None:
        """Has a running job's whole process group killed, with this outcome.

        Does nothing if the job has ended by itself, or has not begun.
        """
        if self.stop_prefetch(attempt, now) and attempt.started_at is not None:
            self.workers.by_number[attempt.worker].kill(verdict, now)

    def lose(self, tokens: Collection[str], now: float) -> list[Attempt]:
        """Ends the attempts whose leases were lost, by token.

        Forgets the ones that have not begun. Has the running ones killed, and returns them.
        """
        for worker in self.workers:
            if any(attempt.claim.token in tokens for attempt in worker.held()):
                worker.recall()
                for attempt in worker.held():
                    if attempt.is_held and attempt.claim.token in tokens:
                        worker.drop(attempt)
        self._timer.hasten(now)
        lost = [attempt for attempt in self.workers.held() if attempt.claim.token in tokens]
        for attempt in lost:
            self.kill(attempt, Released("its lease was lost"), now)
        return [attempt for attempt in lost if attempt.killed_at is not None]

    def extend(self, job_id: str, fence: int, seconds: float, now: float) -> bool:
        """Gives an attempt so many seconds more; False if it does not run here, or is being killed.

        A child that has the job gets a frame, which it reads when its time is over. If no worker
        has the attempt, its claim may be on its way: the seconds are kept for it.
        """
        named = [a for a in self.workers.held() if (a.claim.id, a.claim.fence) == (job_id, fence)]
        if not named or not self.stop_prefetch(named[0], now):
            self.workers.grant_early(job_id, fence, seconds)
            return False
        attempt, worker = named[0], self.workers.by_number[named[0].worker]
        child = worker.child
        attempt.granted_s += seconds
        attempt.set_deadline()
        if attempt.started_at is not None and child is not None:
            # From here on unread bytes can be this frame, and prove nothing about the job.
            is_taken = not (child.outbox or child.has_unread())
            # If it has hung up it is gone: the report of its exit is on its way.
            if not child.has_hung_up():
                attempt.is_taken = attempt.is_taken or is_taken
                token = attempt.claim.token.encode()
                child.queue_frame(encode_frame(protocol.EXTEND, token, b"%f" % seconds))
        if worker.attempt is None or worker.attempt.killed_at is not None:
            return False
        self.channels.push(worker)
        return True

    def answer_ask(self, attempt: Attempt, fields: Mapping[bytes, bytes]) -> None:
        """Sends a job its record, as it asked for it; does nothing if it does not run any more."""
        worker = self.workers.by_number[attempt.worker]
        if worker.attempt is attempt and worker.child is not None:
            queue_record(worker.child, attempt, fields)
            self.channels.push(worker)

    def note_ending(self, ended: Ended) -> None:
        """Keeps an attempt's time, and its cause as its worker's last error."""
        worker, report = self.workers.by_number[ended.attempt.worker], ended.report
        worker.worked_s += report.usage.wall_s or 0.0
        if not isinstance(report.outcome, _NO_ERRORS):
            worker.last_error = cause(report.outcome)

    def _keep_ended(self, ended: list[Ended]) -> None:
        if ended:
            self.ended_meanwhile += ended
            self._timer.hasten(0.0)
