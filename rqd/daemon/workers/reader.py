"""Reads the children's frames, and finds the attempts that ended: by an answer, or by a death.

A dead child's channel is read to its end before its exit is judged. So a success is never taken for
a crash. A child is read at once if the master has to act on its answer. If it goes on by itself, or
leaves, it is quiet. Quiet children are read together, when it is time to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from rqd.daemon.workers.attempt import Attempt
from rqd.daemon.workers.link import Link
from rqd.daemon.workers.outcomes import as_told, report_of_answer, report_of_death
from rqd.daemon.workers.updates import PendingUpdates
from rqd.daemon.workers.worker import Worker
from rqd.daemon.zygote import protocol
from rqd.daemon.zygotes.events import Exited
from rqd.model.outcome import Lost, Raised, Released, Report

# Late frames of jobs that a reused child had before.
_MOST_UNKNOWN = 1000


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt that is over, with its report, to be settled."""

    attempt: Attempt
    report: Report


def read(worker: Worker, now: float, *, is_alive: bool = False) -> list[Ended]:
    """Reads a child's channel to its end; returns the attempts it answered for, in order.

    `is_alive`: the child lives as far as is known, so bytes that are left will wake the master.
    """
    child, ended = worker.child, list[Ended]()
    if child is None or child.is_broken:
        return ended
    frames, error = child.read(is_alive=is_alive)
    began_at = worker.began_at
    for group in _by_answer(frames):
        report, attempt = _apply(worker, child, group, now), worker.attempt
        if attempt is None or report is None:
            continue
        worker.end_attempt(now)
        ended.append(Ended(attempt, report))
    if error is not None:
        _give_up(worker, child, error, now)
    elif worker.is_out_of_sync:
        _give_up(worker, child, "it went on to its next job without an answer", now)
    if ended:
        _note_pace(worker, (now - began_at) / len(ended))
        if child.jobs_left < 1 and (worker.attempt is None or worker.attempt.is_held):
            child.note_answers(now)
            worker.timer.hasten(child.leave_by or math.inf)
    return ended


def read_last(worker: Worker, exited: Exited, baseline_bytes: int, now: float) -> list[Ended]:
    """Reads a dead child's last frames, closes its channel; returns the attempts that ended.

    `baseline_bytes`: the zygote's resident memory, which the child shared.
    """
    child = worker.child
    if child is None or child.pid != exited.pid:
        return []
    worker.recall()
    ended = read(worker, now)
    attempt = worker.attempt
    if attempt is not None and attempt.started_at is not None:
        worker.end_attempt()
        report = report_of_death(exited, attempt, child, baseline_bytes, now)
        ended.append(Ended(attempt, report))
    # A sound child never begins two.
    ended += end_begun(worker, child, Lost("another job broke the channel of its process"))
    worker.detach()
    return ended


def end_begun(worker: Worker, child: Link, why: Lost) -> list[Ended]:
    """Ends the attempts that a child has begun, whose end nobody knows; each keeps its verdict."""
    ended: list[Ended] = []
    while (attempt := worker.attempt) is not None and not attempt.is_held:
        worker.end_attempt()
        verdict = attempt.verdict or why
        ended.append(Ended(attempt, Report(verdict, pid=child.pid, zygote=child.zygote)))
    return ended


def _note_pace(worker: Worker, took_s: float) -> None:
    """Updates the pace by the seconds that a job has taken.

    The pace falls by half at most: a seemingly quick job may only have been read late.
    """
    is_first = worker.pace_s == math.inf
    worker.pace_s = took_s if is_first else max(took_s, worker.pace_s / 2)


def _by_answer(frames: list[protocol.Frame]) -> list[list[protocol.Frame]]:
    """Splits the frames into groups: each ends with a job's answer, the last group perhaps not."""
    groups: list[list[protocol.Frame]] = [[]]
    for frame in frames:
        groups[-1].append(frame)
        if frame[0] in protocol.ANSWERS:
            groups.append([])
    return groups if groups[-1] else groups[:-1]


def _apply(worker: Worker, child: Link, frames: list[protocol.Frame], now: float) -> Report | None:
    """Applies the current job's frames; returns its report, None if it has not ended."""
    attempt = worker.attempt
    if child.is_broken:
        return None
    if attempt is None or attempt.started_at is None:
        _note_unknown(worker, child, len(frames), now)
        return None
    own = [frame for frame in frames if not _is_of_another_job(frame, attempt)]
    if _note_unknown(worker, child, len(frames) - len(own), now):
        return None
    try:
        answers = _apply_updates(worker, child, attempt, own, now - attempt.started_at)
    except (ValueError, OverflowError) as error:
        _give_up(worker, child, f"no update of ours: {error}", now)
        return None
    if not answers:
        return None
    try:
        report = report_of_answer(answers[0], attempt, child)
    except (ValueError, OverflowError):
        _give_up(worker, child, f"frame of kind {answers[0][0]}", now)
        return None
    if isinstance(report.outcome, Released):
        attempt.has_not_begun()
        return report
    return as_told(report, attempt)


def _apply_updates(
    worker: Worker,
    child: Link,
    attempt: Attempt,
    frames: list[protocol.Frame],
    running_s: float,
) -> list[protocol.Frame]:
    """Applies updates, and returns the answers.

    Raises ValueError or OverflowError for an update that no child of ours sends.
    """
    attempt.is_taken = attempt.is_taken or bool(frames)
    others = child.without_refusals(frames)
    if len(others) < len(frames):
        worker.recall()
        frames, child.jobs_left = others, 0
    if all(frame[0] in protocol.ANSWERS for frame in frames):
        return frames
    if attempt.updates is None:
        attempt.updates = PendingUpdates()
    answers = attempt.updates.take(frames, attempt.claim.token.encode(), running_s)
    if len(answers) < len(frames):
        attempt.set_deadline()
    return answers


def _is_of_another_job(frame: protocol.Frame, attempt: Attempt) -> bool:
    """True for a frame with another job's token: an earlier job of this process sent it late."""
    token = frame[1][0] if frame[1] else b""
    fence, colon, _ = token.partition(b":")
    return bool(colon) and fence.isdigit() and token != attempt.claim.token.encode()


def _note_unknown(worker: Worker, child: Link, count: int, now: float) -> bool:
    """Counts frames that belong to no job; True if they are too many to be a mistake."""
    child.unknown_frames += count
    if child.unknown_frames > _MOST_UNKNOWN:
        _give_up(worker, child, f"{child.unknown_frames} frames of no job", now)
        return True
    return False


def _give_up(worker: Worker, child: Link, why: object, now: float) -> None:
    """Reads this child no more, and has it killed, as its frames can't be assigned any more.

    Its job ends with the child, not before: until then the job may run on.
    """
    worker.recall()
    child.give_up(now)
    worker.timer.hasten(now)
    attempt = worker.attempt
    if attempt is not None and attempt.started_at is not None and attempt.verdict is None:
        broken = Raised("rqd.FrameError", f"the job broke its channel: {why}", "")
        attempt.stop(broken, math.inf)
