"""Pauses, suspends, resizes, stops and ends a master; names its state."""

from __future__ import annotations

import os
import time
from typing import Any

from rqd.daemon.config import MAX_WORKERS, Config
from rqd.daemon.dispatcher import Dispatcher
from rqd.daemon.host.process_limits import make_room
from rqd.daemon.log.log import Log
from rqd.daemon.signals import Orders, Shutdown
from rqd.daemon.timers import Timers
from rqd.daemon.workers.pool import Pool
from rqd.model.errors import ConfigurationError
from rqd.model.outcome import Released

# After an immediate stop the master is gone within two seconds, Redis or not.
_LAST_SETTLES_S = 0.8
_EX_OK, EX_TEMPFAIL, _EX_CONFIG = 0, 75, 78


class Lifecycle:
    """Decides if a master claims jobs, with how many workers, and when it ends."""

    def __init__(
        self,
        config: Config,
        pool: Pool,
        dispatcher: Dispatcher,
        timers: Timers,
        log: Log,
    ) -> None:
        self.configure(config)
        self._pool = pool
        self._dispatcher = dispatcher
        self._log = log
        self._grace_timer = timers.timer(self._end_grace)
        self._has_grace = False  # it began, and may be over
        self._give_up_at: float | None = None
        self._give_up_timer = timers.timer(self._wake_up)
        self.has_news = False  # worth a heartbeat and a sign of life at once
        self.orders = Orders()
        self._is_suspended = False
        self._worked_at = time.monotonic()
        self.exit_status = _EX_OK

    def configure(self, config: Config) -> None:
        """Uses these settings from now on."""
        self._config = config
        self.ends_by_itself = (
            config.burst or config.max_jobs is not None or config.max_idle_s is not None
        )

    @property
    def is_stopping(self) -> bool:
        """True from the first step of a stop on."""
        return self.orders.shutdown is not Shutdown.NONE

    @property
    def state(self) -> str:
        """The master's state, as its row in Redis shows it."""
        return self.state_with(self.busy)

    def state_with(self, busy: int) -> str:
        """Returns the state for this number of busy workers, for callers that know their number."""
        if self.is_stopping:
            return "stopping"
        if not self._pool.is_ready:
            return "starting"
        if self._dispatcher.claims.is_paused:
            return "paused"
        if self._is_suspended:
            return "suspended"
        return "busy" if busy else "idle"

    @property
    def busy(self) -> int:
        """The number of workers with a job, or with an outcome that is not recorded yet."""
        return self._pool.workers.busy(self._dispatcher.unrecorded)

    def summary(self) -> dict[str, Any]:
        """Returns the master's state and numbers of workers, for the reply to a command."""
        workers = self._pool.workers
        return {
            "state": self.state,
            "busy": self.busy,
            "workers": sum(worker.wanted for worker in workers),
        }

    def resize(self, asked: int, now: float) -> str:
        """Resizes the pool to `asked` workers, at least one.

        Returns why it can't; empty if it did, or if the master is stopping.
        """
        if self.is_stopping:
            return ""
        if asked > MAX_WORKERS:
            why = f"it can have 1 to {MAX_WORKERS:,} workers"
            self._log.warning("workers not resized", error=why)
            return why
        count = max(1, asked)
        zygotes = [zygote.pid for zygote in self._pool.zygotes.table]
        try:
            make_room(count, self._config.max_files, zygotes)
        except ConfigurationError as error:
            self._log.warning("workers not resized", error=error)
            return str(error)
        self._pool.slots.resize_to(count, now)
        self._log.info("workers resized", workers=count)
        self.has_news = True
        return ""

    def pause(self, is_paused: bool, now: float) -> None:
        """Pauses or resumes claims; either way a beat checks the leases at once."""
        self.has_news = True
        if is_paused == self._dispatcher.claims.is_paused or self.is_stopping:
            return
        self._dispatcher.claims.is_paused = is_paused
        if is_paused:
            self._dispatcher.add_ended(self._pool.release_unsent("paused", now))
            running = len(self._pool.workers.current_attempts())
            how = f"rqd resume --master NAME, or kill -CONT {os.getpid()}"
            self._log.info("paused: running jobs go on, none starts", running=running, resume=how)
        else:
            self._log.info("resumed")

    def suspend(self, is_suspended: bool, now: float) -> None:
        """Notes if all masters of the namespace are suspended, or work again."""
        if is_suspended != self._is_suspended:
            self._is_suspended = is_suspended
            if is_suspended:
                self._dispatcher.add_ended(self._pool.release_unsent("suspended", now))
                self._log.info("suspended")
            else:
                self._log.info("resumed")
            self.has_news = True  # our rows say so

    def kill_jobs(self, reason: str, now: float) -> None:
        """Kills the running jobs, and puts back every job that this master has."""
        self._log.info(
            "killing the running jobs", running=len(self._pool.workers.current_attempts())
        )
        self._release_all(reason, now)

    def stop(self, level: Shutdown, now: float, why: str | None = None) -> None:
        """Begins to stop, or stops harder; does nothing if it already stops at this level."""
        if level > self.orders.shutdown:
            self.orders = Orders(level, self.orders.interrupted_at)
            self.shut_down(now, why)

    def shut_down(self, now: float, why: str | None = None) -> None:
        """Carries out the current level of shutdown; `why` gives the reason if no signal did."""
        level, pool = self.orders.shutdown, self._pool
        self._dispatcher.claims.is_open = False
        pool.slots.retire_all(now)
        self._dispatcher.add_ended(pool.release_unsent("the daemon stops", now))
        running = len(pool.workers.current_attempts())
        waits = level is Shutdown.GRACEFUL and running > 0
        grace_s = self._config.grace_s if waits else None
        # Logged only now: a reader may count on it that no other job begins.
        self._log.info(
            "stopping", how=level.name.lower(), why=why, running=running, grace_s=grace_s
        )
        if waits and self.orders.interrupted_at is not None:
            self._log.info("Ctrl-C again, a second later or more, kills and puts back the jobs")
        self.has_news = True
        if level is Shutdown.IMMEDIATE:
            self._kill_all("the daemon stopped at once", now)
        elif not self._has_grace:
            self._has_grace = True
            self._grace_timer.set(now + self._config.grace_s)

    def _end_grace(self, now: float) -> None:
        """Kills and puts back the jobs that still run when a graceful stop's time is over."""
        self._kill_all(f"the daemon stopped, its grace of {self._config.grace_s:g} s over", now)

    def end_by_itself(self, now: float) -> None:
        """Stops a master without work if `burst`, `max_jobs` or `max_idle_s` says so."""
        config, dispatcher = self._config, self._dispatcher
        is_idle = not self._pool.workers.current_attempts() and not dispatcher.unrecorded
        if not self._pool.is_ready or not is_idle or dispatcher.claims.is_paused:
            self._worked_at = now
            return
        has_looked = dispatcher.claims.found_nothing  # False for a master that was never ready
        idle_s = now - self._worked_at
        if config.burst and has_looked:
            why = "burst: the queues are empty"
        elif dispatcher.claims.is_exhausted:
            why = "max-jobs: all have run"
        elif config.max_idle_s is not None and has_looked and idle_s >= config.max_idle_s:
            why = "max-idle: nothing has run for so long"
        else:
            return
        if not dispatcher.has_unfinished and not self.is_stopping:
            self.stop(Shutdown.GRACEFUL, now, why)

    def is_done(self) -> bool:
        """True if the master can end; then `exit_status` is set."""
        if self._pool.zygotes.boot_error and self._pool.zygotes.table.boots.took_s is None:
            self.exit_status = _EX_CONFIG
            return True
        if not self.is_stopping:
            return False
        if not self._pool.workers.current_attempts() and not self._dispatcher.has_unfinished:
            return True
        # Not by the timer: the pass before may have waited for Redis.
        if self._give_up_at is not None and time.monotonic() >= self._give_up_at:
            left = len(self._dispatcher.unrecorded) + len(self._pool.workers.current_attempts())
            self._log.error("stopped without recording all outcomes: jobs run again", jobs=left)
            self.exit_status = EX_TEMPFAIL
            return True
        return False

    def _kill_all(self, reason: str, now: float) -> None:
        self._release_all(reason, now)
        if self._give_up_at is None:
            self._give_up_at = now + _LAST_SETTLES_S
            self._give_up_timer.set(self._give_up_at)

    def _wake_up(self, _now: float) -> None:
        """Does nothing: its timer has the loop ask `is_done`."""

    def _release_all(self, reason: str, now: float) -> None:
        self._dispatcher.add_ended(self._pool.release_unsent(reason, now))
        for job in self._pool.workers.current_attempts():
            self._pool.kill(job, Released(reason), now)
