"""Reads the answers to an enqueue: why jobs were left out or refused, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rqd.model.errors import (
    DuplicateJobError,
    InvalidJobOperation,
    NoSuchJobError,
    PartlyEnqueuedError,
    RqdError,
)
from rqd.model.limits import conflict_of
from rqd.model.records import NewJob
from rqd.store.messages import read_text


def check_ids(jobs: Sequence[NewJob]) -> None:
    """Raises DuplicateJobError if two of the jobs have the same id."""
    seen: set[str] = set()
    for job in jobs:
        if job.id in seen:
            raise _duplicate(job.id)
        seen.add(job.id)


def partly_enqueued(
    error: Exception, jobs: Sequence[NewJob], done: int, unknown: int
) -> PartlyEnqueuedError:
    """Returns the error for a failed portion: the first `done` jobs are enqueued.

    The state of the next `unknown` jobs is not known.
    """
    also = f", the next {unknown:,} may be" if unknown else ""
    outcome = f"the first {done:,} of {len(jobs):,} jobs are enqueued{also} (job_ids lists them)"
    return PartlyEnqueuedError(
        f"{outcome}: {error}",
        tuple(job.id for job in jobs[:done] if not job.holder_id),
    )


def read_enqueued(answer: bytes | list[Any], jobs: Sequence[NewJob]) -> int:
    """Returns Redis' time in microseconds; writes `holder_id` into jobs that were left out.

    Raises DuplicateJobError, InvalidJobOperation, NoSuchJobError.
    """
    if isinstance(answer, bytes):
        return int(answer)
    outcome, text, *more = answer
    match outcome:
        case b"ok":
            left_out = more[0]
            for number, holder in zip(left_out[::2], left_out[1::2], strict=True):
                jobs[number - 1].holder_id = holder.decode()
            return int(text)
        case b"duplicate":
            raise _duplicate(text.decode())
        case b"conflict":
            holder, key = map(read_text, more)
            refused = next(job for job in jobs if job.id == text.decode())
            raise DuplicateJobError(_conflict(holder, key, refused), holder)
        case b"parent left out":
            parent, holder, key = map(read_text, more)
            raise DuplicateJobError(
                f"job {text.decode()} depends on {parent}, which is left out: job {holder} has its"
                f" unique key {key!r}; wait for its end, or write depends_on={holder!r}",
                holder,
            )
        case b"awaited":
            raise DuplicateJobError(
                f"other jobs still wait for {text.decode()!r}, so that it can't wait for others"
                " itself: choose another id, or requeue it",
                text.decode(),
            )
        case b"circle":
            raise InvalidJobOperation(_circle(text.decode(), read_text(more[0])))
        case b"orphan":
            raise NoSuchJobError(_orphan(text.decode(), read_text(more[0])))
    raise RqdError(f"Redis lost the payload of job {text.decode()} on its way: enqueue again")


def _duplicate(job_id: str) -> DuplicateJobError:
    return DuplicateJobError(
        f"a job with id {job_id!r} is still alive, or is given twice: wait for its end, or choose"
        " another id",
        job_id,
    )


def _conflict(holder: str, key: str, new: NewJob) -> str:
    has_it = f"job {holder} has the unique key {key!r}"
    if conflict_of(new.template.terms) == "replace":
        return (
            f"{has_it} and can't be replaced: it runs, has ended, or is of the same batch; wait"
            " until the key is free"
        )
    return f"{has_it}: wait for its end, or use Unique(.., on_conflict=..)"


def _orphan(job_id: str, parent: str) -> str:
    _, _, group = parent.partition(":")
    if group:
        return (
            f"job {job_id!r} waits for group {group!r}, which has no jobs: put its jobs in first;"
            " perhaps their times to live are over"
        )
    return (
        f"job {job_id!r} depends on {parent!r}, and there is no such job: it was deleted, its time"
        " to live is over, or it stands later in the same batch"
    )


def _circle(job_id: str, awaited: str) -> str:
    kind, _, group = awaited.partition(":")
    if group:
        return (
            f"job {job_id} of {kind} {group} depends on a job that waits for this group: neither"
            " would ever run"
        )
    return (
        f"job {job_id} depends on {awaited}, which it would replace, and so would never run:"
        " leave out that parent, or the unique key"
    )
