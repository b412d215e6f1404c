"""Finds the attempts that ended: by their children's answers, or by their children's deaths.

A dead child's channel is read to its end before its exit is judged.
"""

from __future__ import annotations

from rqd.daemon.workers.channel import by_answer, is_of_another_job, read_frames
from rqd.daemon.workers.outcomes import as_told, report_of_answer, report_of_death
from rqd.daemon.workers.worker import HARD_KILL_AFTER_S, Attempt, AttemptState, Child, Worker
from rqd.daemon.workers.workers import Workers
from rqd.daemon.zygote import protocol
from rqd.daemon.zygotes.events import Exited
from rqd.model.outcome import Lost, Raised, Report

# Late frames of jobs that a reused child had before.
_MOST_STRANGE = 1000


class Judging:
    """Judges the frames and exits of these workers' children.

    Like the table of workers it knows nothing of Redis, and forks nothing.
    """

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    def hear(
        self, worker: Worker, now: float, is_alive: bool = False
    ) -> list[tuple[Attempt, Report]]:
        """Reads a child's channel to its end; returns the attempts it answered for, in order.

        `is_alive`: the child lives as far as is known, so bytes that are left will wake the master.
        """
        child, ended = worker.child, list[tuple[Attempt, Report]]()
        if child is None or child.is_broken:
            return ended
        heard, error = read_frames(child, is_alive)
        began_at = worker.began_at
        for told in by_answer(heard):
            report, attempt = self._hear_one(worker, child, told, now), worker.attempt
            if attempt is None or report is None:
                continue
            worker.end_attempt(now)
            ended.append((attempt, report))
        if error is not None:
            _give_up(worker, child, error, now)
        elif worker.is_out_of_sync:
            _give_up(worker, child, "it went on to its next job without an answer", now)
        if ended:
            worker.note_pace((now - began_at) / len(ended))
            if child.jobs_left < 1 and not (worker.attempt and worker.attempt.is_posted):
                if child.expects_more:
                    child.end_jobs()
                # It exits by itself. But if another process answered in its place, it may never.
                child.leave_by = now + HARD_KILL_AFTER_S
        return ended

    def _hear_one(
        self, worker: Worker, child: Child, heard: list[protocol.Frame], now: float
    ) -> Report | None:
        """Applies the current job's frames; returns its report, None if it has not ended."""
        attempt = worker.attempt
        if child.is_broken:
            return None
        if attempt is None or attempt.started_at is None:
            _note_strange(worker, child, len(heard), now)
            return None
        told = len(heard)
        heard = [frame for frame in heard if not is_of_another_job(frame, attempt)]
        if _note_strange(worker, child, told - len(heard), now):
            return None
        try:
            answers = self._take_news(worker, child, attempt, heard, now)
        except (ValueError, OverflowError) as error:
            _give_up(worker, child, f"no news of ours: {error}", now)
            return None
        if not answers:
            return None
        try:
            report = report_of_answer(answers[0], attempt, child)
        except (ValueError, OverflowError):
            _give_up(worker, child, f"frame of kind {answers[0][0]}", now)
            return None
        if answers[0][0] == protocol.TOO_LATE:
            # It never began, although its mark is in the output.
            attempt.state, attempt.started_at = AttemptState.HELD, None
            return report
        return as_told(report, attempt)

    def _take_news(
        self,
        worker: Worker,
        child: Child,
        attempt: Attempt,
        heard: list[protocol.Frame],
        now: float,
    ) -> list[protocol.Frame]:
        """Applies updates and LAST, and returns the other frames.

        Raises ValueError or OverflowError for an update that no child of ours sends.
        """
        attempt.is_taken = attempt.is_taken or bool(heard)
        others = [frame for frame in heard if frame[0] != protocol.LAST]
        if len(others) < len(heard):
            worker.recall()  # the child accepts no more jobs
            heard, child.jobs_left = others, 0
        answers = attempt.updates.take(
            heard, attempt.claim.token.encode(), now - (attempt.started_at or now)
        )
        if len(answers) < len(heard):
            if attempt.updates and attempt not in self._workers.telling:
                self._workers.telling.append(attempt)
            if attempt.updates.asks_record and attempt not in self._workers.asking:
                self._workers.asking.append(attempt)
            attempt.set_deadline()
        return answers

    def reap(self, exited: Exited, baseline_bytes: int, now: float) -> list[tuple[Attempt, Report]]:
        """Reads a dead child's last frames, closes its channel; returns the attempts that ended.

        `baseline_bytes`: the zygote's resident memory, which the child shared.
        """
        worker = self._workers.by_number[exited.worker]
        child = worker.child
        if child is None or child.pid != exited.pid:
            return []
        worker.recall()
        ended = self.hear(worker, now)
        attempt = worker.attempt
        if attempt is not None and attempt.started_at is not None:
            worker.end_attempt()
            ended.append((attempt, report_of_death(exited, attempt, child, baseline_bytes, now)))
        while (
            attempt := worker.attempt
        ) is not None and attempt.is_given:  # a sound child never begins two
            worker.end_attempt()
            why = Lost("another job broke the channel of its process")
            ended.append((attempt, Report(why, pid=child.pid, zygote=child.zygote)))
        self._workers.detach(worker)
        return ended


def _note_strange(worker: Worker, child: Child, count: int, now: float) -> bool:
    """Counts frames that belong to no job; True if they are too many to be a mistake."""
    child.strange += count
    if child.strange > _MOST_STRANGE:
        _give_up(worker, child, f"{child.strange} frames of no job", now)
        return True
    return False


def _give_up(worker: Worker, child: Child, why: object, now: float) -> None:
    """Reads this child no more, and has it killed, as its frames can't be assigned any more.

    Its job ends with the child, not before: until then the job may run on.
    """
    worker.recall()
    child.jobs_left, child.is_broken, child.is_deaf = 0, True, True
    if child.leave_by is None:
        child.leave_by = now
    attempt = worker.attempt
    if attempt is not None and attempt.started_at is not None and attempt.verdict is None:
        attempt.state = AttemptState.STOPPING
        attempt.verdict = Raised("rqd.FrameError", f"the job broke its channel: {why}", "")
