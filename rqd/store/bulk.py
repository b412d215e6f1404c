"""Retries, deletes or cancels all jobs that match a filter, by steps that can be stopped between.

Each job changes by the script of its own, which refuses a job that has changed meanwhile. So two
people may do it at once, and nothing has to be undone after a stop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from rqd.model.errors import ConfigurationError
from rqd.model.filter import Filter
from rqd.model.names import is_queue_name
from rqd.model.numbers import instant
from rqd.store.answers import reads_answers
from rqd.store.messages import read_text
from rqd.store.queries import Queries
from rqd.store.search import Count, Search
from rqd.store.store import Store
from rqd.store.walk import FoundJob

RETRY, DELETE, CANCEL = "retry", "delete", "cancel"
# The script of each act, and the states of the jobs that it can be done to.
_SCRIPTS = {RETRY: "requeue", DELETE: "delete", CANCEL: "cancel"}
_ENDED_BADLY, _WAITING = ("failed", "stopped", "canceled"), ("queued", "scheduled", "deferred")
STATES = {
    RETRY: _ENDED_BADLY,
    DELETE: (*_ENDED_BADLY, "finished", *_WAITING),
    CANCEL: _WAITING,
}
MOST_A_STEP = 500
# The server serves nobody in between the scripts of one round trip: some 5 ms.
_MOST_A_TRIP = 50
# A step that finds nothing ends after so long, to show the progress.
_STEP_S = 0.3
# Redis may word a refusal for each job.
_MOST_REASONS, _MOST_REASON_CHARS = 10, 200


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of a bulk action after a step, and where it goes on.

    `done` jobs were changed; `changed` jobs were gone, or in another state, when their turn came;
    `refused` counts all others by the reason. `jobs` are the jobs that the last step changed. It
    goes on in `queue` behind `cursor`. `until` is the start: jobs that come into the state later
    are left alone.
    """

    done: int = 0
    changed: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    looked_at: int = 0
    total: int = 0
    queue: str = ""
    cursor: str = ""
    until: str = ""
    is_over: bool = False
    jobs: tuple[FoundJob, ...] = ()


@reads_answers
class Bulk:
    """Acts on all jobs that match. An act is RETRY, DELETE or CANCEL.

    Retries leave stopped jobs out, unless the state or a cause names them.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._search = Search(store)

    def count(self, act: str, wanted: Filter, budget_s: float | None = None) -> Count:
        """Counts the jobs that the act would change. Raises ConfigurationError for their state."""
        return self._search.count(_meant(act, wanted), budget_s)

    def steps(
        self,
        act: str,
        wanted: Filter,
        so_far: Progress | None = None,
        looks_only: bool = False,
    ) -> Iterator[Progress]:
        """Does it, hundreds of jobs at a time; yields the state after each step.

        It goes from queue to queue, and in each from the oldest job on. `so_far` goes on behind the
        step that was the last before a stop. With `looks_only` nothing is changed, and all matching
        jobs count as done. Raises ConfigurationError for a state whose jobs can't be changed so.
        """
        progress = so_far or Progress(until=self._now())
        # Here, not at the first step: a mistake is to be raised at once.
        meant = _meant(act, wanted)
        bounded = meant if meant.until else replace(meant, until=progress.until)
        return self._steps("" if looks_only else act, bounded, progress)

    def _steps(self, act: str, wanted: Filter, progress: Progress) -> Iterator[Progress]:
        totals = self._search.totals(wanted)
        # Only others than rqd write other names there, and none of its jobs has them.
        queues = [name for name in sorted(totals) if name >= progress.queue and is_queue_name(name)]
        left = sum(totals[name] for name in queues)
        progress = replace(progress, total=progress.total or left)
        for queue, following in pairwise([*queues, ""]):
            left -= totals[queue]
            cursor, of_queue = progress.cursor, replace(wanted, queue=(queue,))
            while True:
                page = self._search.page(of_queue, cursor, MOST_A_STEP, _STEP_S, oldest_first=True)
                after = self._act(act, of_queue, page.jobs, progress)
                unseen = left + page.total - page.looked_at
                cursor = page.cursor
                progress = replace(
                    after,
                    looked_at=max(after.looked_at, after.total - unseen),
                    queue=queue if cursor else following,
                    cursor=cursor,
                    is_over=not cursor and not following,
                )
                yield progress
                if not cursor:
                    break
        if not queues:
            yield replace(progress, is_over=True)

    def _act(
        self, act: str, wanted: Filter, jobs: tuple[FoundJob, ...], before: Progress
    ) -> Progress:
        if not act:
            return replace(before, done=before.done + len(jobs), jobs=jobs)
        calls = [_arguments(act, job, wanted) for job in jobs]
        answers: list[Any] = []
        for first in range(0, len(calls), _MOST_A_TRIP):
            answers += self._store.ask_each(_SCRIPTS[act], calls[first : first + _MOST_A_TRIP])
        done, changed, refused = list[FoundJob](), 0, Counter(before.refused)
        for job, answer in zip(jobs, answers, strict=True):
            found = read_text(answer) if isinstance(answer, bytes) else ""
            if found in (_WAITING if act == CANCEL else wanted.statuses):
                done.append(job)
            elif isinstance(answer, bytes) and not found.startswith("unique "):
                changed += 1
            else:
                reason = _reason(answer)
                is_shown = reason in refused or len(refused) < _MOST_REASONS
                refused[reason if is_shown else "other"] += 1
        return replace(
            before,
            done=before.done + len(done),
            changed=before.changed + changed,
            refused=dict(refused),
            jobs=tuple(done),
        )

    def _now(self) -> str:
        return instant(Queries(self._store).now_us()).isoformat()


def _meant(act: str, wanted: Filter) -> Filter:
    if wanted.state not in STATES[act]:
        raise ConfigurationError(
            f"{act} can't be done to {wanted.state} jobs: write {', '.join(STATES[act])} for state"
        )
    return wanted.to_retry() if act == RETRY else wanted


def _arguments(act: str, job: FoundJob, wanted: Filter) -> tuple[str, ...]:
    if act == CANCEL:
        return job.id, job.queue, ""
    return job.id, "", " ".join(wanted.statuses)


def _reason(answer: Any) -> str:
    if isinstance(answer, bytes):
        return "another job has its unique key by now"
    return " ".join(str(answer).split())[:_MOST_REASON_CHARS]
