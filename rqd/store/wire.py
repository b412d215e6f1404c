"""Packs arguments for scripts: jobs for `enqueue.lua`, outcomes and workers for `turn.lua`.

Lists of texts go as a single string, which Lua in Redis takes apart in one step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from itertools import chain
from struct import Struct
from typing import Any

from rqd.model.records import NewJob, Template
from rqd.model.terms import read_terms
from rqd.store.messages import Settlement, Turn

_length = Struct(">I").pack


def packed_text(raw: bytes) -> bytes:
    """Packs a text, with its length before it."""
    return _length(len(raw)) + raw


def packed_list(packed: Sequence[bytes]) -> bytes:
    """Packs a list of packed texts, with their number before them."""
    return _length(len(packed)) + b"".join(packed)


# Larger values travel beside the scripts: Lua would copy them while the server stands still.
INLINE_LIMIT_BYTES = 64 * 1024
# The longest run of a script, in microseconds on a host of its own: the server does nothing else
# meanwhile, and on a busy host it takes twice as long.
PORTION_US = 15_000
_JOB_US = 14
_TEMPLATE_US = 20  # the further cost of a template unlike the job's before
_BYTES_A_US = 400
# The further cost of a job whose terms mean something before its start, and of each parent it
# names: as JSON has it, with a comma before all but the first.
_TERMS_OF_WAIT = ('"unique"', '"depends_on"', '"group"')
_TERMS_US = 55
_PARENT_US = 12
# A further argument of an enqueue: on a pipeline, whose answers nobody reads; or for a mere check.
REFUSALS_RAISE = "raise"
_ONLY_LOOK = "look"
_NO_TEXT = packed_text(b"")
_NOT_BESIDE = _NO_TEXT * 2
_FIRST = packed_text(b"1")


def portions(jobs: Sequence[NewJob]) -> Iterator[Sequence[NewJob]]:
    """Yields the jobs in slices that the server can handle at once."""
    first, taken_us, like = 0, 0, jobs[0].template if jobs else None
    for at, job in enumerate(jobs):
        size_bytes = len(job.payload) if len(job.payload) <= INLINE_LIMIT_BYTES else 0
        added_us = _JOB_US
        if job.template is not like and job.template != like:
            added_us += _TEMPLATE_US
        like = job.template
        if job.meta or job.template.terms:
            size_bytes += len(job.meta) + len(job.template.terms)
            added_us += _terms_us(job.template.terms)
        added_us += size_bytes // _BYTES_A_US
        if taken_us + added_us > PORTION_US and first < at:
            yield jobs[first:at]
            first, taken_us = at, 0
        taken_us += added_us
    if first < len(jobs):
        yield jobs[first:] if first else jobs


def sendings(jobs: Sequence[NewJob], request: str) -> list[tuple[str, Sequence[NewJob]]]:
    """Returns the portions, each with a request id of its own."""
    if len(jobs) == 1:
        return [(request, jobs)]
    return [
        (f"{request}.{number}" if number else request, portion)
        for number, portion in enumerate(portions(jobs))
    ]


def looks(sent: Sequence[tuple[str, Sequence[NewJob]]]) -> Iterator[tuple[list[Any], list[NewJob]]]:
    """Yields the arguments that check each portion, before the first is written, and its jobs.

    The caller must note in these jobs which of them are left out, before it asks for the next
    portion.
    """
    enqueued: set[str] = set()  # jobs and groups of the portions before
    holders: dict[str, str] = {}  # of unique keys
    for request, portion in sent:
        bare = [
            replace(job, payload=b"", description="", meta=b"", signature="") for job in portion
        ]
        terms = [read_terms(job.template.terms) if job.template.terms else {} for job in bare]
        parents = {parent for one in terms for parent in one.get("depends_on", {}).get("ids", ())}
        keys = [one["unique"]["key"] if "unique" in one else None for one in terms]
        taken = {key: holders[key] for key in keys if key in holders}
        args, _ = enqueue_arguments(bare, request)
        yield [*args, _ONLY_LOOK, _names(parents & enqueued), _names(chain(*taken.items()))], bare
        for job, one, key in zip(bare, terms, keys, strict=True):
            if job.holder_id:
                continue
            enqueued.add(job.id)
            if "group" in one:
                enqueued.add(f"group:{one['group']['name']}")
            if key is not None:
                holders.setdefault(key, job.id)


def _names(names: Iterable[str]) -> bytes:
    return _array([name.encode() for name in names])


def enqueue_arguments(jobs: Sequence[NewJob], request: str) -> tuple[list[Any], dict[str, bytes]]:
    """Returns the script's arguments, and the payloads to be staged, by their names.

    The jobs' common settings go once, as a template. All of it is packed into two strings: the
    client library spends more on each argument than the server on each job.
    """
    staged: dict[str, bytes] = {}
    if len(jobs) == 1:
        (job,) = jobs
        like = _template(job.template, job.func_name)
        return [request, like, b"".join(_packed(job, _FIRST, request, staged))], staged
    numbers: dict[tuple[Template, str], bytes] = {}
    # Hashing a template takes longer than all the rest, and most often all jobs share the same
    # object.
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
    """Packs the job's own texts, each after its length; adds a large payload to `staged`."""
    # Written out, not in a loop: it is a tenth of an enqueue's cost.
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
def _terms_us(terms: str) -> int:
    if not any(name in terms for name in _TERMS_OF_WAIT):
        return 0
    return _TERMS_US + _PARENT_US * (terms.count(",") + 1)


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
    texts = (like.queue, front, str(like.priority), due, like.wait_limit())
    return b"".join(map(packed_text, (*(text.encode() for text in texts), fields)))


def _more_fields(job: NewJob) -> bytes:
    """Packs names and values that few jobs have."""
    more = {
        b"meta": job.meta,
        b"signature": job.signature.encode(),
        b"meta_signature": job.meta_signature.encode(),
    }
    return _array([text for pair in more.items() if pair[1] for text in pair])


def _array(texts: Sequence[bytes]) -> bytes:
    """Packs texts in a form that the server takes apart in one step."""
    return packed_list([packed_text(raw) for raw in texts])


_WITH_RESULT = ("finish", "repeat")
# A turn keeps the server for some 10 ms: so many outcomes, and so many free workers. The end of a
# job that makes others, or lets others go on, counts for several.
MOST_A_TURN = 256
_COSTLY_TERMS = ('"callbacks"', '"limit"')
_COSTLY_WEIGHT = 8


def turn_argument(turn: Turn) -> tuple[bytes, dict[str, bytes]]:
    """Returns the packed string, and by their names the results too large for it, to be staged."""
    settlements: list[bytes] = []
    staged: dict[str, bytes] = {}
    for one in turn.settlements:
        name, result = "", one.result if one.decision in _WITH_RESULT else None
        if is_staged(one):
            # The same name in each turn with this outcome: a refused turn leaves no second value.
            name = f"{one.token}:{one.id}"
            staged[name], result = one.result, None
        settlements.append(_settlement(one, name, result))
    workers = [_texts((number, turn.pids.get(number, 0))) for number in turn.free_workers]
    workers += [_texts((number, "")) for number in turn.ahead]
    parts = (b"".join(settlements), b"".join(workers), _texts(turn.busy))
    return b"".join(map(packed_text, parts)), staged


def within_a_turn(terms: Iterable[str]) -> int:
    """Returns how many outcomes of jobs with these terms fit a turn; at least one."""
    fitting, weight = 0, 0
    for one in terms:
        is_costly = one and any(name in one for name in _COSTLY_TERMS)
        weight += _COSTLY_WEIGHT if is_costly else 1
        if weight > MOST_A_TURN:
            break
        fitting += 1
    return fitting


def is_staged(one: Settlement) -> bool:
    """True if its result is too large for the script, and has to be in Redis before."""
    return one.decision in _WITH_RESULT and len(one.result) > INLINE_LIMIT_BYTES


def _settlement(one: Settlement, staged_as: str, result: bytes | None) -> bytes:
    facts = (one.id, one.token, one.worker, one.decision, one.delay_us, staged_as)
    fields: list[bytes] = []
    for name, value in one.fields:
        fields += (_name(name), _text(value))
    if result is not None:
        fields += (_name("result"), _text(result))
    return packed_text(packed_list([*map(_text, facts), *fields]))


@cache
def _name(name: str) -> bytes:
    """Packs a field's name, cached: the fields of an outcome have few names."""
    return _text(name)


def _texts(values: Iterable[object]) -> bytes:
    return b"".join(map(_text, values))


def _text(value: object) -> bytes:
    if type(value) is bytes:
        return packed_text(value)
    text = str(value)
    # A lone surrogate of a job's message must not keep its outcome from Redis.
    return packed_text(text.encode() if text.isascii() else text.encode(errors="replace"))
