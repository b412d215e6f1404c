"""Knows when the next run of a cron entry is due, and enqueues it then.

There is no leader. Every master that is awake at that time asks Redis for the due entries and
computes when each is due next. One script then enqueues the run and sets the next time. The first
master's script does so; the others find that the entry has changed meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rqd.daemon.config import Config
from rqd.daemon.log.log import Log
from rqd.daemon.redis_client import RedisLink
from rqd.daemon.timers import Needs, Timers
from rqd.model.errors import ConfigurationError, RqdError
from rqd.store.crons import Crons, DueEntry, Ticked
from rqd.store.messages import BeatAnswer

if TYPE_CHECKING:
    from rqd.model.cron import CronEntry

_LOAD_PAUSE_S = 10.0


class CronScheduler:
    """Knows when the next run of any entry is due, in monotonic seconds; infinity for never."""

    def __init__(self, config: Config, link: RedisLink, timers: Timers, log: Log) -> None:
        self._entries: Sequence[CronEntry] = config.crons
        self._source = self._next_source = config.cron_source
        self._link = link
        self._log = log
        self._crons = Crons(link.store)
        self._load_timer = timers.timer(self._load_again, Needs.REDIS)
        self._tick_timer = timers.timer(self._tick_due, Needs.REDIS)
        self._refused = 0  # due entries that Redis refused in this round; the next query skips them
        self._beat_us: int | None = None  # Redis' time of the last beat
        self._is_open = True  # until the daemon stops

    def close(self) -> None:
        """Enqueues no run and loads no file from now on, as the daemon stops."""
        self._is_open = False
        self._load_timer.clear()
        self._tick_timer.clear()

    def load(self) -> bool:
        """Writes the entries of this daemon's cron file to Redis; does nothing without a file."""
        if self._source:
            written, removed = self._crons.load(self._entries, self._source)
            numbers = {"file": self._source, "written": len(written), "removed": len(removed)}
            self._log.info("cron file loaded", **numbers)
            self._source = self._next_source
        return True

    @staticmethod
    def prepare() -> None:
        """Imports the modules for a tick now: at the first tick, another rqd may be installed."""
        import rqd.model.cron  # noqa: PLC0415 - late: the zygote's boot need not wait for it
        import rqd.model.schedule  # noqa: F401, PLC0415 - as above

    def configure(self, config: Config, now: float) -> None:
        """Uses the settings of a reload, and loads the file's entries as soon as it can.

        Entries that came from the file before and are not in it any more are removed. Without a
        file, the entries of the file before stay, as with a daemon that is started without it.
        """
        self._entries, self._next_source = config.crons, config.cron_source
        self._source = self._next_source and (self._source or self._next_source)
        self._load_timer.set(now)

    def hear(self, answer: BeatAnswer, now: float) -> None:
        """Learns from a beat's answer when the first entry is due, and if Redis has lost entries.

        If Redis does not know the last beat, it was emptied or has older data: the file is loaded
        again.
        """
        if not self._is_open:
            return
        self._note(answer.next_cron_us, answer.now_us, now)
        if self._beat_us is not None and (answer.last_us or 0) < self._beat_us:
            self._load_timer.set(now)
        self._beat_us = answer.now_us

    def _note(self, next_us: int | None, now_us: int, now: float) -> None:
        """Converts the first due time, by Redis' clock, to a monotonic one."""
        in_s = float("inf") if next_us is None else (next_us - now_us) / 1e6
        self._tick_timer.set(now + max(0.0, in_s))

    def _load_again(self, now: float) -> None:
        try:
            if self._link.try_call(self.load, now) is None:
                self._load_timer.set(self._link.next_try(now))
        except RqdError as error:
            # An operator has to mend this: a key that is in the way, a right that is missing.
            self._log.error("cron file not loaded", file=self._source, error=error)
            self._load_timer.set(now + _LOAD_PAUSE_S)

    def _tick_due(self, now: float) -> None:
        due = self._link.try_call(lambda: self._crons.due(self._refused), now)
        if due is None:
            self._refused = 0
            self._tick_timer.set(self._link.next_try(now))
            return
        self._note(due.next_us, due.now_us, now)
        behind_at = self._tick_timer.at
        is_last = behind_at > now
        for entry in due.entries:
            ticked = self._tick(entry, due.now_us, now)
            if ticked is not None:
                self._note(ticked.next_us, ticked.now_us, now)
            else:
                self._refused += 1
        # Refused for a key of their queue, say: the entries behind them first, then all again.
        if self._refused:
            self._tick_timer.set(min(behind_at, self._link.next_try(now)) if is_last else now)
        if is_last:
            self._refused = 0

    def _tick(self, entry: DueEntry, now_us: int, now: float) -> Ticked | None:
        from rqd.model.cron import run_id  # noqa: PLC0415 - see `prepare`
        from rqd.model.schedule import Plan, Schedule  # noqa: PLC0415 - see `prepare`

        wrong = ""
        try:
            plan = Schedule.parse(entry.schedule).plan(entry.due_us, now_us)
        except ConfigurationError as error:
            plan, wrong = Plan((), None), str(error)
        runs = [(run_id(entry.name, at_us), at_us) for at_us in plan.runs_us]
        ticked = self._link.try_call(
            lambda: self._crons.tick(entry, runs, plan.next_us, wrong), now
        )
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
