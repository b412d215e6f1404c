"""Searches jobs by steps: exact, in the order of an index, from a cursor, within a time budget.

Nothing is indexed for it. A script looks at some hundred ids at a time, so that the server serves
others in between: see docs/decisions/0099-search.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from rqd.model.filter import CAUSES, NO_FRAME, OTHER_CAUSE, Filter
from rqd.store.answers import reads_answers
from rqd.store.failure_groups import FailureGroup, Tally
from rqd.store.keys import Keys
from rqd.store.queries import OF_ENDED, Queries
from rqd.store.store import Store
from rqd.store.walk import Condition, Page, Place, Scores, Source, Walk, read_cursor

# The instants by which `since` and `until` choose jobs of a state.
_INSTANT = {"queued": "enqueued_at", "scheduled": "created_at", "deferred": "created_at"}
_INSTANT["started"] = "started_at"


@dataclass(frozen=True, slots=True)
class Count:
    """The number of matching jobs among the `looked_at` ids of `total` to look at."""

    jobs: int
    looked_at: int
    total: int
    is_whole: bool


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
    _walk: Walk = field(repr=False, compare=False)
    _tally: Tally = field(repr=False, compare=False)


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
        for source in self._sources(wanted, Place(), _scores(wanted, self._views.now_us())):
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
        tally = so_far._tally if so_far else Tally()
        for found in walk.steps("groups", _end_of(budget_s), tuple(CAUSES.values())):
            tally.add(found)
        return FailureGroups(
            *(tally.groups(), tally.ungrouped, walk.looked_at, walk.total, walk.is_over),
            *(walk, tally),
        )

    def _walk(self, wanted: Filter, cursor: str = "", oldest_first: bool = False) -> Walk:
        now_us, place = self._views.now_us(), read_cursor(cursor)
        scores = _scores(wanted, now_us)
        sources = list(self._sources(wanted, place, scores))
        conditions = _conditions(wanted, now_us, self._masters_on(wanted.host))
        is_upward = oldest_first or not wanted.is_of_ended
        return Walk(self._store, sources, conditions, scores, is_upward)

    def _sources(self, wanted: Filter, place: Place, scores: Scores) -> Iterator[Source]:
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
                yield Source(queue, index, place, count if isinstance(count, int) else 0)

    def _masters_on(self, host: str) -> list[str]:
        rows = self._views.masters() if host else []
        return [row["name"] for row in rows if row.get("host") == host]


def _indexes_of(wanted: Filter) -> tuple[str, ...]:
    """Returns the indexes of each queue that have these jobs; empty for the ready set."""
    return ("", "limited") if wanted.state == "queued" else (wanted.index,)


def _scores(wanted: Filter, now_us: int) -> Scores:
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


def _conditions(wanted: Filter, now_us: int, masters: Sequence[str]) -> list[Condition]:
    """Returns the user's conditions on a job: field, test and text, the cheapest first."""
    found: list[Condition] = []
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


def _cause_conditions(wanted: Filter) -> Iterator[Condition]:
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


def _end_of(budget_s: float | None) -> float | None:
    return None if budget_s is None else monotonic() + budget_s
