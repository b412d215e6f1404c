"""From an attempt's report to what Redis shall record, and to the line the operator reads."""

from __future__ import annotations

import textwrap
from zlib import crc32

from rqd.daemon.log import Log
from rqd.daemon.workers import Run
from rqd.model.outcome import (
    AskedAgain,
    Crashed,
    Lost,
    Parked,
    Raised,
    Refused,
    Released,
    Report,
    Stopped,
    Succeeded,
    TimedOut,
    cause,
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
from rqd.model.terms import read_terms
from rqd.store.exchange import Settlement

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
# What a child sends at most; what comes from elsewhere on its channel is cut too.
_TRACEBACK_CHARS = 64 * 1024


def settlement(run: Run, report: Report) -> Settlement:
    """What to record of this attempt."""
    claim = run.claim
    decision = decide_for(run, report)
    delay_s = decision.delay_s if isinstance(decision, RunAgain | RepeatLater | Park) else 0.0
    fields = [] if isinstance(decision, PutBack) else _fields(run, report)
    if isinstance(decision, RunAgain) and decision.counted:
        fields.append(("run_again_for", decision.counted))
    return Settlement(
        id=claim.id,
        token=claim.token,
        worker=run.worker,
        decision=_DECISION[type(decision)],
        delay_us=int(delay_s * 1_000_000),
        fields=tuple(fields),
        result=report.outcome.result if isinstance(report.outcome, Succeeded) else b"",
    )


def decide_for(run: Run, report: Report) -> Decision:
    """The decision for this attempt under its job's retries."""
    claim = run.claim
    terms = read_terms(claim.terms)
    budget = RetryBudget(
        claim.retries_left,
        claim.retry_intervals,
        claim.retries_used,
        RetryRules.parse(terms.get("retry")),
        claim.tally,
        RepeatTerm.parse(terms.get("repeat")),
    )
    # Drawn from the token, which is random: who decides twice decides the same.
    return decide(report.outcome, budget, crc32(claim.token.encode()) / 2**32)


def log_ending(log: Log, run: Run, report: Report, verdict: str) -> None:
    """One line for the attempt's end: INFO success, WARNING retried or put back, ERROR failed."""
    claim = run.claim
    named = {"id": claim.id, "func": claim.func_name, "queue": claim.queue}
    if verdict in ("stale", "gone"):
        log.warning("outcome refused", **named, verdict=verdict, outcome=cause(report.outcome))
        return
    match Stop() if verdict == "stopped" else decide_for(run, report):
        case Finish():
            wall_ms = f"{(report.usage.wall_s or 0) * 1000:.1f}"
            log.info("job finished", **named, worker=run.worker, run_ms=wall_ms)
        case RepeatLater(delay_s):
            log.info("job succeeded, runs again", **named, in_s=f"{delay_s:g}")
        case Fail():
            log.error("job failed", **named, cause=cause(report.outcome), pid=report.pid)
            if isinstance(report.outcome, Raised | TimedOut) and report.outcome.traceback:
                log.output(textwrap.indent(report.outcome.traceback, "    ").encode())
        case RunAgain(delay_s, counted):
            tell = log.info if counted == ASKED else log.warning
            tell("job retried", **named, cause=cause(report.outcome), in_s=f"{delay_s:.4g}")
        case Park(delay_s):
            why = cause(report.outcome)
            log.warning("job parked", **named, cause=why, in_s=f"{delay_s:g}")
        case CountLoss() if verdict == "abandoned":
            log.error("job failed, abandoned", **named, cause=cause(report.outcome), pid=report.pid)
        case Stop() | PutBack() | CountLoss() as decision:
            what = "job stopped" if isinstance(decision, Stop) else "job put back"
            log.warning(what, **named, cause=cause(report.outcome))


def _fields(run: Run, report: Report) -> Fields:
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
                # The token is what the signature says of the attempt.
                fields += [("token", run.claim.token), ("signature", signature)]
        case Released():
            return fields
        case _:
            fields += [*_failure(report.outcome), ("cause", cause(report.outcome))]
    if report.output_tail:
        fields += [("output", report.output_tail), ("output_bytes", report.output_bytes)]
    return fields


def _failure(
    outcome: Raised | TimedOut | Crashed | AskedAgain | Refused | Parked | Lost | Stopped,
) -> Fields:
    match outcome:
        case Raised(exc_type, message, traceback):
            named: Fields = [
                ("exc_type", exc_type[:_TAIL_CHARS]),
                ("exc_message", message[:_TAIL_CHARS]),
            ]
            return [*named, ("exc_string", traceback[-_TRACEBACK_CHARS:])]
        case TimedOut(_, _, traceback):
            return [
                ("exc_type", "rqd.exceptions.JobTimeoutException"),
                ("exc_string", traceback[-_TRACEBACK_CHARS:]),
            ]
        case Crashed(signal_number, exit_status, core_dumped):
            return [
                ("signal", signal_number),
                ("exit_status", exit_status),
                ("core_dumped", int(core_dumped)),
            ]
        case Stopped(_, _, traceback) if traceback:
            return [
                ("exc_type", "rqd.exceptions.JobStoppedException"),
                ("exc_string", traceback[-_TRACEBACK_CHARS:]),
            ]
        case AskedAgain() | Refused() | Parked() | Lost() | Stopped():
            return []
