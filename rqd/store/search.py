"""Searches jobs by steps: exact, in the order of an index, from a cursor, within a time budget.

Nothing is indexed for it. A script looks at some hundred ids at a time, so that the server serves
others in between: see docs/decisions/0099-search.md.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from struct import Struct
from time import monotonic
from typing import Any

from rqd.model.errors import ConfigurationError
from rqd.model.filter import CAUSES, NO_FRAME, OTHER_CAUSE, Filter
from rqd.model.names import is_job_id
from rqd.model.numbers import read_whole
from rqd.store.answers import reads_answers
from rqd.store.keys import Keys
from rqd.store.messages import read_text
from rqd.store.queries import OF_ENDED, Queries
from rqd.store.store import Store

# A step keeps the server for 1 to 3 ms: so many ids, and so many of them that match.
MOST_IDS, _MOST_FOUND = 300, 150
_FEWEST_IDS = 20
_LONGEST_ID = 255
# Hostile records could have a frame each.
MOST_GROUPS = 10_000
# The fields of a found job; `_of_fields` reads them in this order.
_FIELDS = (
    "status", "func_name", "cause", "worker", "host", "frame", "attempt",
    "created_at", "enqueued_at", "started_at", "ended_at", "due",
)  # fmt: skip
_SCORE = re.compile(r"-?(inf|\d{1,20}(\.\d{1,20})?(e[+-]?\d{1,3})?)\Z")
_KINDS = (OTHER_CAUSE, *CAUSES)
# The instants by which `since` and `until` choose jobs of a state.
_INSTANT = {"queued": "enqueued_at", "scheduled": "created_at", "deferred": "created_at"}
_INSTANT["started"] = "started_at"
_Condition = tuple[str, str, str]
_Scores = tuple[str, str]
_OF_TWO_FIELDS = ("frame", "host")


@dataclass(frozen=True, slots=True)
class FoundJob:
    """A job that matches. Instants are microseconds since 1970, None if not reached.

    Texts are cut to 512 bytes. `host` and `frame` (`file:line function`) are empty if unknown;
    `worker` is `master:number` of the latest attempt.
    """

    id: str
    queue: str
    status: str
    function: str
    cause: str
    worker: str
    host: str
    frame: str
    attempt: int
    created_us: int | None
    enqueued_us: int | None
    started_us: int | None
    ended_us: int | None
    due_us: int | None


@dataclass(frozen=True, slots=True)
class Page:
    """Jobs that match, in the order of the search.

    All ids in the state are to look at, but ended jobs only as `since` and `until` limit them.
    `cursor` continues behind the last of them, and is empty at the end of the search. Of `total`
    ids to look at, about `looked_at` have been looked at up to there. A page has fewer jobs than
    its limit if the budget was over.
    """

    jobs: tuple[FoundJob, ...]
    cursor: str
    looked_at: int
    total: int


@dataclass(frozen=True, slots=True)
class Count:
    """The number of matching jobs among the `looked_at` ids of `total` to look at."""

    jobs: int
    looked_at: int
    total: int
    is_whole: bool


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Failures of one kind, function and place. Instants are microseconds since 1970, None: never.

    `kind` is one of CAUSES or `other`. `frame` is the innermost one (`file:line function`), the
    class of the exception if the frame is unknown, or empty. `example_id` and `example_cause` are
    of the latest failure.
    """

    kind: str
    function: str
    frame: str
    jobs: int
    first_us: int | None
    last_us: int | None
    example_id: str
    example_cause: str

    def within(self, wanted: Filter) -> Filter:
        """Narrows the filter of the search to this group.

        Raises ConfigurationError if no filter has such texts: somebody else wrote them to Redis.
        """
        if not self.function:
            raise ConfigurationError("jobs without a function are in no filter: choose them by id")
        frame = self.frame or NO_FRAME
        return replace(wanted, cause=self.kind, function=self.function, frame=frame)


@dataclass(frozen=True, slots=True)
class FailureGroups:
    """Groups of failures, the largest first, among the `looked_at` ids of `total` to look at.

    `ungrouped` counts the jobs beyond 10,000 groups. Unless it `is_whole`, the search goes on if
    it is handed in again.
    """

    groups: tuple[FailureGroup, ...]
    ungrouped: int
    looked_at: int
    total: int
    is_whole: bool
    _walk: _Walk = field(repr=False, compare=False)
    _tally: _Tally = field(repr=False, compare=False)


@reads_answers
class Search:
    """Searches in a namespace. Each search lasts at most a step longer than its budget."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._views = Queries(store)

    def page(
        self,
        wanted: Filter,
        cursor: str = "",
        limit: int = 50,
        budget_s: float | None = 1.0,
        oldest_first: bool = False,
    ) -> Page:
        """Returns the next `limit` matching jobs behind the cursor.

        Ended jobs come latest first, all others in the order of their turn; `oldest_first` turns
        that of ended jobs round. The queues are merged. A job that stays in its state is neither
        left out nor found twice by pages that follow one another. Raises ConfigurationError for a
        cursor that can't be read.
        """
        walk = self._walk(wanted, cursor, oldest_first)
        return walk.page(max(1, limit), _end_of(budget_s))

    def count(self, wanted: Filter, budget_s: float | None = None) -> Count:
        """Counts the matching jobs; `budget_s` None searches to the end."""
        walk, end_at, jobs = self._walk(wanted), _end_of(budget_s), 0
        for found in walk.steps("count", end_at):
            jobs += int(found)
        return Count(jobs, walk.looked_at, walk.total, walk.is_over)

    def totals(self, wanted: Filter) -> dict[str, int]:
        """Counts the ids that a search looks at, by queue, without the queues that have none."""
        found: dict[str, int] = {}
        for source in self._sources(wanted, _Place(), _scores(wanted, self._views.now_us())):
            found[source.queue] = found.get(source.queue, 0) + source.total
        return found

    def failure_groups(
        self,
        wanted: Filter,
        budget_s: float | None = 1.0,
        so_far: FailureGroups | None = None,
    ) -> FailureGroups:
        """Groups the matching jobs by kind of cause, function and innermost frame.

        `so_far` is a result of the same filter to go on from.
        """
        walk = so_far._walk if so_far else self._walk(wanted)
        tally = so_far._tally if so_far else _Tally()
        for found in walk.steps("groups", _end_of(budget_s), tuple(CAUSES.values())):
            tally.add(found)
        return FailureGroups(
            *(tally.groups(), tally.ungrouped, walk.looked_at, walk.total, walk.is_over),
            *(walk, tally),
        )

    def _walk(self, wanted: Filter, cursor: str = "", oldest_first: bool = False) -> _Walk:
        now_us, place = self._views.now_us(), _read_cursor(cursor)
        scores = _scores(wanted, now_us)
        sources = list(self._sources(wanted, place, scores))
        conditions = _conditions(wanted, now_us, self._masters_on(wanted.host))
        is_upward = oldest_first or not wanted.is_of_ended
        return _Walk(self._store, sources, conditions, scores, is_upward)

    def _sources(self, wanted: Filter, place: _Place, scores: _Scores) -> Iterator[_Source]:
        """Yields the indexes to search, without the ones that have nothing between these scores."""
        indexes = _indexes_of(wanted)
        named = [
            (queue, index)
            for queue in wanted.queue or self._views.queue_names()
            for index in indexes
        ]
        with self._store.redis.pipeline(transaction=False) as pipe:
            for queue, index in named:
                pipe.zcount(_key(self._store.keys, queue, index), *scores)
            # A key that holds something else is refused by its step, in words.
            counts: list[Any] = pipe.execute(raise_on_error=False)
        for (queue, index), count in zip(named, counts, strict=True):
            if count:
                yield _Source(queue, index, place, count if isinstance(count, int) else 0)

    def _masters_on(self, host: str) -> list[str]:
        rows = self._views.masters() if host else []
        return [row["name"] for row in rows if row.get("host") == host]


def _indexes_of(wanted: Filter) -> tuple[str, ...]:
    """Returns the indexes of each queue that have these jobs; empty for the ready set."""
    return ("", "limited") if wanted.state == "queued" else (wanted.index,)


def _scores(wanted: Filter, now_us: int) -> _Scores:
    """Returns the lowest and the highest score that may match: ended jobs stand by their end."""
    if not wanted.is_of_ended:
        return "-inf", "+inf"
    earliest_us, latest_us = wanted.instants_us(now_us)
    lowest = str(earliest_us) if wanted.since else "-inf"
    return lowest, str(latest_us) if wanted.until else "+inf"


def _key(keys: Keys, queue: str, index: str) -> str:
    if index in OF_ENDED:
        return keys.by_end(queue, index)
    return keys.index(queue, index) if index else keys.ready(queue)


@dataclass(frozen=True, slots=True)
class _Place:
    """A place in the order of an index: behind this score and id. Both empty: at the start."""

    score: str = ""
    id: bytes = b""

    @property
    def order(self) -> tuple[float, bytes]:
        return float(self.score), self.id


@dataclass(slots=True)
class _Source:
    """An index and how far it was searched."""

    queue: str
    index: str
    place: _Place
    total: int
    looked_at: int = 0
    is_begun: bool = False
    is_over: bool = False
    step_ids: int = MOST_IDS
    step_jobs: int = _MOST_FOUND

    def move(self, answer: Any) -> Any:
        """Notes where a step has come to; returns what it found."""
        total, rank, is_over, score, job_id, found = answer
        self.total, self.looked_at, self.is_begun = int(total), int(rank), True
        self.is_over = bool(is_over)
        if score:
            self.place = _Place(_score(score), job_id)
        self.step_ids = min(MOST_IDS, 2 * self.step_ids)
        self.step_jobs = min(_MOST_FOUND, 2 * self.step_jobs)
        return found


@dataclass(slots=True)
class _Walk:
    """A search on its way through its indexes."""

    store: Store
    sources: list[_Source]
    conditions: Sequence[_Condition]
    scores: _Scores
    is_upward: bool

    @property
    def looked_at(self) -> int:
        return sum(one.looked_at for one in self.sources)

    @property
    def total(self) -> int:
        return sum(one.total for one in self.sources)

    @property
    def is_over(self) -> bool:
        return all(one.is_over for one in self.sources)

    def steps(self, what: str, end_at: float | None, texts: Sequence[str] = ()) -> Iterator[Any]:
        """Yields what each step found, an index after the other, until `end_at`."""
        for source in self.sources:
            while not source.is_over:
                yield source.move(self.store.search(*self._call(source, what, MOST_IDS, texts)))
                if end_at is not None and monotonic() > end_at:
                    return

    def page(self, limit: int, end_at: float | None) -> Page:
        """Merges the indexes: goes on in the ones that are behind until the page is sure."""
        found: list[tuple[_Place, FoundJob]] = []
        count = max(1, len(self.sources))
        for source in self.sources:
            source.step_ids = max(_FEWEST_IDS, MOST_IDS // count)
            source.step_jobs = min(_MOST_FOUND, max(1, limit // count))
        behind, is_in_time = self.sources, True
        while behind and is_in_time:
            if count == 1:  # or it would look at more than the page has, for the next page again
                self.sources[0].step_jobs = min(_MOST_FOUND, limit - len(found))
            for portion in _portions(behind):
                found += self._jobs(portion)
                # Without a step in each index, the next page would begin at the same place.
                is_begun = all(one.is_begun for one in self.sources)
                is_in_time = end_at is None or not is_begun or monotonic() <= end_at
                if not is_in_time:
                    break
            behind = self._behind(found, limit)
        unsearched = [one.place for one in self.sources if not one.is_over]
        reached = self._first(unsearched) if unsearched else None
        return self._page(found, limit, reached)

    def _behind(self, found: list[tuple[_Place, FoundJob]], limit: int) -> list[_Source]:
        """Returns the indexes that may have jobs before the last one of the page."""
        unsearched = [one for one in self.sources if not one.is_over]
        if len(found) < limit:
            return unsearched
        self._sort(found)
        last = found[limit - 1][0]
        return [one for one in unsearched if not self._is_up_to(last, one.place)]

    def _page(
        self, found: list[tuple[_Place, FoundJob]], limit: int, reached: _Place | None
    ) -> Page:
        if reached:
            found = [one for one in found if self._is_up_to(one[0], reached)]
        self._sort(found)
        if len(found) > limit or (reached and len(found) == limit):
            reached = found[limit - 1][0]
        jobs = tuple(job for _, job in found[:limit] if is_job_id(job.id))
        return Page(jobs, _cursor(reached) if reached else "", self.looked_at, self.total)

    def _sort(self, found: list[tuple[_Place, FoundJob]]) -> None:
        found.sort(key=lambda one: one[0].order, reverse=not self.is_upward)

    def _first(self, places: Sequence[_Place]) -> _Place:
        first = min if self.is_upward else max
        return first(places, key=lambda place: place.order)

    def _is_up_to(self, place: _Place, reached: _Place) -> bool:
        return place.order <= reached.order if self.is_upward else place.order >= reached.order

    def _jobs(self, sources: Sequence[_Source]) -> Iterator[tuple[_Place, FoundJob]]:
        """Takes a step in each of these indexes, in one round trip."""
        calls = [self._call(one, "jobs", one.step_jobs, _FIELDS) for one in sources]
        answers = self.store.ask_each("search", calls)
        for source, call, answer in zip(sources, calls, answers, strict=True):
            # Once more, to have an error in words.
            is_error = isinstance(answer, Exception)
            found = source.move(self.store.search(*call) if is_error else answer)
            width = len(_FIELDS) + 2
            for first in range(0, len(found), width):
                score, job_id, *values = found[first : first + width]
                job = _of_fields(read_text(job_id), source.queue, list(map(read_text, values)))
                yield _Place(_score(score), job_id[:_LONGEST_ID]), job

    def _call(self, source: _Source, what: str, most: int, texts: Sequence[str]) -> tuple[Any, ...]:
        """Returns the arguments of a step in this index."""
        place = source.place
        # An id may stand in an index from before: its job is of another queue by now, or gone.
        is_here = ("origin", "same", source.queue)
        of_one = [one for one in self.conditions if one[1] not in _OF_TWO_FIELDS]
        of_two = [one for one in self.conditions if one[1] in _OF_TWO_FIELDS]
        conditions = [*of_one, is_here, *of_two]
        direction = "1" if self.is_upward else ""
        return (
            *(source.queue, source.index, direction, place.score, place.id),
            *(*self.scores, source.step_ids, most, what),
            *(len(conditions), *chain.from_iterable(conditions), len(texts), *texts),
        )


def _portions(sources: Sequence[_Source]) -> Iterator[list[_Source]]:
    """Yields so many indexes that their steps together keep the server for some milliseconds.

    It serves nobody in between the scripts of one round trip.
    """
    portion, ids = list[_Source](), 0
    for source in sources:
        if portion and ids + source.step_ids > MOST_IDS:
            yield portion
            portion, ids = [], 0
        portion.append(source)
        ids += source.step_ids
    if portion:
        yield portion


def _conditions(wanted: Filter, now_us: int, masters: Sequence[str]) -> list[_Condition]:
    """Returns the user's conditions on a job: field, test and text, the cheapest first."""
    found: list[_Condition] = []
    if wanted.id:
        found.append(("id", "begins", wanted.id))
    if wanted.function:
        found.append(("func_name", "like", wanted.function))
    found += _cause_conditions(wanted)
    instant, (earliest_us, latest_us) = _instant_of(wanted), wanted.instants_us(now_us)
    if wanted.since:
        found.append((instant, "from", str(earliest_us)))
    if wanted.until:
        found.append((instant, "to", str(latest_us)))
    if wanted.index == "failed" and len(wanted.statuses) == 1:
        found.append(("status", "same", wanted.statuses[0]))
    if wanted.frame:
        frame = "" if wanted.frame == NO_FRAME else wanted.frame
        found.append(("frame", "frame", frame))
    if wanted.host:
        found.append(("host", "host", " ".join((wanted.host, *masters))))
    return found


def _cause_conditions(wanted: Filter) -> Iterator[_Condition]:
    if wanted.cause in CAUSES:
        yield "cause", "begins", CAUSES[wanted.cause]
    elif wanted.cause == OTHER_CAUSE:
        yield "cause", "begins_otherwise", "\n".join(CAUSES.values())
    elif wanted.cause:
        yield "cause", "has", wanted.cause
    if wanted.type:
        yield "cause", "raised", wanted.type


def _instant_of(wanted: Filter) -> str:
    return _INSTANT.get(wanted.state, "ended_at")


def _cursor(place: _Place) -> str:
    raw = f"{place.score} ".encode() + place.id
    return urlsafe_b64encode(raw).decode().rstrip("=")


def _read_cursor(cursor: str) -> _Place:
    if not cursor:
        return _Place()
    try:
        raw = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)) if len(cursor) < 1000 else b""
        score, _, job_id = raw.partition(b" ")
        return _Place(_score(score), job_id)
    except ValueError:
        raise ConfigurationError(
            f"cursor {cursor[:40]!r} is none of a search: begin again without it"
        ) from None


def _score(raw: bytes) -> str:
    """Returns a score as text; raises ValueError for other text."""
    text = raw.decode("ascii")
    if not _SCORE.match(text):
        raise ValueError(f"{text[:40]!r} for a score")
    return text


def _end_of(budget_s: float | None) -> float | None:
    return None if budget_s is None else monotonic() + budget_s


def _of_fields(job_id: str, queue: str, values: Sequence[str]) -> FoundJob:
    status, function, cause, worker, host, frame, attempt, *instants = values
    created, enqueued, started, ended, due = map(read_whole, instants)
    return FoundJob(
        *(job_id, queue, status, function, cause, worker, host, frame, read_whole(attempt) or 0),
        *(created, enqueued, started, ended, due),
    )


# A group as the script packs it: kind, jobs, first and last; lengths of the texts behind it.
_PACKED = Struct(">IIddIIII")


@dataclass(slots=True)
class _Group:
    """A group so far; `example` has the id and the cause of its latest job."""

    jobs: int
    first: float
    last: float
    example: tuple[bytes, bytes]


@dataclass(slots=True)
class _Tally:
    """The groups of the steps so far: a step may have hundreds."""

    ungrouped: int = 0
    _known: dict[tuple[int, bytes, bytes], _Group] = field(default_factory=dict)

    def add(self, found: Sequence[bytes]) -> None:
        """Adds the groups of a step."""
        for packed in found:
            if len(packed) < _PACKED.size:  # struct's own error is none that says so
                raise ValueError(f"{packed[:40]!r} for a group")
            kind, jobs, first, last, *lengths = _PACKED.unpack_from(packed)
            texts = _texts(packed, lengths)
            key = (kind, texts[0], texts[1])
            known = self._known.get(key)
            if known is not None:
                known.jobs += jobs
                known.first = min(known.first, first)
                if last > known.last:
                    known.last, known.example = last, (texts[2], texts[3])
            elif len(self._known) < MOST_GROUPS:
                self._known[key] = _Group(jobs, first, last, (texts[2], texts[3]))
            else:
                self.ungrouped += jobs

    def groups(self) -> tuple[FailureGroup, ...]:
        """Returns the groups, the largest first and of these the latest."""
        ordered = sorted(self._known.items(), key=lambda one: (-one[1].jobs, -one[1].last))
        return tuple(
            FailureGroup(
                *(_KINDS[kind], read_text(function), read_text(frame), group.jobs),
                *(int(group.first) or None, int(group.last) or None),
                *map(read_text, group.example),
            )
            for (kind, function, frame), group in ordered
        )


def _texts(packed: bytes, lengths: Sequence[int]) -> list[bytes]:
    texts, at = [], _PACKED.size
    for length in lengths:
        texts.append(packed[at : at + length])
        at += length
    return texts
