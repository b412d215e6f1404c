"""The pages that search jobs: the jobs that match a filter, and groups of failures."""

from __future__ import annotations

import shlex
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from threading import Lock
from time import monotonic
from typing import Any

from rqd.client.connection import Backend
from rqd.model.errors import ConfigurationError
from rqd.model.filter import INDEX_OF_STATE, Filter
from rqd.model.numbers import iso
from rqd.store.bulk import STATES as STATES_OF_ACT
from rqd.store.failure_groups import FailureGroup
from rqd.store.search import FailureGroups, Search
from rqd.store.walk import FoundJob
from rqd.web.frame import BadRequestError, Data, Look, page

_PAGE = 50
# The first screen has to be there within 200 ms, however many jobs there are.
_BUDGET_S = 0.15
_GROUPS_SHOWN = 100
_MOST_SEARCHES, _FRESH_S = 20, 10.0
_TABS = ("failed", "queued", "started", "scheduled", "deferred", "finished", "canceled")
_WHEN = {"queued": "Enqueued", "started": "Started", "scheduled": "Due", "deferred": "Enqueued"}


@page("jobs", "Jobs", key="j")
def jobs(look: Look) -> Data:
    """Reads a page of the jobs that match the filter, in the order of the search."""
    state, words = look.param("state", "failed"), look.param("filter").strip()
    if state not in INDEX_OF_STATE:
        raise BadRequestError(f"state {state!r}: choose {', '.join(INDEX_OF_STATE)}")
    found: tuple[FoundJob, ...] = ()
    shown = {"looked_at": 0, "total": 0, "cursor": "", "error": ""}
    try:
        asked = read_filter(state, words)
    except ConfigurationError as error:
        asked, shown["error"] = Filter(state=state), str(error)
    else:
        words = words_of(asked)
        result = _search_page(look, within_sight(look, asked))
        found = result.jobs
        shown |= {"looked_at": result.looked_at, "total": result.total, "cursor": result.cursor}
    return {
        "state": asked.state,
        "filter": words,
        "tabs": _counts(look, asked.queue),
        "when": _WHEN.get(asked.state, "Ended"),
        "jobs": [_row(look, one, asked.state) for one in found],
        "is_full": len(found) >= _PAGE,
        "is_first": not look.param("cursor"),
        "acts": [act for act, states in STATES_OF_ACT.items() if asked.state in states],
        **shown,
    }


def _search_page(look: Look, wanted: Filter) -> Any:
    try:
        return Search(look.backend.store).page(wanted, look.param("cursor"), _PAGE, _BUDGET_S)
    except ConfigurationError as error:  # of the cursor
        raise BadRequestError(str(error)) from error


def read_filter(state: str, words: str) -> Filter:
    """Reads a filter's words; `state` holds unless a word names one. Raises ConfigurationError."""
    asked = Filter.parse(words)
    has_state = any(word.startswith("state:") for word in shlex.split(words))
    return asked if has_state else replace(asked, state=state)


def words_of(wanted: Filter) -> str:
    """Returns the words of a filter without its state, which pages have beside them."""
    return str(wanted).removeprefix(f"state:{wanted.state}").strip()


def within_sight(look: Look, wanted: Filter) -> Filter:
    """Narrows a filter to the queues that the visitor may see.

    Raises NotHereError for a hidden queue.
    """
    for name in wanted.queue:
        look.check_sees(name, f"queue {name!r}")
    if look.access.sees_all or wanted.queue:
        return wanted
    seen = tuple(row["name"] for row in look.seen.queues)
    # Without any queue the filter would mean all: this name is of none.
    return replace(wanted, queue=seen or ("-",))


def _counts(look: Look, names: Sequence[str]) -> dict[str, int]:
    rows = [row for row in look.seen.queues if not names or row["name"] in names]
    counted = {state: (state,) for state in _TABS} | {"queued": ("ready", "limited")}
    return {
        state: sum(row[one] for row in rows for one in indexes)
        for state, indexes in counted.items()
    }


def _row(look: Look, job: FoundJob, state: str) -> dict[str, Any]:
    at_us = {
        "scheduled": job.due_us,
        "started": job.started_us,
        "queued": job.enqueued_us,
        "deferred": job.created_us,
    }.get(state, job.ended_us)
    return {
        "id": job.id,
        "function": job.function,
        "queue": job.queue,
        "status": job.status,
        "when": iso(at_us),
        "attempt": job.attempt,
        "cause": look.redact(job.cause),
        "host": job.host,
        "frame": look.redact(job.frame),
    }


@page("failures", "Failures", key="f")
def failures(look: Look) -> Data:
    """Groups the failed jobs that match the filter by cause, function and innermost frame."""
    words = look.param("filter").strip()
    data: Data = {"filter": words, "error": "", "groups": [], "ungrouped": 0, "hidden": 0}
    data |= {"looked_at": 0, "total": 0, "is_whole": True, "jobs": 0}
    try:
        asked = read_filter("failed", words)
    except ConfigurationError as error:
        return data | {"error": str(error)}
    found = _SEARCHES.groups(look.backend, within_sight(look, asked))
    shown = found.groups[:_GROUPS_SHOWN]
    return data | {
        "filter": words_of(asked),
        "groups": [_group(look, one, asked) for one in shown],
        "jobs": sum(one.jobs for one in found.groups),
        "hidden": len(found.groups) - len(shown),
        "ungrouped": found.ungrouped,
        "looked_at": found.looked_at,
        "total": found.total,
        "is_whole": found.is_whole,
    }


def _group(look: Look, group: FailureGroup, asked: Filter) -> dict[str, Any]:
    try:
        within = words_of(group.within(asked))
    except ConfigurationError:
        within = ""  # texts that no filter has: the group can be seen, not chosen
    return {
        "kind": group.kind,
        "function": group.function,
        "frame": look.redact(group.frame),
        "jobs": group.jobs,
        "first": iso(group.first_us),
        "last": iso(group.last_us),
        "example": group.example_id,
        "cause": look.redact(group.example_cause),
        "filter": within,
    }


@dataclass(slots=True)
class _Grouping:
    """A search for groups on its way. Each look continues it; a finished one grows old."""

    lock: Lock
    found: FailureGroups | None = None
    done_at: float = 0.0


class _Searches:
    """The searches for groups that visitors look at: they go on over many looks, for all alike."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._by_key: OrderedDict[tuple[int, Filter], _Grouping] = OrderedDict()

    def groups(self, there: Backend, wanted: Filter) -> FailureGroups:
        """Returns the groups found so far, after a further 150 ms of search."""
        one = self._of((id(there), wanted))
        with one.lock:
            is_old = one.found is not None and one.found.is_whole
            if is_old and monotonic() < one.done_at + _FRESH_S:
                assert one.found is not None
                return one.found
            so_far = None if is_old else one.found
            one.found = Search(there.store).failure_groups(wanted, _BUDGET_S, so_far)
            one.done_at = monotonic()
            return one.found

    def _of(self, key: tuple[int, Filter]) -> _Grouping:
        with self._lock:
            one = self._by_key.pop(key, None) or _Grouping(Lock())
            self._by_key[key] = one
            while len(self._by_key) > _MOST_SEARCHES:
                self._by_key.popitem(last=False)
            return one


_SEARCHES = _Searches()
