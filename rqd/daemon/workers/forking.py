"""Boots and reloads zygotes, and applies their events to the workers: a child forked, or gone."""

from __future__ import annotations

from rqd.daemon.config import Config
from rqd.daemon.host.cgroups import OomCounter, explain
from rqd.daemon.host.orphans import kill_orphan
from rqd.daemon.host.pidfd import has_ended
from rqd.daemon.log.log import Log
from rqd.daemon.timers import Timers
from rqd.daemon.workers.attempt import Attempt
from rqd.daemon.workers.channels import Channels
from rqd.daemon.workers.link import Link
from rqd.daemon.workers.reader import Ended, end_begun, read, read_last
from rqd.daemon.workers.slots import Slots
from rqd.daemon.workers.worker import Worker
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
from rqd.daemon.zygotes.manager import Zygotes
from rqd.daemon.zygotes.process import ZygoteProcess
from rqd.model.outcome import Lost, Released, Report


class Forking:
    """The zygotes' side of the pool."""

    def __init__(
        self, zygotes: Zygotes, slots: Slots, channels: Channels, timers: Timers, log: Log
    ) -> None:
        self._zygotes = zygotes
        self._slots = slots
        self._channels = channels
        self._workers = slots.workers
        self._outputs = slots.outputs
        self._log = log
        self._timer = timers.timer(self._tend)
        self.oom_counter = OomCounter()
        self.has_news = False  # a zygote or slot changed: worth a heartbeat at once, and a claim

    def reload(self, request: str, config: Config, now: float) -> None:
        """Begins a reload: a new zygote imports the application, and applies these settings.

        The old code and settings serve until it is ready, and serve on if it fails. `request` is
        the id of the command that asked for it, "" for a signal.
        """
        self._zygotes.spawner.next_config = config
        self._zygotes.follow(request, now)
        self._note_change(now)

    def refuse_reload(self, request: str, error: str, now: float) -> None:
        """Refuses a reload for this reason: the old code and settings serve on."""
        self._zygotes.refuse(request, error)
        self._note_change(now)

    def learn(self, module: str, seconds: float, now: float) -> bool:
        """Notes the seconds that a job's process took to import its module.

        False if no zygote will import the module by that: it is preloaded, or can't be learnt.
        """
        zygotes = self._zygotes
        is_known = module in zygotes.spawner.config.preload
        is_learnt = not is_known and zygotes.learning.note_import(module, seconds, now)
        if is_learnt:
            self._timer.set(now)
        return is_learnt

    def receive(self, zygote: ZygoteProcess, now: float) -> list[Ended]:
        """Applies a zygote's events; returns the attempts that ended by them."""
        try:
            events = zygote.receive()
            known = self._workers.by_number
            if unknown := [e for e in events if getattr(e, "worker", 1) not in known]:
                close_forked(events)
                raise FrameError(f"a report of no worker of ours: {unknown[0]}")
        except FrameError as error:
            self._log.error("the zygote's reports are broken, replacing it", error=error)
            zygote.end()
            return []
        zygote.flush()
        return [one for event in events for one in self._apply(zygote, event, now)]

    def note_loss(self, zygote: ZygoteProcess, now: float) -> list[Ended]:
        """Handles the loss of a zygote: kills its children; returns the attempts that ended."""
        status = zygote.exit_status()
        if status is None:
            return []
        ended = [] if zygote.is_dismissed else self.receive(zygote, now)
        bereft = self._slots.of(zygote)
        for worker in bereft:
            assert worker.child is not None
            # Orphaned to us, their subreaper: no other process can have reaped them, so the pid is
            # still theirs. Killed first: before that, the channel may not be complete.
            kill_orphan(worker.child.pid, worker.child.pidfd)
            ended += self._end_child(worker, worker.child, "its zygote died", now)
        for fd in zygote.outputs.values():
            self._outputs.forget(fd)
        if zygote is self._zygotes.table.serving:
            self._slots.refill_at.clear()
        self._zygotes.note_lost(zygote, status, now)
        for worker in bereft:
            if worker.wanted:
                self._slots.fill(worker, now)
        self._note_change(now)
        self._workers.timer.hasten(now)  # without a zygote, waiting jobs go back
        return ended

    def end_unreported(self, now: float) -> list[Ended]:
        """Ends the dead children of zygotes that retire but are unresponsive.

        Kills their process groups, and has the serving zygote fill their slots. Returns the
        attempts that ended by that.
        """
        ended: list[Ended] = []
        for zygote in self._zygotes.table.leaving:
            for worker in self._slots.of(zygote) if zygote.is_unresponsive else ():
                assert worker.child is not None
                if not has_ended(worker.child.pidfd):
                    continue
                ended += self._end_child(worker, worker.child, "its zygote stood still", now)
                # Not by the pid: if the zygote goes on just now, it may be another process's.
                zygote.kill_slot(worker.number)
                if worker.wanted:
                    self._slots.fill(worker, now)
        return ended

    def dismiss_unneeded(self, now: float) -> None:
        """Dismisses the retiring zygotes that have no child with a job any more."""
        children = [worker.child for worker in self._workers if worker.child is not None]
        self._zygotes.table.dismiss({one.parent.pid for one in children if one.parent}, now)
        self._timer.hasten(self._zygotes.next_due())

    # -- zygotes ------------------------------------------------------------------------------

    def _tend(self, now: float) -> None:
        """Boots, replaces, teaches and ends zygotes where it is due."""
        zygotes = self._zygotes
        if zygotes.table.boots.is_next_due(now):
            self.boot(now)
        zygotes.table.check_alive(now)
        if zygotes.is_replacement_due(now) and any(worker.wanted for worker in self._workers):
            zygotes.replace(now)
        if zygotes.is_lesson_due(now):
            zygotes.learn(now)
        zygotes.end_overdue(now)
        if zygotes.table.leaving:
            self.dismiss_unneeded(now)
        zygotes.table.flush()
        self._timer.hasten(min(zygotes.next_due(), zygotes.table.check_at))

    def boot(self, now: float) -> None:
        """Starts a zygote that serves at once, and asks it for the children that are wanted."""
        if self._zygotes.reloads.is_under_way and self._zygotes.table.following is None:
            self._apply_settings()  # this boot is the reload
        if self._zygotes.boot(now) is not None:
            for worker in self._workers:
                if worker.wanted and worker.child is None:
                    self._slots.fill(worker, now)
        self._timer.set(now)

    def _apply_settings(self) -> None:
        """Applies the settings of the zygote that serves from now on."""
        config = self._zygotes.spawner.accept()
        self._zygotes.learning.is_on = config.preload_learn
        self._workers.limits = config.limits

    def _note_change(self, now: float) -> None:
        self.has_news = True
        self._timer.set(now)

    # -- events -------------------------------------------------------------------------------

    def _apply(self, zygote: ZygoteProcess, event: ZygoteEvent, now: float) -> list[Ended]:
        match event:
            case Forked():
                self._attach(zygote, event, now)
            case Exited():
                return self._reap(zygote, event, now)
            case ForkFailed(number, error) if zygote is self._zygotes.table.serving:
                self._log.warning("can't fork, trying again", worker=number, error=error)
                worker = self._workers.by_number[number]
                if not event.has_slot:
                    self._slots.forget_pipes(zygote, worker)
                self._slots.fill_later(worker, now)
                return put_back(worker.release_unstarted(), no_process(error))
            case Ready():
                if self._zygotes.note_ready(zygote, event, now):
                    self._apply_settings()
                    self._slots.change_over(now)
                self._note_change(now)
            case BootFailed(traceback):
                self._zygotes.note_boot_failed(zygote, traceback)
                self._note_change(now)
        return []

    def _attach(self, zygote: ZygoteProcess, forked: Forked, now: float) -> None:
        worker = self._workers.by_number[forked.worker]
        is_news = worker.lacks_child or not worker.has_lived
        if not self._slots.attach(zygote, forked):
            return
        self.has_news, worker.has_lived = self.has_news or is_news, True
        if worker.wanted:
            self._channels.start(worker, now)
        else:
            worker.retire_after_current(now)  # retired while it was forked
        self._channels.listen(worker, now)

    def _reap(self, zygote: ZygoteProcess, exited: Exited, now: float) -> list[Ended]:
        """Handles the exit of a child; returns the attempts that ended or are put back."""
        worker = self._workers.by_number[exited.worker]
        child, serves = worker.child, zygote is self._zygotes.table.serving
        if not serves and (child is None or child.parent is not zygote):
            return []  # its answers are read, and the slot belongs to another zygote's child
        was_to_leave = child is not None and child.leave_by is not None
        ended = read_last(worker, exited, zygote.rss_bytes, now)
        if exited.status != 0 and ended:
            attempt, report = ended[-1].attempt, ended[-1].report
            group = zygote.groups.get(worker.number)
            ended[-1] = Ended(attempt, explain(attempt, report, group, self.oom_counter, now))
        waiting: list[Ended] = []
        if worker.wanted and not serves:
            self._slots.fill(worker, now)
        elif worker.wanted and exited.status != 0:
            # The zygote refills by itself only after a good exit. A child that died at its job is
            # replaced at once. A child that died without a job would do so again and again.
            if was_to_leave or (ended and not _has_died_idle(ended[-1])):
                self._slots.fill(worker, now)
            else:
                waiting = self._refill_later(zygote, worker, exited, now)
        return self._channels.complete(worker, zygote, ended) + waiting

    def _refill_later(
        self, zygote: ZygoteProcess, worker: Worker, exited: Exited, now: float
    ) -> list[Ended]:
        self._log.warning(
            "an idle child died",
            worker=worker.number,
            pid=exited.pid,
            status=exited.status,
            traceback=zygote.stacks[worker.number].take(),
        )
        self._slots.fill_later(worker, now)
        died = Released("its process died before it took the job")
        return put_back(worker.release_unstarted(), died)

    def _end_child(self, worker: Worker, child: Link, why: str, now: float) -> list[Ended]:
        """Ends a child without a wait status, as its zygote is lost or unresponsive.

        An attempt that it had begun is lost, unless its answer was read or it has a verdict.
        """
        worker.recall()
        ended = read(worker, now) + end_begun(worker, child, Lost(why))
        worker.detach()
        return self._channels.complete(worker, child.parent, ended)


def put_back(attempts: list[Attempt], why: Released) -> list[Ended]:
    """Returns attempts that no child has begun as ended, to be put back for this reason."""
    return [Ended(attempt, Report(why)) for attempt in attempts]


def no_process(error: object) -> Released:
    """Returns the reason to put a job back for which no child could be forked."""
    return Released(f"no process for it: {error}")


def _has_died_idle(ended: Ended) -> bool:
    """True if the process died, not killed by the master, before it read this job."""
    return isinstance(ended.report.outcome, Released) and ended.attempt.verdict is None
