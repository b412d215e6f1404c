"""Turns an attempt's report into the record for Redis and into the log event."""

from __future__ import annotations

from signal import SIGKILL
from zlib import crc32

from rqd.daemon.log.log import Log, about
from rqd.daemon.workers.attempt import Attempt
from rqd.daemon.zygote.protocol import ORDERS
from rqd.model.outcome import (
    AskedAgain,
    Crashed,
    Lost,
    OutOfMemory,
    Parked,
    Raised,
    Refused,
    Released,
    Report,
    Stopped,
    Succeeded,
    TimedOut,
    cause,
    has_stack,
    sent_by,
)
from rqd.model.repeat import RepeatTerm
from rqd.model.retry import (
    ASKED,
    CountLoss,
    Decision,
    Fail,
    Finish,
    Park,
    PutBack,
    RepeatLater,
    RetryBudget,
    RetryRules,
    RunAgain,
    Stop,
    decide,
)
from rqd.model.stack import innermost_frame
from rqd.model.terms import read_terms
from rqd.store.messages import Settlement

Fields = list[tuple[str, str | bytes | int | float]]

_DECISION = {
    Finish: "finish",
    RepeatLater: "repeat",
    Fail: "fail",
    RunAgain: "retry",
    PutBack: "put_back",
    Park: "park",
    CountLoss: "lose",
    Stop: "stop",
}
# A text in the history is for the eye; the whole could fill Redis.
_TAIL_CHARS = 8 * 1024
# The most a child sends; a longer text, written to its channel by others, is cut too.
_TRACEBACK_CHARS = 64 * 1024


def settlement(attempt: Attempt, report: Report, host: str = "", master: str = "") -> Settlement:
    """Returns the record of this attempt; `host` and `master` say where it ran."""
    claim = attempt.claim
    decision = decide_for(attempt, report)
    delay_s = decision.delay_s if isinstance(decision, RunAgain | RepeatLater | Park) else 0.0
    fields = _fields(attempt, report, host)
    if isinstance(decision, PutBack):
        # A job that has not begun goes on waiting, within the same time to live.
        fields = [("began", 0)] if attempt.started_at is None else []
    if isinstance(decision, RunAgain) and decision.counted:
        fields.append(("run_again_for", decision.counted))
    if isinstance(decision, RunAgain) and decision.at_front:
        fields.append(("at_front", 1))
    if attempt.is_moved:
        fields.insert(0, ("worker", f"{master}:{attempt.worker}"))
    return Settlement(
        id=claim.id,
        token=claim.token,
        worker=attempt.worker,
        decision=_DECISION[type(decision)],
        delay_us=int(delay_s * 1_000_000),
        fields=tuple(fields),
        result=report.outcome.result if isinstance(report.outcome, Succeeded) else b"",
    )


def decide_for(attempt: Attempt, report: Report) -> Decision:
    """Returns the decision for this attempt under its job's retries."""
    claim = attempt.claim
    if not claim.terms and isinstance(report.outcome, Succeeded):
        return Finish()  # no terms to weigh: the most frequent end
    terms = read_terms(claim.terms)
    budget = RetryBudget(
        claim.retries_left,
        claim.retry_intervals,
        claim.retries_used,
        RetryRules.parse(terms.get("retry")),
        claim.tally,
        RepeatTerm.parse(terms.get("repeat")),
    )
    # The random number comes from the token, so that a second decision is the same.
    return decide(report.outcome, budget, crc32(claim.token.encode()) / 2**32)


def log_ending(log: Log, attempt: Attempt, report: Report, verdict: str) -> None:
    """Logs the attempt's end: INFO success, WARNING retried or put back, ERROR failed."""
    named = {**about(attempt.claim), "worker": attempt.worker, "pid": report.pid}
    why = log.cause(report.outcome)
    if verdict in ("stale", "gone"):
        log.warning("outcome refused", **named, verdict=verdict, cause=why)
    elif verdict == "stopped":
        log.warning("job stopped", **named, cause=why)
    elif verdict == "abandoned":
        log.error("job failed, abandoned", **named, cause=why)
    else:
        _log_decision(log, decide_for(attempt, report), attempt, report, named)


def _log_decision(
    log: Log, decision: Decision, attempt: Attempt, report: Report, named: dict[str, object]
) -> None:
    why = log.cause(report.outcome)
    wait_ms, run_ms = _ms(attempt.waited_s), _ms(report.usage.wall_s or 0.0)
    match decision:
        case Finish():
            log.info("job finished", **named, wait_ms=wait_ms, run_ms=run_ms)
        case RepeatLater(delay_s):
            in_s = round(delay_s, 3)
            log.info(
                "job succeeded, runs again", **named, wait_ms=wait_ms, run_ms=run_ms, in_s=in_s
            )
        case Fail():
            shown = log.traceback(report.outcome)
            if not shown and has_stack(report.outcome):
                shown = report.stack
            log.error(
                "job failed", **named, wait_ms=wait_ms, run_ms=run_ms, cause=why, traceback=shown
            )
        case RunAgain(delay_s, counted) if counted == ASKED:
            log.info("job runs again as it asked", **named, cause=why, in_s=round(delay_s, 3))
        case RunAgain(delay_s):
            log.warning("job retried", **named, cause=why, in_s=round(delay_s, 3))
        case Park(delay_s):
            log.warning("job parked", **named, cause=why, in_s=round(delay_s, 3))
        case Stop():
            log.warning("job stopped", **named, cause=why)
        case PutBack() | CountLoss():
            _log_put_back(log, report, named)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


def _log_put_back(log: Log, report: Report, named: dict[str, object]) -> None:
    if isinstance(report.outcome, Released) and report.outcome.is_usual:
        log.debug("job goes back, it had not begun", **named, cause=log.cause(report.outcome))
    else:
        log.warning("job put back", **named, cause=log.cause(report.outcome))


def _fields(attempt: Attempt, report: Report, host: str) -> Fields:
    fields: Fields = [("pid", report.pid)]
    for name in ("wall_s", "cpu_s", "load_s"):
        seconds = getattr(report.usage, name)
        if seconds is not None:
            fields.append((name, f"{seconds:.6f}"))
    if report.usage.peak_memory_bytes is not None:
        fields.append(("peak_memory_bytes", report.usage.peak_memory_bytes))
    match report.outcome:
        case Succeeded(_, preview, signature):
            fields.append(("preview", preview[:_TAIL_CHARS]))
            if signature:
                # By the token the signature names the attempt.
                fields += [("token", attempt.claim.token), ("signature", signature)]
        case Released():
            return fields
        case _:
            fields += [*_failure(report.outcome), ("cause", cause(report.outcome))]
            fields += [*_death(report), ("host", host), ("zygote", report.zygote)]
            fields += _frame(report)
            if report.stack and has_stack(report.outcome):
                fields.append(("stack", report.stack))
    if report.output_tail:
        fields += [("output", report.output_tail), ("output_bytes", report.output_bytes)]
    return fields


def _failure(
    outcome: Raised
    | TimedOut
    | OutOfMemory
    | Crashed
    | AskedAgain
    | Refused
    | Parked
    | Lost
    | Stopped,
) -> Fields:
    match outcome:
        case Raised(exc_type, message, traceback):
            named: Fields = [
                ("exc_type", exc_type[:_TAIL_CHARS]),
                ("exc_message", message[:_TAIL_CHARS]),
            ]
            return [*named, ("exc_string", traceback[-_TRACEBACK_CHARS:])]
        case TimedOut(traceback=traceback):
            return [
                ("exc_type", "rqd.exceptions.JobTimeoutException"),
                ("exc_string", traceback[-_TRACEBACK_CHARS:]),
            ]
        case Stopped(_, _, traceback) if traceback:
            return [
                ("exc_type", "rqd.exceptions.JobStoppedException"),
                ("exc_string", traceback[-_TRACEBACK_CHARS:]),
            ]
        case OutOfMemory(_, limit_bytes):
            return [] if limit_bytes is None else [("memory_limit_bytes", limit_bytes)]
        case Crashed() | AskedAgain() | Refused() | Parked() | Lost() | Stopped():
            return []


def _frame(report: Report) -> Fields:
    """Returns the innermost frame of the job's code, by which failures are grouped."""
    traceback = getattr(report.outcome, "traceback", "")
    stack = report.stack if has_stack(report.outcome) else ""
    frame = innermost_frame(traceback[-_TRACEBACK_CHARS:], stack)
    return [("frame", frame)] if frame else []


def _death(report: Report) -> Fields:
    """Returns how the process died, whatever the outcome; empty if it did not crash."""
    death = report.outcome if isinstance(report.outcome, Crashed) else report.death
    if death is None:
        return []
    fields: Fields = [
        ("signal", death.signal),
        ("exit_status", death.exit_status),
        ("core_dumped", int(death.core_dumped)),
    ]
    # rqd kills by SIGKILL or by an order; any other signal came from elsewhere, before that.
    may_be_ours = death.signal == SIGKILL or death.signal in ORDERS
    sender = sent_by(report.outcome) if may_be_ours else ""
    return [*fields, ("sent_by", sender)] if sender else fields
