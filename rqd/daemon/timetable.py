"""Cron entries as a master sees them: when the next run is due, and the tick when it is.

There is no leader. Every master that is awake at that time asks what is due, reckons when each
entry is due next, and says both to Redis in one script: the first one there makes the run, for the
others the entry has changed meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rqd.daemon.log import Log
from rqd.daemon.redis_link import RedisLink
from rqd.model.errors import ConfigurationError
from rqd.store.crons import Crons, DueEntry, Ticked

if TYPE_CHECKING:
    from rqd.model.cron import CronEntry


class Timetable:
    """Knows when the next run of any entry is due; monotonic seconds, infinity for never."""

    def __init__(self, link: RedisLink, log: Log) -> None:
        self._link = link
        self._log = log
        self._crons = Crons(link.store)
        self.next_at = float("inf")
        self.is_open = True  # until the daemon stops

    def load(self, entries: Sequence[CronEntry], source: str) -> bool:
        """Has Redis know the entries of the file this daemon was given; nothing without one."""
        if source:
            written, removed = self._crons.load(entries, source)
            self._log.info(
                "cron file loaded", file=source, written=len(written), removed=len(removed)
            )
        return True

    def note(self, next_us: int | None, now_us: int, now: float) -> None:
        """Redis has said when the first entry is due."""
        in_s = float("inf") if next_us is None else (next_us - now_us) / 1e6
        self.next_at = now + max(0.0, in_s)

    def perform(self, now: float) -> None:
        """Ticks the entries that are due; nothing if none is by now."""
        if now < self.next_at or not self.is_open:
            return
        due = self._link.attempt(self._crons.due, now)
        if due is None:
            self.next_at = self._link.next_try(now)
            return
        self.note(due.next_us, due.now_us, now)
        try_again_at = now
        for entry in due.entries:
            ticked = self._tick(entry, due.now_us, now)
            if ticked is not None:
                self.note(ticked.next_us, ticked.now_us, now)
            else:
                # Refused, for a key of its queue, say: that shall not hold up the others.
                self.next_at = try_again_at = self._link.next_try(now)
        self.next_at = max(self.next_at, try_again_at)

    def _tick(self, entry: DueEntry, now_us: int, now: float) -> Ticked | None:
        # Late: a master without cron entries does without the library and the zones.
        from rqd.model.cron import run_id  # noqa: PLC0415 - see above
        from rqd.model.schedule import Plan, Schedule  # noqa: PLC0415 - see above

        wrong = ""
        try:
            plan = Schedule.parse(entry.schedule).plan(entry.due_us, now_us)
        except ConfigurationError as error:
            plan, wrong = Plan((), None), str(error)
        runs = [(run_id(entry.name, at_us), at_us) for at_us in plan.runs_us]
        ticked = self._link.attempt(lambda: self._crons.tick(entry, runs, plan.next_us, wrong), now)
        if ticked is None or ticked.is_stale:
            return ticked
        if wrong:
            self._log.error("cron entry can't be read", cron=entry.name, error=wrong)
        elif ticked.made < len(runs):
            held = len(runs) - ticked.made
            self._log.info("cron runs left out, their key is taken", cron=entry.name, runs=held)
        late_s = round((now_us - entry.due_us) / 1e6, 3)
        self._log.info("cron runs enqueued", cron=entry.name, runs=ticked.made, late_s=late_s)
        return ticked
