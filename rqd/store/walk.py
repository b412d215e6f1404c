"""Goes through the indexes of a search by steps, from a cursor, and merges them to pages.

The script looks at some hundred ids a step: see docs/decisions/0099-search.md.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from time import monotonic
from typing import Any

from rqd.model.errors import ConfigurationError
from rqd.model.names import is_job_id
from rqd.model.numbers import read_whole
from rqd.store.messages import read_text
from rqd.store.store import Store

# A step keeps the server for 1 to 3 ms: so many ids, and so many of them that match.
MOST_IDS, _MOST_FOUND = 300, 150
_FEWEST_IDS = 20
_LONGEST_ID = 255
# The fields of a found job; `_of_fields` reads them in this order.
_FIELDS = (
    "status", "func_name", "cause", "worker", "host", "frame", "attempt",
    "created_at", "enqueued_at", "started_at", "ended_at", "due",
)  # fmt: skip
_SCORE = re.compile(r"-?(inf|\d{1,20}(\.\d{1,20})?(e[+-]?\d{1,3})?)\Z")
_OF_TWO_FIELDS = ("frame", "host")
Condition = tuple[str, str, str]
Scores = tuple[str, str]


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
class Place:
    """A place in the order of an index: behind this score and id. Both empty: at the start."""

    score: str = ""
    id: bytes = b""

    @property
    def order(self) -> tuple[float, bytes]:
        return float(self.score), self.id


@dataclass(slots=True)
class Source:
    """An index and how far it was searched."""

    queue: str
    index: str
    place: Place
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
            self.place = Place(_score(score), job_id)
        self.step_ids = min(MOST_IDS, 2 * self.step_ids)
        self.step_jobs = min(_MOST_FOUND, 2 * self.step_jobs)
        return found


@dataclass(slots=True)
class Walk:
    """A search on its way through its indexes."""

    store: Store
    sources: list[Source]
    conditions: Sequence[Condition]
    scores: Scores
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
        found: list[tuple[Place, FoundJob]] = []
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

    def _behind(self, found: list[tuple[Place, FoundJob]], limit: int) -> list[Source]:
        """Returns the indexes that may have jobs before the last one of the page."""
        unsearched = [one for one in self.sources if not one.is_over]
        if len(found) < limit:
            return unsearched
        self._sort(found)
        last = found[limit - 1][0]
        return [one for one in unsearched if not self._is_up_to(last, one.place)]

    def _page(self, found: list[tuple[Place, FoundJob]], limit: int, reached: Place | None) -> Page:
        if reached:
            found = [one for one in found if self._is_up_to(one[0], reached)]
        self._sort(found)
        if len(found) > limit or (reached and len(found) == limit):
            reached = found[limit - 1][0]
        jobs = tuple(job for _, job in found[:limit] if is_job_id(job.id))
        return Page(jobs, _cursor(reached) if reached else "", self.looked_at, self.total)

    def _sort(self, found: list[tuple[Place, FoundJob]]) -> None:
        found.sort(key=lambda one: one[0].order, reverse=not self.is_upward)

    def _first(self, places: Sequence[Place]) -> Place:
        first = min if self.is_upward else max
        return first(places, key=lambda place: place.order)

    def _is_up_to(self, place: Place, reached: Place) -> bool:
        return place.order <= reached.order if self.is_upward else place.order >= reached.order

    def _jobs(self, sources: Sequence[Source]) -> Iterator[tuple[Place, FoundJob]]:
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
                yield Place(_score(score), job_id[:_LONGEST_ID]), job

    def _call(self, source: Source, what: str, most: int, texts: Sequence[str]) -> tuple[Any, ...]:
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


def _portions(sources: Sequence[Source]) -> Iterator[list[Source]]:
    """Yields so many indexes that their steps together keep the server for some milliseconds.

    It serves nobody in between the scripts of one round trip.
    """
    portion, ids = list[Source](), 0
    for source in sources:
        if portion and ids + source.step_ids > MOST_IDS:
            yield portion
            portion, ids = [], 0
        portion.append(source)
        ids += source.step_ids
    if portion:
        yield portion


def _cursor(place: Place) -> str:
    raw = f"{place.score} ".encode() + place.id
    return urlsafe_b64encode(raw).decode().rstrip("=")


def read_cursor(cursor: str) -> Place:
    if not cursor:
        return Place()
    try:
        raw = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)) if len(cursor) < 1000 else b""
        score, _, job_id = raw.partition(b" ")
        return Place(_score(score), job_id)
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


def _of_fields(job_id: str, queue: str, values: Sequence[str]) -> FoundJob:
    status, function, cause, worker, host, frame, attempt, *instants = values
    created, enqueued, started, ended, due = map(read_whole, instants)
    return FoundJob(
        *(job_id, queue, status, function, cause, worker, host, frame, read_whole(attempt) or 0),
        *(created, enqueued, started, ended, due),
    )
