"""Retries, deletes or cancels all jobs that match a filter, in the dashboard's own process.

A run works in a thread, step by step, and is shown while it does. It can be ended between two
steps. If the dashboard itself ends, the run ends with it: the jobs that are left still match.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from time import monotonic
from weakref import WeakKeyDictionary

from rqd.client.connection import Backend
from rqd.model.errors import ConfigurationError, RqdError
from rqd.model.filter import Filter
from rqd.store.audit import Deed, write_deed
from rqd.store.bulk import CANCEL, DELETE, RETRY, STATES, Bulk, Progress
from rqd.store.errors import RedisGone
from rqd.web.frame import BadRequestError, Data, Look, action, page
from rqd.web.jobs import read_filter, within_sight, words_of

# Runs at a time: each keeps a connection and a part of the server busy.
_MOST_RUNS = 2
_COUNT_S = 1.0
_SHOWN_S = 600.0
# A short outage does not end a run; each step is safe to repeat.
_TRIES, _PAUSE_S = 10, 1.0


@dataclass(eq=False)
class Run:
    """A bulk action under way, or over."""

    act: str
    words: str
    who: str
    progress: Progress = field(default_factory=Progress)
    error: str = ""
    is_over: bool = False
    over_at: float = 0.0
    end: Event = field(default_factory=Event)

    @property
    def outcome(self) -> str:
        """The result so far, in a line."""
        progress = self.progress
        parts = [f"{progress.done:,} done"]
        if progress.changed:
            parts.append(f"{progress.changed:,} changed meanwhile")
        parts += [f"{count:,} refused: {why}" for why, count in progress.refused.items()]
        if self.error:
            parts.append(f"ended: {self.error}")
        elif self.is_over and not progress.is_over:
            parts.append("ended by an operator")
        return ", ".join(parts)


class Runs:
    """The runs of a namespace in this process, by act and filter."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._runs: dict[tuple[str, Filter], Run] = {}

    def find(self, act: str, wanted: Filter) -> Run | None:
        """Returns the run for this act and filter; None without one in the last ten minutes."""
        with self._lock:
            run = self._runs.get((act, wanted))
            if run is not None and run.is_over and monotonic() > run.over_at + _SHOWN_S:
                del self._runs[act, wanted]
                return None
            return run

    def start(self, there: Backend, run: Run, wanted: Filter) -> None:
        """Starts a run. Raises BadRequestError if it runs already, or too many others do."""
        with self._lock:
            known = self._runs.get((run.act, wanted))
            if known is not None and not known.is_over:
                raise BadRequestError(f"this runs already, started by {known.who}")
            if sum(not one.is_over for one in self._runs.values()) >= _MOST_RUNS:
                raise BadRequestError(
                    f"{_MOST_RUNS} bulk actions run already: wait for one, or end one"
                )
            self._runs[run.act, wanted] = run
        Thread(target=_work, args=(there, run, wanted), daemon=True).start()


_RUNS: WeakKeyDictionary[Backend, Runs] = WeakKeyDictionary()


def runs_of(there: Backend) -> Runs:
    """Returns the runs of a namespace."""
    return _RUNS.setdefault(there, Runs())


def _work(there: Backend, run: Run, wanted: Filter) -> None:
    tries = 0
    try:
        while not run.progress.is_over and not run.end.is_set():
            try:
                steps = Bulk(there.store).steps(run.act, wanted, _so_far(run))
                for run.progress in steps:
                    tries = 0
                    if run.end.is_set():
                        break
            except RedisGone as error:
                tries += 1
                if tries >= _TRIES:
                    raise RqdError(f"Redis is away: {error}") from error
                run.end.wait(_PAUSE_S)
    except RqdError as error:
        run.error = str(error)
    finally:
        run.is_over, run.over_at = True, monotonic()
    try:
        write_deed(there.store, Deed(run.who, f"{run.act}-all", run.words, run.outcome))
    except RedisGone:
        pass  # its start is in the stream, and Redis is away


def _so_far(run: Run) -> Progress | None:
    return run.progress if run.progress.until else None


@page("bulk", "Bulk", in_menu=False)
def bulk(look: Look) -> Data:
    """Counts the jobs that match, before; shows the progress of the run, then its result."""
    act, words, wanted = _asked(look)
    run = runs_of(look.backend).find(act, wanted)
    data: Data = {"verb": act, "filter": words, "state": wanted.state, "run": None, "count": None}
    if run is not None and (not run.is_over or look.param("again") != "1"):
        progress = run.progress
        share = progress.looked_at / progress.total if progress.total else 0.0
        return data | {
            "run": {
                "who": run.who,
                "is_over": run.is_over,
                "is_whole": progress.is_over,
                "done": progress.done,
                "looked_at": progress.looked_at,
                "total": progress.total,
                "share": 1.0 if progress.is_over else min(1.0, share),
                "result": run.outcome,
            }
        }
    try:
        count = Bulk(look.backend.store).count(act, wanted, _COUNT_S)
    except ConfigurationError as error:
        raise BadRequestError(str(error)) from error
    return data | {
        "count": {
            "jobs": count.jobs,
            "is_whole": count.is_whole,
            "looked_at": count.looked_at,
            "total": count.total,
        }
    }


def _asked(look: Look) -> tuple[str, str, Filter]:
    act, words = look.param("act"), look.param("filter").strip()
    if act not in STATES:
        raise BadRequestError(f"act {act!r}: choose {', '.join(STATES)}")
    try:
        asked = read_filter(look.param("state", "failed"), words)
    except ConfigurationError as error:
        raise BadRequestError(str(error)) from error
    return act, words_of(asked), within_sight(look, asked)


def _start(look: Look, act: str) -> str:
    asked, words, wanted = _asked(look)
    if asked != act:
        raise BadRequestError(f"this form is for {asked}")
    shown = f"state:{wanted.state} {words}".strip()
    run = Run(act, shown, look.access.who)
    try:
        runs_of(look.backend).start(look.backend, run, wanted)
    except ConfigurationError as error:
        raise BadRequestError(str(error)) from error
    return f"started: {shown}"


@action("retry-all", "filter")
def retry_all(look: Look) -> str:
    """Runs all matching jobs again."""
    return _start(look, RETRY)


@action("delete-all", "filter")
def delete_all(look: Look) -> str:
    """Deletes all matching jobs."""
    return _start(look, DELETE)


@action("cancel-all", "filter")
def cancel_all(look: Look) -> str:
    """Cancels all matching jobs."""
    return _start(look, CANCEL)


@action("end-bulk", "filter")
def end_bulk(look: Look) -> str:
    """Ends a bulk action after its current step."""
    act, words, wanted = _asked(look)
    run = runs_of(look.backend).find(act, wanted)
    if run is None or run.is_over:
        return "it is over already"
    run.end.set()
    return f"{act} of {words or 'all'} ends after this step"
