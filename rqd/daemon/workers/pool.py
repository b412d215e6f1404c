"""The pool: zygotes, workers and their children.

Feeds the table of workers with the loop's events, and returns the attempts that ended. The order
within a wake matters. The zygote's reports come first. The child's channel is read to its end
before its exit is judged. So a success is never taken for a crash.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from rqd.daemon.config import Config
from rqd.daemon.event_loop import Loop
from rqd.daemon.host.cgroups import GroupLimits, OomCounter, enter_subtree_if_asked
from rqd.daemon.host.orphans import become_subreaper, kill_descendants
from rqd.daemon.instance import Instance
from rqd.daemon.log.log import Log
from rqd.daemon.workers.deadlines import Deadlines
from rqd.daemon.workers.exits import Exits, Losses
from rqd.daemon.workers.job_stacks import JobStacks
from rqd.daemon.workers.judging import Judging
from rqd.daemon.workers.output import Outputs
from rqd.daemon.workers.reader import ChildReader, Ended
from rqd.daemon.workers.slots import Slots
from rqd.daemon.workers.worker import Attempt, Worker
from rqd.daemon.workers.workers import Workers
from rqd.daemon.zygote.exit_cleanup import reap_strangers
from rqd.daemon.zygote.protocol import FrameError
from rqd.daemon.zygotes.events import (
    BootFailed,
    Exited,
    Forked,
    ForkFailed,
    Ready,
    ZygoteEvent,
    close_forked,
)
from rqd.daemon.zygotes.learning import Learning
from rqd.daemon.zygotes.manager import Zygotes
from rqd.daemon.zygotes.process import ZygoteProcess
from rqd.daemon.zygotes.spawn import settings_of_zygote
from rqd.model.outcome import (
    AskedAgain,
    Lost,
    Outcome,
    Parked,
    Released,
    Report,
    Stopped,
    Succeeded,
    cause,
)
from rqd.model.records import Claim

# Outcomes that leave a worker no error to show.
_NO_ERRORS = Succeeded | AskedAgain | Released | Parked | Lost | Stopped


class Pool:
    """The zygotes and the children, with their slots."""

    def __init__(self, config: Config, instance: Instance, loop: Loop, log: Log) -> None:
        self.config = config
        self._next_config = config  # for the next zygote
        self._instance = instance
        self._loop = loop
        self._log = log
        hints = config.preload_hints if config.preload_learn else ()
        learning = Learning(is_on=config.preload_learn, hints=hints)
        self.zygotes = Zygotes(self._spawn, loop, log, learning)
        self.workers = Workers(config.jobs_per_child, config.limits)
        self._outputs = Outputs(loop, log)
        self.slots = Slots(self.workers, self.zygotes, self._outputs, loop, log)
        self.ahead = self.slots.ahead
        self._judging = Judging(self.workers)
        self._reader = ChildReader(
            self.workers, self.slots, self.zygotes, self._outputs, self._judging
        )
        self._losses = Losses(self._judging, self.slots, self._reader)
        self._assigned: dict[int, Worker] = {}  # got jobs since the last `start_assigned`
        self.stacks = JobStacks(self.workers, self.slots)
        self._deadlines = Deadlines(self.workers, self.slots, self.stacks)
        self.has_news = False  # a zygote or slot changed: worth a heartbeat at once, and a claim
        # Before any process is started: it would be in the group that has to be left.
        self._subtree = enter_subtree_if_asked(_held(config), log)
        self.oom_counter = OomCounter()
        self._exits = Exits(
            self.zygotes, self.slots, self._judging, self._reader, self.oom_counter, log
        )
        become_subreaper()

    def start(self, now: float) -> None:
        """Starts a zygote for the configured number of workers."""
        for number in range(1, self.config.workers + 1):
            self.workers.by_number[number] = Worker(number)
        self._boot(now)

    @property
    def is_ready(self) -> bool:
        """True while a zygote serves and has imported the application."""
        return self.zygotes.is_ready

    def reload(self, request: str, config: Config, now: float) -> None:
        """Begins a reload: a new zygote imports the application, and applies these settings.

        The old code and settings serve until it is ready, and serve on if it fails. `request` is
        the id of the command that asked for it, "" for a signal.
        """
        self._next_config = config
        self.zygotes.follow(request, now)
        self.has_news = True

    def refuse_reload(self, request: str, error: str) -> None:
        """Refuses a reload for this reason: the old code and settings serve on."""
        self.zygotes.refuse(request, error)
        self.has_news = True

    def collect(self, ready: set[int], now: float) -> list[Ended]:
        """Handles the descriptors that are ready; returns the attempts that ended."""
        # First: after a suspension of this process a waiting job may be another master's by now,
        # and must not start here.
        ended = self._reader.take_caught() + self.release_waiting(now)
        self.zygotes.hear_output(ready)
        for zygote in self.zygotes:
            if not zygote.is_dismissed and zygote.control_fd in ready:
                for event in self._reports(zygote):
                    ended += self._apply(zygote, event, now)
        ended += self._reader.hear(ready, now)
        for zygote in self.zygotes.leaving:
            if zygote.is_unresponsive:
                ended += self._losses.end_unreported(zygote, now)
        for zygote in self.zygotes:
            if zygote.pidfd in ready:
                ended += self._lose_zygote(zygote, now)
        return ended

    def read_batched(self, now: float) -> list[Ended]:
        """Reads all children whose reads are batched; returns the attempts that ended."""
        return self._reader.read_batched(now)

    def assign(self, claim: Claim, now: float) -> None:
        """Gives a claimed job to its worker: see `start_assigned`."""
        self.workers.assign(claim, now)
        self._assigned[claim.worker] = self.workers.by_number[claim.worker]

    def start_assigned(self, now: float) -> None:
        """Sends the assigned jobs to waiting children.

        All jobs of a worker go at once: a child at work need not be woken for the next job.
        """
        for worker in self._assigned.values():
            self.slots.send(worker, now)
        self._assigned.clear()

    def steal(self, now: float) -> None:
        """Gives workers without a job some of the prefetched jobs of others, and starts them."""
        for worker in self.ahead.share(now):
            self.slots.send(worker, now)
            self._reader.listen(worker, now)

    def release_unsent(self, reason: str, now: float) -> list[Ended]:
        """Takes back all jobs that no child has begun, for this reason.

        Returns them with the attempts that ended. Only begun attempts stay, none behind another.
        """
        ended = [one for worker in self.workers for one in self._reader.pin(worker, now)]
        unsent = [attempt for worker in self.workers for attempt in worker.release_unstarted()]
        return ended + _put_back(unsent, Released(reason, is_usual=True))

    def release_waiting(self, now: float) -> list[Ended]:
        """Takes back prefetched jobs that wait too long behind another job.

        Also takes back all jobs that wait for a process which no zygote can fork now.
        """
        late = Released("its worker has no time for it", is_usual=True)
        waiting = _put_back(self.ahead.free_waiting(now), late)
        for worker, error in self.slots.take_unfilled():
            waiting += _put_back(worker.release_unstarted(), _no_process(error))
        if not self.is_ready:
            waiting += self.release_unsent("there is no zygote", now)
        return waiting

    def kill(self, attempt: Attempt, verdict: Outcome, now: float) -> None:
        """Has a running job's whole process group killed, with this outcome.

        Does nothing if the job has ended by itself, or has not begun.
        """
        if self.pin(attempt, now) and attempt.started_at is not None:
            self._deadlines.kill(attempt, verdict, now)

    def lose(self, tokens: Collection[str], now: float) -> list[Attempt]:
        """Ends the attempts whose leases were lost, by token.

        Forgets the ones that have not begun. Has the running ones killed, and returns them.
        """
        self.ahead.drop_lost(tokens)
        lost = [attempt for attempt in self.workers.held() if attempt.claim.token in tokens]
        for attempt in lost:
            self.kill(attempt, Released("its lease was lost"), now)
        return [attempt for attempt in lost if attempt.killed_at is not None]

    def pin(self, attempt: Attempt, now: float) -> bool:
        """Takes back the jobs behind this attempt from its process, for now.

        Returns False if the attempt has ended.
        """
        self._reader.read_now(self.workers.by_number[attempt.worker], now)
        return self.workers.holds(attempt)

    def stop_all_prefetch(self, now: float) -> list[Attempt]:
        """Does as `pin` for all workers; returns their current attempts."""
        for worker in self.workers:
            self._reader.read_now(worker, now)
        return self.workers.current_attempts()

    @property
    def has_pending(self) -> bool:
        """True while `collect` has ended attempts to return that were read before."""
        return self._reader.has_pending

    def pid_of(self, attempt: Attempt) -> int:
        """The process of a running job; 0 if it is gone."""
        child = self.workers.by_number[attempt.worker].child
        return child.pid if child is not None else 0

    def extend(self, job_id: str, fence: int, seconds: float, now: float) -> bool:
        """Gives a running attempt so many seconds more; False if it does not run here, or is being
        killed.
        """
        for attempt in self.workers.held():
            if (attempt.claim.id, attempt.claim.fence) == (job_id, fence):
                self.pin(attempt, now)
        worker = self.workers.extend(job_id, fence, seconds)
        if worker is None or worker.attempt is None or worker.attempt.killed_at is not None:
            return False
        self.slots.push(worker)
        return True

    def learn(self, module: str, seconds: float, now: float) -> bool:
        """Notes the seconds that a job's process took to import its module.

        False if no zygote will import the module by that: it is preloaded, or can't be learnt.
        """
        is_known = module in self.config.preload
        return not is_known and self.zygotes.learning.note_import(module, seconds, now)

    def answer_ask(self, attempt: Attempt, fields: Mapping[bytes, bytes]) -> None:
        """Sends a job its record, as it asked for it."""
        if worker := self.workers.answer_ask(attempt, fields):
            self.slots.push(worker)

    def note_ending(self, ended: Ended) -> None:
        """Keeps an attempt's time, and its cause as its worker's last error."""
        worker, report = self.workers.by_number[ended.attempt.worker], ended.report
        worker.worked_s += report.usage.wall_s or 0.0
        if not isinstance(report.outcome, _NO_ERRORS):
            worker.last_error = cause(report.outcome)

    def perform(self, now: float) -> None:
        """Does the work that is due: starts jobs that waited for others, kills, fills slots, boots
        and ends zygotes.
        """
        for worker in self.workers:
            if worker.is_out_of_sync:
                # The first job's answer is there, or never comes: nothing else may wake us.
                self._reader.read_now(worker, now)
        self._deadlines.perform(now)
        for worker in self.workers:
            if worker.attempt is not None and worker.attempt.started_at is None:
                # A suspect that waited for other jobs, or a job that waited for a suspect.
                self.slots.send(worker, now)
        self.slots.fill_due(now)
        if self.zygotes.is_restart_due(now):
            self._boot(now)
        self.zygotes.look(now)
        if self.zygotes.is_replacement_due(now) and any(worker.wanted for worker in self.workers):
            self._next_config = self.config
            self.zygotes.replace(now)
        if self.zygotes.is_lesson_due(now):
            self._next_config = self.config
            self.zygotes.learn(now)
        self.zygotes.end_overdue(now)
        if self.zygotes.leaving:
            self.zygotes.let_go({parent.pid for parent in self.slots.parents.values()}, now)
        self.zygotes.flush()

    def next_due(self) -> float:
        """The next moment at which `perform` or `collect` has work; infinity for never."""
        ours = self._deadlines.next_due(), self.zygotes.next_due(), self.ahead.next_due()
        return min(*ours, self._reader.next_due, *self.slots.refill_at.values())

    def parent_of(self, worker: Worker) -> int:
        """The pid of the zygote that forked this worker's child; 0 without a child."""
        zygote = self.slots.parents.get(worker.number)
        return zygote.pid if zygote is not None else 0

    def reap_strangers(self, but: set[int]) -> None:
        """Reaps orphans that came to us as subreaper; not the zygotes, nor the pids in `but`."""
        reap_strangers({*(zygote.pid for zygote in self.zygotes), *but})

    def close(self, but: set[int]) -> None:
        """Ends the zygotes, their children and all other descendants of this process but `but`."""
        for worker in self.workers:
            self.slots.drop_child(worker)
        self.zygotes.close()
        kill_descendants(but)

    def _boot(self, now: float) -> None:
        if self.zygotes.reloads.is_under_way and self.zygotes.following is None:
            self._take_settings()  # this boot is the reload
        if self.zygotes.boot(now) is not None:
            for worker in self.workers:
                if worker.wanted and worker.child is None:
                    self.slots.fill(worker, now)

    def _spawn(self, learnt: tuple[str, ...]) -> ZygoteProcess:
        config = self._next_config if self.zygotes.is_ready else self.config
        return ZygoteProcess(settings_of_zygote(config, self._instance, learnt), self._subtree)

    def _reports(self, zygote: ZygoteProcess) -> list[ZygoteEvent]:
        try:
            events = zygote.receive()
            strange = [e for e in events if getattr(e, "worker", 1) not in self.workers.by_number]
            if strange:
                close_forked(events)
                raise FrameError(f"a report of no worker of ours: {strange[0]}")
            return events
        except FrameError as error:
            self._log.error("the zygote's reports are broken, replacing it", error=error)
            zygote.end()
            return []

    def _apply(self, zygote: ZygoteProcess, event: ZygoteEvent, now: float) -> list[Ended]:
        match event:
            case Forked():
                if self.slots.attach(zygote, event, now):
                    self.has_news = True
                self._reader.listen(self.workers.by_number[event.worker], now)
            case Exited():
                worker = self.workers.by_number[event.worker]
                return self._exits.reap(zygote, worker, event, now)
            case ForkFailed(number, error) if zygote is self.zygotes.serving:
                self._log.warning("can't fork, trying again", worker=number, error=error)
                worker = self.workers.by_number[number]
                if not event.has_place:
                    self.slots.forget_pipes(zygote, worker)
                self.slots.fill_later(worker, now)
                return _put_back(worker.release_unstarted(), _no_process(error))
            case Ready():
                if self.zygotes.note_ready(zygote, event, now):
                    self._take_settings()
                    self.slots.change_over(now)
                self.has_news = True
            case BootFailed(traceback):
                self.zygotes.note_boot_failed(zygote, traceback)
                self.has_news = True
        return []

    def _take_settings(self) -> None:
        """Applies the settings of the zygote that serves from now on."""
        self.config = self._next_config
        self.workers.jobs_per_child = self.config.jobs_per_child
        self.zygotes.learning.is_on = self.config.preload_learn
        self.workers.limits = self.config.limits
        if self._subtree is not None:
            self._subtree.limits = _held(self.config)

    def _lose_zygote(self, zygote: ZygoteProcess, now: float) -> list[Ended]:
        """Handles the loss of a zygote: kills its children, and puts their jobs back."""
        ended: list[Ended] = []
        status = zygote.exit_status()
        if status is None:
            return ended
        for event in [] if zygote.is_dismissed else self._reports(zygote):
            ended += self._apply(zygote, event, now)
        lost = self.slots.of(zygote)
        ended += self._losses.end_orphans(zygote, now)
        for fd in zygote.outputs.values():
            self._outputs.forget(fd)
        if zygote is self.zygotes.serving:
            self.slots.refill_at.clear()
        self.zygotes.note_lost(zygote, status, now)
        for worker in lost:
            if worker.wanted:
                self.slots.fill(worker, now)
        self.has_news = True
        return ended


def _put_back(attempts: list[Attempt], why: Released) -> list[Ended]:
    return [Ended(attempt, Report(why)) for attempt in attempts]


def _no_process(error: object) -> Released:
    return Released(f"no process for it: {error}")


def _held(config: Config) -> GroupLimits:
    """The limits that the kernel enforces."""
    return GroupLimits(config.limits.memory_bytes, config.max_pids)
