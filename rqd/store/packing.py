"""Jobs on their way into `enqueue.lua`: in portions, each packed in two strings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from struct import Struct
from typing import Any

from rqd.model.records import NewJob, Template
from rqd.store.texts import packed_list, packed_text

# Larger values travel beside the scripts: Lua would copy them while the server stands still.
INLINE_LIMIT_BYTES = 64 * 1024
# What one enqueue may carry: the server does nothing else meanwhile (about 10 us a job).
PORTION_JOBS = 10_000
PORTION_BYTES = 64 * 1024 * 1024
# A parent named in the terms costs the server some 10 us, as a whole job does: 25,000 of them go at
# once, or a quarter of a second.
_TERMS_WEIGHT = 64

_length = Struct(">I").pack
_NO_TEXT = packed_text(b"")
_NOT_BESIDE = _NO_TEXT * 2
_FIRST = packed_text(b"1")


def portions(jobs: Sequence[NewJob]) -> Iterator[Sequence[NewJob]]:
    """The jobs in slices that the server can take at once."""
    first, size_bytes = 0, 0
    for at, job in enumerate(jobs):
        added_bytes = len(job.payload) if len(job.payload) <= INLINE_LIMIT_BYTES else 0
        added_bytes += _TERMS_WEIGHT * len(job.template.terms)
        if at - first >= PORTION_JOBS or size_bytes + added_bytes > PORTION_BYTES:
            yield jobs[first:at]
            first, size_bytes = at, 0
        size_bytes += added_bytes
    if first < len(jobs):
        yield jobs[first:] if first else jobs


def sendings(jobs: Sequence[NewJob], request: str) -> Iterable[tuple[str, Sequence[NewJob]]]:
    """The portions, each with a request id of its own."""
    if len(jobs) == 1:
        return ((request, jobs),)
    return (
        (f"{request}.{number}" if number else request, portion)
        for number, portion in enumerate(portions(jobs))
    )


def enqueue_arguments(jobs: Sequence[NewJob], request: str) -> tuple[list[Any], dict[str, bytes]]:
    """The script's arguments, and the payloads to be staged by their names.

    What jobs have in common goes once, as a template. All of it is packed in two strings, as the
    client library spends more on each argument than the server on each job.
    """
    staged: dict[str, bytes] = {}
    if len(jobs) == 1:
        (job,) = jobs
        like = _template(job.template, job.func_name)
        return [request, like, b"".join(_packed(job, _FIRST, request, staged))], staged
    numbers: dict[tuple[Template, str], bytes] = {}
    # To hash a template takes longer than all the rest, and most often it is one and the same.
    known: dict[tuple[int, str], bytes] = {}
    templates: list[bytes] = []
    packed: list[bytes] = []
    for job in jobs:
        seen = (id(job.template), job.func_name)
        number = known.get(seen)
        if number is None:
            shared = (job.template, job.func_name)
            if shared not in numbers:
                numbers[shared] = packed_text(b"%d" % (len(numbers) + 1))
                templates.append(_template(*shared))
            number = known[seen] = numbers[shared]
        packed += _packed(job, number, request, staged)
    return [request, b"".join(templates), b"".join(packed)], staged


def _packed(
    job: NewJob, number: bytes, request: str, staged: dict[str, bytes]
) -> tuple[bytes, ...]:
    """The job's own texts, each after its length; a large payload is put among the staged ones."""
    # Written out, not in a loop: it is a tenth of what an enqueue costs.
    job_id, payload, beside = job.id.encode(), job.payload, _NOT_BESIDE
    if len(payload) > INLINE_LIMIT_BYTES:
        name = f"{request}:{job.id}"
        beside = packed_text(name.encode()) + packed_text(b"%d" % len(payload))
        staged[name], payload = payload, b""
    # A lone surrogate of the user's must not keep the job from Redis.
    description = job.description.encode("utf-8", "replace")
    return (
        *(_length(len(job_id)), job_id),
        number,
        beside,
        *(_length(len(payload)), payload),
        *(_length(len(description)), description),
        packed_text(_more_fields(job)) if job.meta or job.signature else _NO_TEXT,
    )


@lru_cache(maxsize=256)
def _template(like: Template, func_name: str) -> bytes:
    if like.due_us is not None:
        due = str(like.due_us)
    else:
        due = f"+{like.delay_us}" if like.delay_us is not None else ""
    front = "1" if like.at_front else ""
    fields = _array(
        [text.encode() for pair in like.hash_fields(func_name).items() for text in pair]
    )
    told = (like.queue, front, str(like.priority), due, like.wait_limit())
    return b"".join(map(packed_text, (*(text.encode() for text in told), fields)))


def _more_fields(job: NewJob) -> bytes:
    """Names and values that few jobs have."""
    more = {
        b"meta": job.meta,
        b"signature": job.signature.encode(),
        b"meta_signature": job.meta_signature.encode(),
    }
    return _array([text for pair in more.items() if pair[1] for text in pair])


def _array(texts: Sequence[bytes]) -> bytes:
    """In a form that the server takes apart in one step."""
    return packed_list([packed_text(raw) for raw in texts])
