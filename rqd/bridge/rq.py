"""Translates between RQ's jobs and rqd's, by the formats of rq 3.0.0; nothing here is unpickled.

RQ's serialized call is the same as a payload of rqd's, and so is a serialized result. So the bytes
pass as they are, and only the child reads them.
"""

from __future__ import annotations

import binascii
import json
import pickletools
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime

from rqd.client.callbacks import DEFAULT_TIMEOUT_S as CALLBACK_TIMEOUT_S
from rqd.client.callbacks import Callback, with_callbacks
from rqd.client.connection import Backend
from rqd.client.options import DEFAULT_FAILURE_TTL_S, DEFAULT_RESULT_TTL_S, DEFAULT_TIMEOUT_S
from rqd.client.payloads import check_meta, check_result, signed
from rqd.model.call import DEFAULT_PAYLOAD_LIMIT_BYTES
from rqd.model.errors import ConfigurationError, InvalidCallError, RqdError, SignatureError
from rqd.model.names import check_job_id
from rqd.model.records import AttemptRecord, JobRecord, JobStatus, NewJob, Template
from rqd.store.bridge import WORKER_NAME, OpenJob, RqJob, Shown

# rqd's record outlives its job by this much, for a bridge that was down when the job ended.
MARGIN_S = 7 * 24 * 3600
_LONGEST_S = 10**9
_MOST_RETRIES = 1000
_FIRST_OPCODES = 24
_NONE = (b"\x80\x05N.", b"\x80\x04N.", b"null")
# The pickle of an rq.Retry begins with its class; rqd takes it for any other value.
_RQS_RETRY = b"\x06rq.job\x94\x8c\x05Retry\x94\x93"
_SUCCESSFUL, _FAILED = 1, 2
_CALLBACKS = {"success": "finished", "failure": "failed", "stopped": "stopped"}
# Fields of RQ's record that ask for what the bridge doesn't do, and the advice.
_REFUSED = {
    "repeats_left": ("repeats itself (repeat=)", "enqueue it by rqd, with rqd.Repeat"),
    "rate_limit_key": ("has a rate limit", "enqueue it by rqd, with rqd.RateLimit"),
    "webhooks": ("has webhooks", "enqueue it by rqd, with rqd.Webhook"),
}


class RefusedJobError(RqdError):
    """The bridge does not serve this job of RQ's; the message says what to do."""


def new_job(came: RqJob, backend: Backend) -> NewJob:
    """Returns the job to enqueue in rqd for a job of RQ's, signed if there are keys.

    Raises RefusedJobError with what to do.
    """
    _refuse_unserved(came)
    payload = _unpacked(came.fields.get("data", b""))
    serializer = _serializer_of(payload)
    template = Template(
        came.queue,
        serializer,
        timeout_s=_timeout_s(came),
        result_ttl_s=_kept_s(_whole(came, "result_ttl", DEFAULT_RESULT_TTL_S)),
        failure_ttl_s=_kept_s(_whole(came, "failure_ttl", DEFAULT_FAILURE_TTL_S)),
        ttl_s=max(came.left_ms, 1) / 1000 if came.left_ms >= 0 else None,
        at_front=came.text("enqueue_at_front") == "1",
        retries=(retries := _whole(came, "retries_left", 0)),
        retry_intervals=_intervals(came, retries),
    )
    func_name = name_of_call(payload, serializer)
    try:
        job_id = check_job_id(came.id)
        if callbacks := list(_callbacks(came)):
            template = with_callbacks(template, job_id, callbacks, backend)
    except (ConfigurationError, InvalidCallError) as error:
        raise RefusedJobError(str(error)) from error
    meta, description = came.fields.get("meta", b""), came.text("description") or f"{func_name}(..)"
    return signed(NewJob(job_id, template, func_name, payload, description[:1000], meta), backend)


def shown_waiting(record: JobRecord) -> Shown:
    """Returns what RQ sees of a job that has not ended: queued, started or scheduled."""
    fields: dict[str, str | bytes | int] = {"status": _rq_status(record.status)}
    if record.retries_left or record.retries_used:
        fields["retries_left"] = record.retries_left
    if record.status is JobStatus.STARTED:
        since = _as_date(record.started_us)
        fields |= {"started_at": since, "last_heartbeat": since, "worker_name": WORKER_NAME}
        return Shown(standing(record.status, record.attempt), "", -1, _execution(record), fields)
    return Shown(standing(record.status, record.attempt), fields=fields)


def shown_end(
    record: JobRecord,
    came: RqJob,
    attempt: AttemptRecord | None,
    result: bytes | None,
    backend: Backend,
) -> Shown:
    """Returns what RQ sees of a job that has ended; `attempt` is the last, `result` its value."""
    fields: dict[str, str | bytes | int] = {
        "status": _rq_status(record.status),
        "ended_at": _as_date(record.ended_us),
    }
    if record.retries_left or record.retries_used:
        fields["retries_left"] = record.retries_left
    if record.started_us is not None:
        fields["started_at"] = _as_date(record.started_us)
        fields["worker_name"] = WORKER_NAME
    shown = standing(record.status, record.attempt)
    try:
        if record.meta:
            check_meta(record, backend)
            fields["meta"] = record.meta
        if record.status is JobStatus.FINISHED and attempt and result is not None:
            check_result(record.id, record.serializer, attempt, result, backend)
    except SignatureError as error:
        return shown_failure(str(error), came, shown)
    if record.status is JobStatus.CANCELED:
        return Shown(shown, "canceled", fields={"status": "canceled"})
    entry = _times(record, attempt)
    if record.status is JobStatus.FINISHED and _RQS_RETRY in (result or b"")[:64]:
        return shown_failure(
            "the job returned an rq.Retry: let it return an rqd.Retry", came, shown
        )
    if record.status is JobStatus.FINISHED:
        if result is not None and result not in _NONE:
            entry["return_value"] = binascii.b2a_base64(result, newline=False)
        ttl_s = _whole_or(came, "result_ttl", DEFAULT_RESULT_TTL_S)
        return Shown(shown, "finished", ttl_s, "", fields, {"type": _SUCCESSFUL, **entry})
    text = (attempt.text("exc_string") if attempt else "") or record.cause
    entry["exc_string"] = _packed_text(text)
    ending = "stopped" if record.status is JobStatus.STOPPED else "failed"
    ttl_s = _whole_or(came, "failure_ttl", DEFAULT_FAILURE_TTL_S)
    return Shown(shown, ending, ttl_s, "", fields, {"type": _FAILED, **entry})


def shown_failure(why: str, came: RqJob, shown: str = "failed") -> Shown:
    """Returns a failure that has no attempt in rqd: a refused job, or a lost record."""
    fields = {"status": "failed", "ended_at": _as_date(None)}
    result: dict[str, str | bytes | int | float] = {
        "type": _FAILED,
        "worker_name": WORKER_NAME,
        "exc_string": _packed_text(why),
    }
    ttl_s = _whole_or(came, "failure_ttl", DEFAULT_FAILURE_TTL_S)
    return Shown(shown, "failed", ttl_s, "", fields, result)


def standing(status: str, attempt: int | str) -> str:
    """Returns a status and the number of the attempt as a single text, to be compared."""
    return f"{status}:{attempt or 0}"


def name_of_call(payload: bytes, serializer: str) -> str:
    """Returns the function's dotted name, a method's with its class, without reading the pickle.

    It is for people: whoever wrote the bytes may have made it another than the child will find.
    Raises RefusedJobError if there is none.
    """
    name = _name_in_json(payload) if serializer == "json" else _name_in_pickle(payload)
    if not name or len(name) > 500 or not name.isprintable():
        raise RefusedJobError("its data is no call that RQ 3.0 writes with pickle or JSON")
    return name


def is_open_wait(job: OpenJob) -> bool:
    """True if RQ sees the job as waiting, as far as the bridge has shown."""
    return job.shown.startswith(("queued:", "scheduled:"))


def _refuse_unserved(came: RqJob) -> None:
    for name, (what, advice) in _REFUSED.items():
        if came.text(name) not in ("", "[]"):
            raise RefusedJobError(f"it {what}: {advice}, or let an RQ worker serve its queue")
    if came.has_dependents:
        raise RefusedJobError(
            "other jobs depend on it, and the bridge enqueues no dependents: let an RQ worker serve"
            " its queue, or enqueue all of them by rqd, with depends_on="
        )


def _unpacked(data: bytes) -> bytes:
    """Decompresses a job's data; RQ also reads plain bytes."""
    reader = zlib.decompressobj()
    try:
        payload = reader.decompress(data, DEFAULT_PAYLOAD_LIMIT_BYTES)
    except zlib.error:
        return data
    if reader.unconsumed_tail:
        raise RefusedJobError(
            f"its arguments take more than {DEFAULT_PAYLOAD_LIMIT_BYTES:,} bytes: store the data"
            " elsewhere and pass its address"
        )
    return payload


def _serializer_of(payload: bytes) -> str:
    if payload[:1] == b"\x80":
        return "pickle"
    if payload[:1] == b"[":
        return "json"
    raise RefusedJobError(
        "its serializer is neither RQ's pickle nor its JSON: let an RQ worker serve its queue, or"
        " enqueue it by rqd with serializer="
    )


def _name_in_json(payload: bytes) -> str:
    try:
        call = json.loads(payload)
        name, instance, args, kwargs = call
    except (ValueError, TypeError, RecursionError) as error:
        raise RefusedJobError(f"its data is no call in JSON: {error}") from error
    is_call = isinstance(name, str) and isinstance(args, list) and isinstance(kwargs, dict)
    return name if is_call and instance is None else ""


def _name_in_pickle(payload: bytes) -> str:
    """Returns the first text of the pickle, and the first class after it unless None follows."""
    name, texts = "", list[str]()
    try:
        for at, (opcode, argument, _) in enumerate(pickletools.genops(payload)):
            if name and opcode.name == "STACK_GLOBAL" and len(texts) > 2:
                return f"{texts[-2]}.{texts[-1]}.{name}"
            if at > _FIRST_OPCODES or (opcode.name == "NONE" and name):
                break
            if isinstance(argument, str):
                name = name or argument
                texts.append(argument)
    except (ValueError, IndexError):
        return ""
    return name


def _timeout_s(came: RqJob) -> int:
    seconds = _whole(came, "timeout", DEFAULT_TIMEOUT_S)
    return seconds if seconds > 0 else -1


def _kept_s(ttl_s: int) -> int:
    return ttl_s + MARGIN_S if ttl_s >= 0 else -1


def _intervals(came: RqJob, retries: int) -> tuple[float, ...]:
    """Returns the pause before each retry by RQ's rule: a short list's first stands in."""
    if retries > _MOST_RETRIES:
        raise RefusedJobError(f"it has {retries:,} retries: {_MOST_RETRIES:,} at most")
    text = came.text("retry_intervals")
    if not retries or not text:
        return ()
    try:
        given = [float(seconds) for seconds in json.loads(text)]
    except (ValueError, TypeError, RecursionError):
        given = [-1.0]
    if not all(0 <= seconds <= _LONGEST_S for seconds in given):
        raise RefusedJobError(f"its retry_intervals {text[:80]!r} are no list of seconds")
    if not given:
        return ()
    return tuple(given[max(len(given) - left, 0)] for left in range(retries, 0, -1))


def _callbacks(came: RqJob) -> Iterator[tuple[str, Callback]]:
    for kind, status in _CALLBACKS.items():
        if name := came.text(f"{kind}_callback_name"):
            timeout_s = _whole(came, f"{kind}_callback_timeout", int(CALLBACK_TIMEOUT_S))
            yield status, Callback(name, timeout_s or None)


def _whole(came: RqJob, name: str, default: int) -> int:
    text = came.text(name)
    try:
        number = int(text) if text else default
    except ValueError:
        number = _LONGEST_S + 1
    if not -1 <= number <= _LONGEST_S:
        raise RefusedJobError(f"its {name} {text[:40]!r} is no number of seconds")
    return number


def _whole_or(came: RqJob, name: str, default: int) -> int:
    try:
        return _whole(came, name, default)
    except RefusedJobError:
        return default


def _rq_status(status: JobStatus) -> str:
    return "queued" if status is JobStatus.DEFERRED else status.value


def _execution(record: JobRecord) -> str:
    return f"{record.id}:rqd-{record.attempt}"


def _times(
    record: JobRecord, attempt: AttemptRecord | None
) -> dict[str, str | bytes | int | float]:
    entry: dict[str, str | bytes | int | float] = {"worker_name": WORKER_NAME}
    if attempt:
        entry["execution_id"] = f"rqd-{record.attempt}"
    if record.started_us is not None and record.ended_us is not None:
        entry["execution_started_at"] = record.started_us / 1e6
        entry["execution_ended_at"] = record.ended_us / 1e6
    return entry


def _packed_text(text: str) -> bytes:
    return binascii.b2a_base64(zlib.compress(text.encode(errors="replace")), newline=False)


def _as_date(micros: int | None) -> str:
    moment = datetime.now(UTC) if micros is None else datetime.fromtimestamp(micros / 1e6, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
