"""What children have said, read to its end before anything is judged: the jobs that ended by that,
and how those ended whose process is gone.
"""

from __future__ import annotations

from rqd.daemon.workers.channel import by_answer, is_of_another_job, read_frames
from rqd.daemon.workers.outcomes import as_told, report_of_answer, report_of_death
from rqd.daemon.workers.worker import HARD_KILL_AFTER_S, Child, Run, Worker
from rqd.daemon.workers.workers import Workers
from rqd.daemon.zygote import protocol
from rqd.daemon.zygotes.events import Exited
from rqd.model.outcome import Lost, Raised, Report

# Late words of jobs that a reused child had before.
_MOST_STRANGE = 1000


class Judging:
    """Of the children in these places. Like them, it knows nothing of Redis, and forks nothing."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    def hear(self, worker: Worker, now: float, is_alive: bool = False) -> list[tuple[Run, Report]]:
        """Reads a child's channel to its end; the jobs it answered for, in their order.

        `is_alive`: as far as anybody knows, and what is left would wake us.
        """
        child, ended = worker.child, list[tuple[Run, Report]]()
        if child is None or child.is_broken:
            return ended
        heard, error = read_frames(child, is_alive)
        began_at = worker.began_at
        for told in by_answer(heard):
            report, run = self._hear_one(worker, child, told, now), worker.run
            if run is None or report is None:
                continue
            worker.end_run(now)
            ended.append((run, report))
        if error is not None:
            _give_up(worker, child, error, now)
        elif worker.is_out_of_sync:
            _give_up(worker, child, "it went on to its next job without an answer", now)
        if ended:
            worker.note_pace((now - began_at) / len(ended))
            if child.jobs_left < 1 and not (worker.run and worker.run.is_posted):
                if child.expects_more:
                    child.end_jobs()
                # It exits by itself; but if it was not the child that answered, it may never.
                child.leave_by = now + HARD_KILL_AFTER_S
        return ended

    def _hear_one(
        self, worker: Worker, child: Child, heard: list[protocol.Frame], now: float
    ) -> Report | None:
        """Takes what may be of the job that runs; how that ended, if it has."""
        run = worker.run
        if child.is_broken:
            return None
        if run is None or run.sent_at is None:
            _note_strange(worker, child, len(heard), now)
            return None
        told = len(heard)
        heard = [frame for frame in heard if not is_of_another_job(frame, run)]
        if _note_strange(worker, child, told - len(heard), now):
            return None
        try:
            answers = self._take_news(worker, child, run, heard, now)
        except (ValueError, OverflowError) as error:
            _give_up(worker, child, f"no news of ours: {error}", now)
            return None
        if not answers:
            return None
        try:
            report = report_of_answer(answers[0], run, child)
        except (ValueError, OverflowError):
            _give_up(worker, child, f"frame of kind {answers[0][0]}", now)
            return None
        if answers[0][0] == protocol.TOO_LATE:
            run.sent_at = None  # though its mark is there
            return report
        return as_told(report, run)

    def _take_news(
        self, worker: Worker, child: Child, run: Run, heard: list[protocol.Frame], now: float
    ) -> list[protocol.Frame]:
        """What is left of the frames; raises ValueError for news that are none."""
        run.is_taken = run.is_taken or bool(heard)
        others = [frame for frame in heard if frame[0] != protocol.LAST]
        if len(others) < len(heard):
            worker.recall()  # it takes no more of them
            heard, child.jobs_left = others, 0
        answers = run.news.take(heard, run.claim.token.encode(), now - (run.sent_at or now))
        if len(answers) < len(heard):
            if run.news and run not in self._workers.telling:
                self._workers.telling.append(run)
            if run.news.asks_record and run not in self._workers.asking:
                self._workers.asking.append(run)
            run.set_deadline()
        return answers

    def reap(self, exited: Exited, baseline_bytes: int, now: float) -> list[tuple[Run, Report]]:
        """A child is gone: reads what it still said, closes its channel; the jobs that ended so."""
        worker = self._workers.by_number[exited.worker]
        child = worker.child
        if child is None or child.pid != exited.pid:
            return []
        worker.recall()
        ended = self.hear(worker, now)
        run = worker.run
        if run is not None and run.sent_at is not None:
            worker.end_run()
            ended.append((run, report_of_death(exited, run, child, baseline_bytes, now)))
        while (run := worker.run) is not None and run.is_given:  # none of ours has begun two
            worker.end_run()
            why = Lost("another job broke the channel of its process")
            ended.append((run, Report(why, pid=child.pid, zygote=child.zygote)))
        self._workers.detach(worker)
        return ended


def _note_strange(worker: Worker, child: Child, count: int, now: float) -> bool:
    """Counts frames that are nobody's; True if they are too many to be a mistake."""
    child.strange += count
    if child.strange > _MOST_STRANGE:
        _give_up(worker, child, f"{child.strange} frames of no job", now)
        return True
    return False


def _give_up(worker: Worker, child: Child, why: object, now: float) -> None:
    """What comes from this child can't be told apart any more: it is to be killed.

    Its job ends with it, not before: until then it may run on.
    """
    worker.recall()
    child.jobs_left, child.is_broken, child.is_deaf = 0, True, True
    if child.leave_by is None:
        child.leave_by = now
    run = worker.run
    if run is not None and run.sent_at is not None and run.verdict is None:
        run.verdict = Raised("rqd.FrameError", f"the job broke its channel: {why}", "")
