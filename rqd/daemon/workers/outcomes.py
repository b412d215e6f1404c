"""Finds the outcome of an attempt: from its child's answer, or from the child's death."""

from __future__ import annotations

from dataclasses import replace

from rqd.daemon.workers.attempt import Attempt
from rqd.daemon.workers.forensics import crash_from_status
from rqd.daemon.workers.link import Link
from rqd.daemon.zygote import protocol
from rqd.daemon.zygotes.events import Exited
from rqd.model.numbers import EXACT
from rqd.model.outcome import (
    Outcome,
    Raised,
    Refused,
    Released,
    Report,
    Stopped,
    Succeeded,
    TimedOut,
    Usage,
)
from rqd.model.retry import read_asking
from rqd.model.terms import read_terms


def report_of_answer(frame: protocol.Frame, attempt: Attempt, child: Link) -> Report:
    """Returns the report of an attempt by its child's answer.

    Raises ValueError or OverflowError if the frame is no answer to this attempt.
    """
    kind, (token, *fields) = frame
    if token != attempt.claim.token.encode():
        raise ValueError(token)
    texts, used = fields[: -protocol.USED_FIELDS], fields[-protocol.USED_FIELDS :]
    wall_us, cpu_us, load_us, grown_bytes = map(int, used)
    if max(map(abs, (wall_us, cpu_us, load_us, grown_bytes))) > EXACT:
        raise OverflowError
    outcome = child.outcome_of_refused(kind, attempt) or _outcome(kind, texts, attempt.limit_s)
    child.cpu_us += cpu_us
    usage = Usage(
        wall_s=wall_us / 1_000_000,
        cpu_s=cpu_us / 1_000_000,
        peak_memory_bytes=max(grown_bytes, attempt.peak_bytes or 0),
        load_s=load_us / 1_000_000,
    )
    return Report(outcome, usage, child.pid, zygote=child.zygote)


def as_told(report: Report, attempt: Attempt) -> Report:
    """Replaces the outcome of a job that got a signal to stop, or that its cpu time is over.

    The verdict counts, not the exception that the job raised then. A success stays a success.
    """
    verdict, outcome = attempt.verdict, report.outcome
    if not isinstance(verdict, Stopped | TimedOut) or isinstance(outcome, Succeeded):
        return report
    shown = getattr(outcome, "traceback", "")
    return replace(report, outcome=replace(verdict, traceback=shown))


def report_of_death(
    exited: Exited, attempt: Attempt, child: Link, baseline_bytes: int, now: float
) -> Report:
    """Returns the report of an attempt whose child is gone without an answer."""
    outcome = attempt.verdict
    if outcome is None:
        # The frame was never read, or never fully sent: the job did not start.
        unread = child.has_left_unread or bool(child.outbox) or child.has_unread()
        is_not_taken = unread and not attempt.is_taken
        outcome = Released("its process died before it took the job") if is_not_taken else None
    if outcome is None:
        outcome = crash_from_status(exited.status)
    death = crash_from_status(exited.status)
    is_by_us = attempt.killed_at is not None or death.signal in protocol.ORDERS
    if isinstance(outcome, Stopped | TimedOut) and is_by_us:
        outcome = replace(outcome, killed=True)
    usage = Usage(wall_s=now - (attempt.started_at or now), peak_memory_bytes=attempt.peak_bytes)
    if exited.status != 0:
        # The child's peak RSS counts pages it shares with the zygote; the rest is its own.
        grown = max(0, exited.max_rss_bytes - baseline_bytes)
        usage = replace(
            usage,
            cpu_s=max(0, exited.cpu_us - child.cpu_us) / 1_000_000,
            peak_memory_bytes=max(grown, attempt.peak_bytes or 0),
        )
    return Report(outcome, usage, exited.pid, death=death, zygote=child.zygote)


def _outcome(kind: int, fields: list[bytes], limit_s: float) -> Outcome:
    if kind == protocol.SUCCEEDED:
        result, preview, *signed = fields
        signature = b"".join(signed).decode(errors="replace")
        return Succeeded(result, preview.decode(errors="replace"), signature)
    if kind == protocol.TIMED_OUT:
        (shown,) = fields
        return TimedOut(limit_s, killed=False, traceback=shown.decode(errors="replace"))
    if kind == protocol.RAISED:
        exc_type, message, traceback, ancestors = _texts(fields)
        return Raised(exc_type, message, traceback, tuple(ancestors.split("\n")))
    if kind == protocol.ASKED_AGAIN:
        asked, message = _texts(fields)
        return read_asking(read_terms(asked), message)
    if kind == protocol.REFUSED:
        (reason,) = fields
        return Refused(reason.decode(errors="replace"))
    raise ValueError(kind)


def _texts(fields: list[bytes]) -> list[str]:
    return [field.decode(errors="replace") for field in fields]
