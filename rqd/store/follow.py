"""Follows a running job's output from any host, in pieces as its master publishes them.

The master publishes on request, for some seconds each time. A piece names the byte at which it
begins, and a settled attempt's record has the output's end and length. So nothing is shown twice,
and the loss of bytes that came too fast is known.
"""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

from rqd.model.numbers import read_whole
from rqd.model.records import AttemptRecord, JobRecord, JobStatus
from rqd.store.live import send_to
from rqd.store.queries import Queries, parse_attempt
from rqd.store.store import Store

if TYPE_CHECKING:
    from rqd.model.signing import Keyring

_ASK_AGAIN_S = 3.0
_BLOCK_MS = 1000
# Nothing announces a claim to a client that waits for a single job.
_UNTIL_CLAIMED_MS = 250


@dataclass(frozen=True, slots=True)
class Piece:
    """Output of an attempt; `missing_bytes` before it are lost to the follower."""

    attempt: int
    data: bytes
    missing_bytes: int = 0


class Follower:
    """Follows a job's output from now on, over all its attempts to come."""

    def __init__(
        self, store: Store, views: Queries, job_id: str, keyring: Keyring | None = None
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._views = views
        self._job_id = job_id
        self._redis: Any = store.redis
        self._results_id = b"0"
        self._fence = 0
        self._attempt = 0
        self._shown_bytes = 0
        self._output_id = b"0"
        self._ask_at = 0.0

    def pieces(self) -> Iterator[Piece]:
        """Yields output until the job's end; for an ended job the kept output of its last attempt.

        Yields nothing if there is no such job (any more).
        """
        self._results_id = self._views.latest_result_id(self._job_id)
        record = self._views.job(self._job_id)
        if record is None or record.status.is_terminal:
            yield from self.kept()
            return
        while record is not None and not record.status.is_terminal:
            is_started = record.status is JobStatus.STARTED
            if is_started:
                self._follow(record)
            yield from self._read(_BLOCK_MS if is_started else _UNTIL_CLAIMED_MS)
            record = self._views.job(self._job_id)
        yield from self._read(1)  # its end may have come between the two reads

    def kept(self) -> Iterator[Piece]:
        """Returns the kept output of the latest attempt that is over."""
        return map(_kept, self._views.attempts(self._job_id, latest=1))

    def so_far(self, timeout_s: float) -> Iterator[Piece]:
        """Yields the output of a running attempt until now; nothing without its master."""
        self._results_id = self._views.latest_result_id(self._job_id)
        record = self._views.job(self._job_id)
        deadline = monotonic() + timeout_s
        while record is not None and record.status is JobStatus.STARTED and monotonic() < deadline:
            self._follow(record)
            for piece in self._read(_UNTIL_CLAIMED_MS):
                yield piece
                return
            record = self._views.job(self._job_id)

    def arrived(self, record: JobRecord) -> Iterator[Piece]:
        """Yields the output of a running attempt since the last call; nothing without its master.

        `record` is the job as it stands. Waits for the attempt's first output, a quarter of a
        second at most.
        """
        is_new = record.fence != self._fence
        if is_new:
            self._results_id = self._views.latest_result_id(self._job_id)
        self._follow(record)
        yield from self._read(_UNTIL_CLAIMED_MS if is_new else 1)

    def _follow(self, record: JobRecord) -> None:
        """Asks the master of the running attempt for its output."""
        is_new = record.fence != self._fence
        if is_new:
            self._fence, self._attempt, self._shown_bytes = record.fence, record.attempt, 0
        elif monotonic() < self._ask_at:
            return
        command = {
            "id": self._store.request_id(),
            "do": "follow",
            "job": self._job_id,
            "fence": self._fence,
            "first": is_new,
        }
        send_to(self._store, command, record.worker.rpartition(":")[0], self._keyring)
        self._ask_at = monotonic() + _ASK_AGAIN_S

    def _read(self, block_ms: int) -> Iterator[Piece]:
        keys = self._store.keys
        results = keys.results(self._job_id).encode()
        awaited = {keys.output(self._job_id): self._output_id, results: self._results_id}
        block_ms = min(block_ms, self._views.block_slice_ms)
        answer: list[Any] = self._redis.xread(awaited, block=block_ms) or []
        # Output that was printed before the end is yielded before it.
        for key, entries in sorted(answer, key=lambda one: one[0] == results):
            for entry_id, fields in entries:
                if key == results:
                    self._results_id = entry_id
                    attempt = parse_attempt(entry_id, fields)
                    yield from self._rest(attempt) if attempt else ()
                else:
                    self._output_id = entry_id
                    yield from self._published(fields)

    def _published(self, fields: Mapping[bytes, bytes]) -> Iterator[Piece]:
        if fields.get(b"fence") == b"%d" % self._fence:
            try:
                start = int(fields.get(b"from", b""))
            except ValueError:
                return  # somebody else wrote it
            yield from self._show(start, fields.get(b"piece", b""))

    def _rest(self, ended: AttemptRecord) -> Iterator[Piece]:
        """Yields the kept output of an ended attempt that was not shown yet."""
        if ended.attempt != self._attempt:
            self._attempt, self._shown_bytes = ended.attempt, 0  # the attempt came and went unseen
        kept = ended.fields.get("output", b"")
        yield from self._show(_total_bytes(ended) - len(kept), kept)

    def _show(self, start: int, data: bytes) -> Iterator[Piece]:
        missing_bytes = max(0, start - self._shown_bytes)
        data = data[max(0, self._shown_bytes - start) :]
        if data or not self._shown_bytes:
            self._shown_bytes += missing_bytes + len(data)
            yield Piece(self._attempt, data, missing_bytes)


def as_text(pieces: Iterator[Piece]) -> Iterator[str]:
    """Yields the pieces as text, with a line where bytes are missing or another attempt begins."""
    attempt, decoder = None, getincrementaldecoder("utf-8")("replace")
    for piece in pieces:
        if piece.attempt != attempt:
            if attempt is not None:
                yield f"{decoder.decode(b'', final=True)}[attempt {piece.attempt}]\n"
            attempt = piece.attempt
        if piece.missing_bytes:
            yield f"{decoder.decode(b'', final=True)}[{piece.missing_bytes:,} bytes are not kept]\n"
        yield decoder.decode(piece.data)


def _kept(ended: AttemptRecord) -> Piece:
    data = ended.fields.get("output", b"")
    return Piece(ended.attempt, data, max(0, _total_bytes(ended) - len(data)))


def _total_bytes(ended: AttemptRecord) -> int:
    kept = len(ended.fields.get("output", b""))
    return max(kept, read_whole(ended.fields.get("output_bytes")) or 0)
