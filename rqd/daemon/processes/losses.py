"""Children whose end no zygote will report: it died, or it stands still."""

from __future__ import annotations

from rqd.daemon.host.orphans import kill_orphan
from rqd.daemon.host.pidfd_signals import has_ended
from rqd.daemon.processes.hearing import Ended, Hearing
from rqd.daemon.processes.judging import Judging
from rqd.daemon.processes.places import Places
from rqd.daemon.processes.worker import Child, Worker
from rqd.daemon.processes.zygote_process import ZygoteProcess
from rqd.model.outcome import Lost, Report


class Losses:
    """Ends such children here, without a status: what they had begun is put back, unless it is
    known why it ended.
    """

    def __init__(self, judging: Judging, places: Places, hearing: Hearing) -> None:
        self._judging = judging
        self._places = places
        self._hearing = hearing

    def end_orphans(self, zygote: ZygoteProcess, now: float) -> list[Ended]:
        """Those of a zygote that is gone: they are killed."""
        ended: list[Ended] = []
        for worker, child in self._children_of(zygote):
            # Orphaned to us, their subreaper: nobody else can have reaped them, the pid is theirs.
            kill_orphan(child.pid, child.pidfd)  # only then is what it said complete
            ended += self._end(worker, child, zygote, "its zygote died", now)
        return ended

    def end_unreported(self, zygote: ZygoteProcess, now: float) -> list[Ended]:
        """Those of one that leaves, but stands still, that are gone by now; their groups go, too.
        The next one fills their places.
        """
        ended: list[Ended] = []
        for worker, child in self._children_of(zygote):
            if has_ended(child.pidfd):
                ended += self._end(worker, child, zygote, "its zygote stood still", now)
                # Not by the pid, which may be another's should the zygote go on just now.
                zygote.kill_place(worker.number)
                if worker.wanted:
                    self._places.fill(worker, now)
        return ended

    def _children_of(self, zygote: ZygoteProcess) -> list[tuple[Worker, Child]]:
        of_it = self._places.of(zygote)
        return [(worker, worker.child) for worker in of_it if worker.child is not None]

    def _end(
        self, worker: Worker, child: Child, zygote: ZygoteProcess, why: str, now: float
    ) -> list[Ended]:
        worker.recall()
        heard = self._judging.hear(worker, now)
        while (run := worker.run) is not None and run.is_given:
            worker.end_run()
            verdict = run.verdict or Lost(why)
            heard.append((run, Report(verdict, pid=child.pid, zygote=child.zygote)))
        self._places.drop_child(worker)
        return self._hearing.end_all(worker, zygote, heard, now)
