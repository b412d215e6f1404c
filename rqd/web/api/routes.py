"""The routes of the HTTP API under /api/v1: docs/http-api.md describes them for users."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from time import monotonic
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from rqd.client.connection import Backend
from rqd.client.enqueue import delay_us_of, due_us_of, record_of
from rqd.client.job import Job
from rqd.client.payloads import check_result
from rqd.client.queue import Queue
from rqd.client.records import fetch_record, no_such_job
from rqd.model.errors import (
    ConfigurationError,
    DuplicateJobError,
    InvalidCallError,
    InvalidJobOperation,
    NoSuchJobError,
    RqdError,
    ServerUnavailableError,
)
from rqd.model.limits import Unique
from rqd.model.names import is_job_id
from rqd.model.numbers import iso
from rqd.model.records import JobRecord
from rqd.store.audit import Deed, write_deed
from rqd.store.connection import translate_errors
from rqd.web.access import credentials
from rqd.web.api.body import MOST_BYTES, BodyError, Call, read_call, read_object
from rqd.web.api.openapi import document
from rqd.web.api.tokens import Token, Tokens
from rqd.web.threads import Threads

# A key of idempotency holds so long, and so does the record of its job, unless a request says else.
KEY_S = 24 * 3600
LONGEST_WAIT_S = 60.0
# A wait goes by slices, so that a client that left, or the end of the server, ends it soon.
_SLICE_S = 2.0
_MOST_WAITERS, _MOST_THREADS = 64, 8
_LONGEST_KEY = 255
_ENDED = ("finished", "failed", "stopped", "canceled")
_OFF = "the HTTP API is off: start rqd web with --api-tokens FILE"
_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (NoSuchJobError, 404),
    (DuplicateJobError, 409),
    (InvalidJobOperation, 409),
    (InvalidCallError, 422),
    (ConfigurationError, 422),
    (ServerUnavailableError, 503),
)
_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
T = TypeVar("T")
Handler = Callable[[Request, Token], Awaitable[Response]]


class ProblemError(Exception):
    """A refusal, with its status and its headers."""

    def __init__(self, status: int, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def api(
    backend: Backend, tokens: Tokens | None, redact: Callable[[str], str], read_only: bool
) -> Starlette:
    """Makes the API of a namespace, to mount at /api/v1. `tokens` None refuses every request."""
    here = _Api(backend, tokens, redact, read_only)
    return Starlette(
        routes=[
            Route("/openapi.json", _openapi),
            Route("/jobs", here.route("enqueue", here.enqueue), methods=["POST"]),
            Route("/jobs/{id}", here.route("read", here.show), methods=["GET"]),
            Route("/jobs/{id}/result", here.route("read", here.outcome), methods=["GET"]),
            Route("/jobs/{id}/cancel", here.route("cancel", here.cancel), methods=["POST"]),
        ],
        exception_handlers={404: _no_route, 405: _no_method},
    )


@dataclass(frozen=True, slots=True)
class _Sent:
    """A request of a client with its token, as an idempotency key knows it."""

    call: Call
    token: Token
    key: str

    @property
    def unique_key(self) -> str:
        """The unique key for the idempotency key: each token has its own."""
        return f"http-{_short_hash(self.token.name, self.key)}"

    @property
    def job_id(self) -> str:
        """The id of the job: another body under the same key has another."""
        return f"http-{_short_hash(self.token.name, self.key, self.call.fingerprint)}"


class _Api:
    """The handlers of the routes."""

    def __init__(
        self,
        backend: Backend,
        tokens: Tokens | None,
        redact: Callable[[str], str],
        read_only: bool,
    ) -> None:
        self._backend = backend
        self._tokens = tokens
        self._redact = redact
        self._read_only = read_only
        self._threads = Threads({"ask": _MOST_THREADS, "wait": _MOST_WAITERS})

    def route(self, right: str, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """Returns an endpoint that finds the token first, and words all errors as problems."""

        async def answer(request: Request) -> Response:
            try:
                return await handler(request, self._token(request, right))
            except ProblemError as problem:
                return _problem(problem.status, str(problem), problem.headers)
            except RqdError as error:
                status = next((code for kind, code in _STATUS if isinstance(error, kind)), 502)
                return _problem(status, self._redact(str(error)))

        return answer

    async def enqueue(self, request: Request, token: Token) -> Response:
        """Enqueues a call: 201 with its job, or 200 with the job of an earlier sending."""
        call = read_call(await _body(request))
        if not token.covers(call.queue, call.function):
            raise ProblemError(
                403, f"token {token.name} may not enqueue {call.function} in queue {call.queue}"
            )
        key = request.headers.get("idempotency-key", "")
        if len(key) > _LONGEST_KEY:
            raise ProblemError(400, f"Idempotency-Key: {_LONGEST_KEY} characters at most")
        sent = _Sent(call, token, key)
        record, is_new = await self._in_thread(lambda: self._enqueue(sent))
        response = _json(self._described(record), 201 if is_new else 200)
        response.headers["location"] = f"{request.scope.get('root_path', '')}/jobs/{record.id}"
        return response

    async def show(self, request: Request, token: Token) -> Response:
        """Answers a job's state."""
        record = await self._in_thread(lambda: self._record(request, token))
        return _json(self._described(record))

    async def outcome(self, request: Request, token: Token) -> Response:
        """Answers a job's result, and waits for it; 202 if it has not ended by then."""
        until = monotonic() + _wait_s(request)
        record = await self._in_thread(lambda: self._record(request, token))
        while record.status not in _ENDED and (left_s := until - monotonic()) > 0:
            if self._threads.are_busy("wait"):
                raise ProblemError(503, "too many requests wait: ask without wait", retry_after="5")
            slice_s = min(_SLICE_S, left_s)
            await self._in_thread(
                lambda: self._backend.views.wait_for_end(record.id, slice_s),  # noqa: B023 - awaited
                "wait",
            )
            if await request.is_disconnected():
                return Response(status_code=204)  # nobody reads it
            record = await self._in_thread(lambda: self._record(request, token))
        if record.status not in _ENDED:
            return _json({"id": record.id, "status": str(record.status)}, 202)
        return _json(await self._in_thread(lambda: self._outcome(record)))

    async def cancel(self, request: Request, token: Token) -> Response:
        """Cancels a waiting job; with `stop`, stops a running one."""
        body = await _body(request, is_needed=False)
        fields = read_object(body) if body else {}
        stop = fields.pop("stop", False)
        if fields or not isinstance(stop, bool):
            raise BodyError('write {"stop": true}, {"stop": false}, or no body')

        def do() -> JobRecord:
            record = self._record(request, token)
            Job(record, self._backend).cancel(stop=stop)
            deed = Deed(f"token {token.name}", "cancel", record.id, "by the HTTP API")
            write_deed(self._backend.store, deed)
            return self._record(request, token)

        return _json(self._described(await self._in_thread(do)))

    def _token(self, request: Request, right: str) -> Token:
        if self._tokens is None:
            raise ProblemError(403, _OFF)
        token = self._tokens.find(credentials(request.scope, "bearer"))
        if token is None:
            raise ProblemError(
                *(401, "send a token: Authorization: Bearer TOKEN"),
                www_authenticate='Bearer realm="rqd"',
            )
        if right not in token.may or (self._read_only and right != "read"):
            raise ProblemError(403, f"token {token.name} may not {right}")
        return token

    def _enqueue(self, sent: _Sent) -> tuple[JobRecord, bool]:
        """Enqueues; returns the job's record, and whether it is new."""
        call, options = sent.call, dict(sent.call.options)
        if sent.key:
            unique = Unique(sent.unique_key, until=KEY_S, on_conflict="existing")
            kept = {"result_ttl": KEY_S, "failure_ttl": KEY_S}
            options = kept | options | {"unique": unique, "job_id": sent.job_id}
        queue = Queue(call.queue, self._backend, serializer="json")
        timeout, values = options.pop("job_timeout", None), tuple(call.values)
        data = queue.prepare_data(call.function, values, call.named, timeout, **options)
        due_us = due_us_of(call.at) if call.at else None
        delay_us = delay_us_of(call.delay) if call.delay is not None else None
        (draft,) = queue.drafts([data], due_us, delay_us)
        store = self._backend.store
        try:
            now_us = store.enqueue([draft], store.request_id(), None, queue.durability)
        except DuplicateJobError as error:
            # The key's day may be over while its job still waits or runs.
            record = self._backend.views.job(sent.job_id) if sent.key else None
            if record is not None and error.job_id == record.id:
                return record, False
            if not sent.key:
                raise
            raise ProblemError(
                410, f"job {error.job_id} of this Idempotency-Key has ended, its record is gone"
            ) from error
        if not draft.holder_id:
            return record_of(draft, now_us), True
        if draft.holder_id != draft.id:
            raise ProblemError(422, "this Idempotency-Key came with another body before")
        return fetch_record(self._backend, draft.id), False

    def _record(self, request: Request, token: Token) -> JobRecord:
        """Returns the job of the address; raises NoSuchJobError, also for one out of scope."""
        job_id = request.path_params["id"]
        if not is_job_id(job_id):
            raise no_such_job(job_id[:100])
        record = fetch_record(self._backend, job_id)
        if not token.covers(record.origin, record.func_name):
            raise no_such_job(job_id)
        return record

    def _described(self, record: JobRecord) -> dict[str, Any]:
        job: Job[Any] = Job(record, self._backend)
        progress = job.progress
        return {
            "id": record.id,
            "status": str(record.status),
            "queue": record.origin,
            "function": record.func_name,
            "created": iso(record.created_us),
            "due": iso(record.due_us),
            "enqueued": iso(record.enqueued_us),
            "started": iso(record.started_us),
            "ended": iso(record.ended_us),
            "attempt": record.attempt,
            "retries_left": record.retries_left,
            "progress": progress
            and {
                "fraction": progress.fraction,
                "message": self._redact(progress.message),
            },
            "cause": self._redact(record.cause) or None,
        }

    def _outcome(self, record: JobRecord) -> dict[str, Any]:
        """Reads the result of an ended job. Nothing but JSON is read."""
        fields = {"id": record.id, "status": str(record.status), "result": None}
        if record.status != "finished":
            return fields | {"cause": self._redact(record.cause) or None}
        if record.serializer != "json":
            raise ProblemError(
                409,
                f"the result of job {record.id} is stored by {record.serializer[:40]}, not JSON",
            )
        latest = self._backend.views.attempts(record.id, latest=1)
        data = self._backend.views.result_bytes(record.id, latest[0]) if latest else None
        if data is None:
            raise ProblemError(410, f"the result of job {record.id} is gone")
        check_result(record.id, record.serializer, latest[0], data, self._backend)
        try:
            return fields | {"result": json.loads(data), "cause": None}
        except (ValueError, RecursionError) as error:
            raise ProblemError(502, f"the result of job {record.id} is damaged") from error

    async def _in_thread(self, work: Callable[[], T], kind: str = "ask") -> T:
        def translated() -> T:
            with translate_errors(self._backend.url):
                return work()

        return await self._threads.run(translated, kind)


async def _openapi(_: Request) -> Response:
    return _json(document())


async def _no_route(_: Request, __: Exception) -> Response:
    return _problem(404, "the API has no such address: /api/v1/openapi.json lists all")


async def _no_method(_: Request, __: Exception) -> Response:
    return _problem(405, "this address does not take that method: see /api/v1/openapi.json")


async def _body(request: Request, is_needed: bool = True) -> bytes:
    """Reads a body of JSON; raises ProblemError for another type, or one that is too large."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MOST_BYTES:
            raise ProblemError(413, f"the body has more than {MOST_BYTES:,} bytes")
    if not body and not is_needed:
        return body
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ProblemError(415, "send JSON: Content-Type: application/json")
    return body


def _wait_s(request: Request) -> float:
    """Reads the parameter `wait`, in seconds."""
    given = request.query_params.get("wait", "0")
    try:
        wait_s = float(given)
    except ValueError:
        wait_s = math.nan
    if not 0 <= wait_s <= LONGEST_WAIT_S:
        raise ProblemError(422, f"wait={given[:20]!r}: write 0 to {LONGEST_WAIT_S:g} seconds")
    return wait_s


def _short_hash(*texts: str) -> str:
    told = "\n".join(texts).encode(errors="surrogatepass")
    return hashlib.sha256(told).hexdigest()[:32]


def _json(data: object, status: int = 200) -> Response:
    content = json.dumps(data) + "\n"
    return Response(content, status, _HEADERS, media_type="application/json")


def _problem(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    told = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    content = json.dumps(told | {"detail": detail}) + "\n"
    sent = _HEADERS | (headers or {})
    return Response(content, status, sent, media_type="application/problem+json")
