"""Signing what goes to Redis, and checking what comes from there before anyone unpickles it.

With no keys nothing is signed and nothing is checked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from rqd.connection import Backend
from rqd.model.current import current
from rqd.model.errors import SignatureError
from rqd.model.records import AttemptRecord, JobRecord, NewJob
from rqd.model.serializers import resolve_serializer
from rqd.model.terms import signed_id


def signed(new: NewJob, backend: Backend) -> NewJob:
    """The job with the signatures of its call and its meta."""
    if backend.keyring is None:
        return new
    from rqd.model.signing import JOB  # noqa: PLC0415 - loads hmac, which only keys need

    about = signed_id(new.id, new.template.terms)
    facts = (backend.namespace.encode(), about.encode(), *new.signed_facts())
    return replace(
        new,
        signature=backend.keyring.sign(JOB, facts, new.payload),
        meta_signature=sign_meta(new.meta, new.id, new.template.serializer, backend)
        if new.meta
        else "",
    )


def sign_meta(meta: bytes, job_id: str, serializer: str, backend: Backend) -> str:
    """The signature of a job's serialized meta; empty without keys."""
    if backend.keyring is None:
        return ""
    from rqd.model.signing import META  # noqa: PLC0415 - as in signed

    return backend.keyring.sign(META, _meta_facts(job_id, serializer, backend), meta)


def check_call(record: JobRecord, payload: bytes, backend: Backend) -> None:
    """Raises SignatureError unless one of our keys signed this job and its payload."""
    if backend.keyring is None:
        return
    from rqd.model.signing import JOB, Verdict  # noqa: PLC0415 - as in signed

    verdict = Verdict.UNSIGNED
    if record.envelope is not None:
        about = signed_id(record.id, record.terms)
        facts = (backend.namespace.encode(), about.encode(), *record.envelope.facts)
        verdict = backend.keyring.verify(record.envelope.signature, JOB, facts, payload)
    _insist(verdict, f"the call of job {record.id}")


def check_meta(record: JobRecord, backend: Backend) -> None:
    """Raises SignatureError unless one of our keys signed the job's meta."""
    if backend.keyring is None:
        return
    from rqd.model.signing import META, Verdict  # noqa: PLC0415 - as in signed

    verdict = Verdict.UNSIGNED
    # A cron run's is its entry's, until it is saved.
    for about in dict.fromkeys((record.id, signed_id(record.id, record.terms))):
        facts = _meta_facts(about, record.serializer, backend)
        verdict = backend.keyring.verify(record.meta_signature, META, facts, record.meta)
        if verdict is Verdict.GOOD:
            return
    _insist(verdict, f"the meta of job {record.id}")


def check_result(
    job_id: str, serializer: str, attempt: AttemptRecord, data: bytes, backend: Backend
) -> None:
    """Raises SignatureError unless a child with one of our keys made this result."""
    if backend.keyring is None:
        return
    from rqd.model.signing import RESULT, result_facts  # noqa: PLC0415 - as in signed

    facts = result_facts(
        backend.namespace.encode(),
        job_id.encode(),
        attempt.fields.get("token", b""),
        serializer.encode(),
    )
    verdict = backend.keyring.verify(attempt.text("signature"), RESULT, facts, data)
    _insist(verdict, f"the result of job {job_id}")


def reader_of(serializer: str) -> Callable[[bytes], Any]:
    """What reads values of this serializer; in a daemon's job, only those of what it allows."""
    if current.allowlist is not None:
        return current.allowlist.loader(serializer)
    return resolve_serializer(serializer).loads


def _meta_facts(job_id: str, serializer: str, backend: Backend) -> tuple[bytes, ...]:
    return backend.namespace.encode(), job_id.encode(), serializer.encode()


def _insist(verdict: str, what: str) -> None:
    if verdict == "good":
        return
    why = {
        "unsigned": "is not signed, and there are signing keys here",
        "unknown key": "is signed with a key that is not ours",
    }.get(verdict, "has a wrong signature: it was changed in Redis")
    raise SignatureError(f"{what} {why}; it was not read")
