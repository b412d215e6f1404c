"""Signs jobs and meta for Redis, and checks a record's call and meta before they are unpickled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

from rqd.client import running_job
from rqd.client.connection import Backend
from rqd.model.call import decode_call, encode_value, name_function, read_call
from rqd.model.current import current
from rqd.model.errors import DeserializationError, SignatureError
from rqd.model.records import AttemptRecord, JobRecord, NewJob, Template
from rqd.model.serializers import resolve_serializer
from rqd.model.terms import dump_terms, read_terms, signed_id


def signed(new: NewJob, backend: Backend) -> NewJob:
    """Returns the job with the signatures of its call and its meta; unchanged without keys."""
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
    """Returns the signature of a job's serialized meta; empty without keys."""
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
    # A cron run has its entry's meta and signature, until it saves its own.
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
    """Returns the loader of this serializer; in a daemon's job, limited by its allowlist."""
    allowlist = current().allowlist
    if allowlist is not None:
        return allowlist.loader(serializer)
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


class Contents:
    """The call and the meta of one record; `insisted` names the only serializer to read it with.

    Reading them may unpickle: with signing keys, every attribute raises SignatureError for data
    that none of the keys signed.
    """

    def __init__(self, record: JobRecord, backend: Backend, insisted: str | None) -> None:
        self._record = record
        self._backend = backend
        self._insisted = insisted
        self._is_made_here = False
        self._function: Callable[..., Any] | None = None

    def of_changed(self, record: JobRecord) -> Contents:
        """Returns the contents of a record that this process has made of this one, or made new.

        There is nothing to check, and the call stays as it is here.
        """
        contents = Contents(record, self._backend, self._insisted)
        contents._is_made_here, contents._function = True, self._function
        if "call" in self.__dict__:
            contents.__dict__["call"] = self.call
        return contents

    def keep_call(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Keeps the objects of a call that was made here, which need not be read then."""
        name, instance = name_function(function)
        if not isinstance(function, str):
            self._function = function if instance is None else getattr(instance, name)
        self.__dict__["call"] = (name, instance, args, kwargs)

    @property
    def serializer(self) -> str:
        """The serializer of the job. Raises DeserializationError if another was insisted on.

        A user's insistence on JSON must hold against a record in Redis that names pickle.
        """
        found, insisted = self._record.serializer, self._insisted
        if insisted is not None and found != insisted:
            raise DeserializationError(
                f"job {self._record.id} is serialized with {found}, not with {insisted}"
            )
        if (allowlist := current().allowlist) is not None:
            allowlist.check_serializer(found)  # its module is imported to write, too
        return found

    @cached_property
    def payload(self) -> bytes:
        """The serialized call, its signature checked; a large call is fetched for it."""
        payload = self._backend.views.payload(self._record)
        if not self._is_made_here:
            check_call(self._record, payload, self._backend)
        return payload

    @cached_property
    def call(self) -> tuple[str, Any, tuple[Any, ...], dict[str, Any]]:
        """The function's name, the instance of a method, and the arguments of both kinds."""
        payload, serializer = self.payload, self.serializer
        try:
            return read_call(payload, serializer, current().allowlist)
        except Exception as error:
            raise self._unreadable(error) from error  # unpickling runs the user's code

    def function(self) -> Callable[..., Any]:
        """Imports the function. Raises DeserializationError, SignatureError."""
        if self._function is not None:
            return self._function
        payload, serializer = self.payload, self.serializer
        try:
            return decode_call(payload, serializer, current().allowlist)[0]
        except Exception as error:
            raise self._unreadable(error) from error  # importing runs the user's code

    def read_following(self, term: dict[str, Any]) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Imports the function of a callback among the job's terms; returns it and its arguments.

        Raises as `function`.
        """
        _ = self.payload  # checked with all that the signature binds, the terms among it
        serializer = self.serializer
        try:
            payload = bytes.fromhex(term["payload"])
            return decode_call(payload, serializer, current().allowlist)[:2]
        except Exception as error:
            raise self._unreadable(error) from error  # importing runs the user's code

    def load_meta(self) -> dict[str, Any]:
        """Returns the meta, a new dict with each call."""
        own = current().meta if running_job.runs_here(self._record.id) else None
        if own is not None:
            # This attempt saved it itself: it may still be on its way to Redis.
            saved: dict[str, Any] = resolve_serializer(self.serializer).loads(own)
            return saved
        data = self._record.meta
        if data and not self._is_made_here:
            check_meta(self._record, self._backend)
        return reader_of(self.serializer)(data) if data else {}

    def renewed(self, meta: dict[str, Any], queue: str, at_front: bool) -> NewJob:
        """Returns the same call, with its id, its options and this meta, for another enqueue."""
        was = self._record
        terms = read_terms(was.terms)
        if was.status.is_terminal:
            terms.pop("depends_on", None)  # it has waited, and some of them may be gone
        like = Template(
            queue,
            was.serializer,
            timeout_s=was.timeout_s,
            result_ttl_s=was.result_ttl_s,
            failure_ttl_s=was.failure_ttl_s,
            ttl_s=was.ttl_s,
            at_front=at_front,
            priority=was.priority,
            retries=was.retries_left + was.retries_used,
            retry_intervals=was.retry_intervals,
            terms=dump_terms(terms),
        )
        data = encode_value(meta, self.serializer, "meta") if meta else b""
        return NewJob(was.id, like, was.func_name, self.payload, was.description, data)

    def _unreadable(self, error: Exception) -> DeserializationError:
        return DeserializationError(f"the call of job {self._record.id} can't be read: {error}")
