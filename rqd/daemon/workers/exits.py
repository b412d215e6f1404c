"""Handles a child's exit, and the loss of a zygote with its children."""

from __future__ import annotations

from rqd.daemon.host.cgroups import OomCounter, explain
from rqd.daemon.host.orphans import kill_orphan
from rqd.daemon.host.pidfd import has_ended
from rqd.daemon.log.log import Log
from rqd.daemon.workers.judging import Judging
from rqd.daemon.workers.reader import ChildReader, Ended
from rqd.daemon.workers.slots import Slots
from rqd.daemon.workers.worker import Attempt, Child, Worker
from rqd.daemon.zygotes.events import Exited
from rqd.daemon.zygotes.manager import Zygotes
from rqd.daemon.zygotes.process import ZygoteProcess
from rqd.model.outcome import Lost, Released, Report


class Exits:
    """Handles the exits that zygotes report, and refills the slots."""

    def __init__(
        self,
        zygotes: Zygotes,
        slots: Slots,
        judging: Judging,
        hearing: ChildReader,
        oom_counter: OomCounter,
        log: Log,
    ) -> None:
        self._zygotes = zygotes
        self._slots = slots
        self._judging = judging
        self._reader = hearing
        self._oom_counter = oom_counter
        self._log = log

    def reap(
        self, zygote: ZygoteProcess, worker: Worker, exited: Exited, now: float
    ) -> list[Ended]:
        """Handles the exit of a worker's child; returns the attempts that ended or are put back."""
        child, serves = worker.child, zygote is self._zygotes.serving
        if not serves and self._slots.parents.get(worker.number) is not zygote:
            return []  # its answers are read, and the slot belongs to another zygote's child
        was_to_leave = child is not None and child.leave_by is not None
        if child is not None and child.pid == exited.pid:
            # Closing the channel takes it out of the epoll. Until then its end would wake us.
            self._slots.stop_hearing(child)
        heard = self._judge(zygote, worker, exited, now)
        if worker.child is None:
            self._slots.parents.pop(worker.number, None)
        waiting: list[Ended] = []
        if worker.wanted and not serves:
            self._slots.fill(worker, now)
        elif worker.wanted and exited.status != 0:
            # The zygote refills by itself only after a good exit. A child that died at its job is
            # replaced at once. A child that died without a job would do so again and again.
            if was_to_leave or (heard and not _has_died_idle(*heard[-1])):
                self._slots.fill(worker, now)
            else:
                waiting = self._refill_later(zygote, worker, exited, now)
        return self._reader.end_all(worker, zygote, heard, now) + waiting

    def _judge(
        self, zygote: ZygoteProcess, worker: Worker, exited: Exited, now: float
    ) -> list[tuple[Attempt, Report]]:
        heard = self._judging.reap(exited, zygote.rss_bytes, now)
        if exited.status != 0 and heard:
            attempt, report = heard.pop()
            group = zygote.groups.get(worker.number)
            heard.append((attempt, explain(attempt, report, group, self._oom_counter, now)))
        return heard

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
        return [Ended(attempt, Report(died)) for attempt in worker.release_unstarted()]


def _has_died_idle(attempt: Attempt, report: Report) -> bool:
    """True if the process died, not killed by the master, before it read this job."""
    return isinstance(report.outcome, Released) and attempt.verdict is None


class Losses:
    """Ends children without a wait status, as their zygote is lost or unresponsive.

    An attempt that they had begun is lost, unless its answer was read or it has a verdict.
    """

    def __init__(self, judging: Judging, slots: Slots, hearing: ChildReader) -> None:
        self._judging = judging
        self._slots = slots
        self._reader = hearing

    def end_orphans(self, zygote: ZygoteProcess, now: float) -> list[Ended]:
        """Kills the children of a zygote that is gone; returns the attempts that ended by that."""
        ended: list[Ended] = []
        for worker, child in self._children_of(zygote):
            # Orphaned to us, their subreaper: no other process can have reaped them, so the pid is
            # still theirs.
            kill_orphan(child.pid, child.pidfd)  # before that, its channel may not be complete
            ended += self._end(worker, child, zygote, "its zygote died", now)
        return ended

    def end_unreported(self, zygote: ZygoteProcess, now: float) -> list[Ended]:
        """Ends the dead children of a zygote that retires but is unresponsive.

        Kills their process groups, and has the serving zygote fill their slots. Returns the
        attempts that ended by that.
        """
        ended: list[Ended] = []
        for worker, child in self._children_of(zygote):
            if has_ended(child.pidfd):
                ended += self._end(worker, child, zygote, "its zygote stood still", now)
                # Not by the pid: if the zygote goes on just now, it may be another process's.
                zygote.kill_place(worker.number)
                if worker.wanted:
                    self._slots.fill(worker, now)
        return ended

    def _children_of(self, zygote: ZygoteProcess) -> list[tuple[Worker, Child]]:
        of_it = self._slots.of(zygote)
        return [(worker, worker.child) for worker in of_it if worker.child is not None]

    def _end(
        self, worker: Worker, child: Child, zygote: ZygoteProcess, why: str, now: float
    ) -> list[Ended]:
        worker.recall()
        heard = self._judging.hear(worker, now)
        while (attempt := worker.attempt) is not None and attempt.is_given:
            worker.end_attempt()
            verdict = attempt.verdict or Lost(why)
            heard.append((attempt, Report(verdict, pid=child.pid, zygote=child.zygote)))
        self._slots.drop_child(worker)
        return self._reader.end_all(worker, zygote, heard, now)
