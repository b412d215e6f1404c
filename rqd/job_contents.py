"""What a job's record holds serialized, its call and its meta: checked first, then read."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from rqd import running
from rqd.connection import Backend
from rqd.model.call import decode_call, encode_value, read_call
from rqd.model.current import current
from rqd.model.errors import DeserializationError
from rqd.model.records import JobRecord, NewJob, Template
from rqd.model.serializers import resolve_serializer
from rqd.model.terms import dump_terms, read_terms
from rqd.signatures import check_call, check_meta, reader_of


class Contents:
    """The call and the meta of one record; `insisted` names the only serializer to read it with.

    Whoever reads them may unpickle: where there are signing keys, all of it raises SignatureError
    for what none of them signed.
    """

    def __init__(self, record: JobRecord, backend: Backend, insisted: str | None) -> None:
        self._record = record
        self._backend = backend
        self._insisted = insisted

    @property
    def serializer(self) -> str:
        """What reads the job; whoever insists on JSON must not be made to unpickle by Redis."""
        found, insisted = self._record.serializer, self._insisted
        if insisted is not None and found != insisted:
            raise DeserializationError(
                f"job {self._record.id} is serialized with {found}, and {insisted} was asked for"
            )
        if current.allowlist is not None:
            current.allowlist.check_serializer(found)  # what it names is imported to write, too
        return found

    @cached_property
    def payload(self) -> bytes:
        """The call, checked but not read; a large one is fetched for it."""
        payload = self._backend.views.payload(self._record)
        check_call(self._record, payload, self._backend)
        return payload

    @cached_property
    def call(self) -> tuple[str, Any, tuple[Any, ...], dict[str, Any]]:
        """The function's name, the instance of a method, and the arguments of both kinds."""
        payload, serializer = self.payload, self.serializer
        try:
            return read_call(payload, serializer, current.allowlist)
        except Exception as error:
            raise self._unreadable(error) from error  # unpickling runs the user's code

    def function(self) -> Callable[..., Any]:
        """The function itself, imported here."""
        payload, serializer = self.payload, self.serializer
        try:
            return decode_call(payload, serializer, current.allowlist)[0]
        except Exception as error:
            raise self._unreadable(error) from error  # importing runs the user's code

    def load_meta(self) -> dict[str, Any]:
        """The meta, a new dict with each call."""
        if running.runs_here(self._record.id) and current.meta is not None:
            # What this attempt saved itself: it may still be on its way to Redis.
            saved: dict[str, Any] = resolve_serializer(self.serializer).loads(current.meta)
            return saved
        data = self._record.meta
        if data:
            check_meta(self._record, self._backend)
        return reader_of(self.serializer)(data) if data else {}

    def renewed(self, meta: dict[str, Any], queue: str, at_front: bool) -> NewJob:
        """The same call, with its id and options and this meta, for another enqueue."""
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
