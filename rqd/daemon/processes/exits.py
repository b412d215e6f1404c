"""Children whose end their zygote reports: their jobs end by it, and their places are filled."""

from __future__ import annotations

from rqd.daemon.host.oom import OomCounter, explain
from rqd.daemon.log.log import Log
from rqd.daemon.processes.hearing import Ended, Hearing
from rqd.daemon.processes.judging import Judging
from rqd.daemon.processes.places import Places
from rqd.daemon.processes.worker import Run, Worker
from rqd.daemon.processes.zygote_events import Exited
from rqd.daemon.processes.zygote_process import ZygoteProcess
from rqd.daemon.processes.zygotes import Zygotes
from rqd.model.outcome import Released, Report


class Exits:
    """Buries such children."""

    def __init__(
        self,
        zygotes: Zygotes,
        places: Places,
        judging: Judging,
        hearing: Hearing,
        oom_counter: OomCounter,
        log: Log,
    ) -> None:
        self._zygotes = zygotes
        self._places = places
        self._judging = judging
        self._hearing = hearing
        self._oom_counter = oom_counter
        self._log = log

    def bury(
        self, zygote: ZygoteProcess, worker: Worker, exited: Exited, now: float
    ) -> list[Ended]:
        """A worker's child is gone: what has ended by that, or is put back."""
        child, serves = worker.child, zygote is self._zygotes.serving
        if not serves and self._places.parents.get(worker.number) is not zygote:
            return []  # what it had to say is known, and the place is the next one's
        was_to_leave = child is not None and child.leave_by is not None
        if child is not None and child.pid == exited.pid:
            # Closing the channel takes it out of the epoll; until then its end would wake us.
            self._places.stop_hearing(child)
        heard = self._judge(zygote, worker, exited, now)
        if worker.child is None:
            self._places.parents.pop(worker.number, None)
        waiting: list[Ended] = []
        if worker.wanted and not serves:
            self._places.fill(worker, now)
        elif worker.wanted and exited.status != 0:
            # The zygote refills by itself only after a good exit. A child that died at its job is
            # replaced at once; one that had not begun any would die so again and again.
            if was_to_leave or (heard and not _has_died_idle(*heard[-1])):
                self._places.fill(worker, now)
            else:
                waiting = self._refill_later(zygote, worker, exited, now)
        return self._hearing.end_all(worker, zygote, heard, now) + waiting

    def _judge(
        self, zygote: ZygoteProcess, worker: Worker, exited: Exited, now: float
    ) -> list[tuple[Run, Report]]:
        heard = self._judging.bury(exited, zygote.rss_bytes, now)
        if exited.status != 0 and heard:
            run, report = heard.pop()
            group = zygote.groups.get(worker.number)
            heard.append((run, explain(run, report, group, self._oom_counter, now)))
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
        self._places.fill_later(worker, now)
        died = Released("its process died before it took the job")
        return [Ended(run, Report(died)) for run in worker.free_unsent()]


def _has_died_idle(run: Run, report: Report) -> bool:
    """True for a job that its process has not read before it died; not for one that was killed."""
    return isinstance(report.outcome, Released) and run.verdict is None
