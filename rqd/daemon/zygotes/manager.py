"""The zygotes of a master: the serving zygote, the next zygote, and the zygotes that retire.

A reload starts a fresh interpreter with the code as it is now. The new zygote serves once it has
imported all. Until then, and if it never does, the old zygote serves on. The old zygote goes when
its last job has ended. This is the reload of Unicorn and gunicorn, slot by slot instead of by whole
processes. An unresponsive zygote is replaced in the same way.
"""

from __future__ import annotations

import math
import subprocess

from rqd import __version__
from rqd.daemon.event_loop import Loop
from rqd.daemon.log.log import Log
from rqd.daemon.zygote import protocol
from rqd.daemon.zygotes.events import Ready, Unforkable
from rqd.daemon.zygotes.learning import Learning
from rqd.daemon.zygotes.process import ZygoteProcess, ZygoteSpawner
from rqd.daemon.zygotes.reloads import Reloads
from rqd.daemon.zygotes.table import ZygoteTable
from rqd.store.urls import hide_passwords

# If an unresponsive zygote could not be replaced, the master tries again in a minute.
_REPLACE_AGAIN_S = 60.0
# The length of an error in a process's title, or in the log's reason for a refused module.
_MOST_CHARS = 200
_NOT_STARTED = (OSError, subprocess.SubprocessError)


class Zygotes:
    """Decides which zygote serves, and when another one boots; knows nothing of jobs."""

    def __init__(
        self,
        spawner: ZygoteSpawner,
        loop: Loop,
        log: Log,
        learning: Learning,
    ) -> None:
        self.table = ZygoteTable(spawner, loop, log)
        self.spawner = spawner
        self._log = log
        self._boots = self.table.boots
        self._replace_at = 0.0
        self.is_ready = False
        self.why_none = ""  # why no zygote serves, in a line; empty if no cause is known
        self._blamed_pid = 0  # the pid of the zygote in `why_none`, 0 for none
        self.boot_error = ""
        self.reloads = Reloads()
        self.learning = learning

    def boot(self, now: float) -> ZygoteProcess | None:
        """Starts a zygote that serves at once, as no other does; None if it can't be started."""
        self._boots.cancel_next()
        self.table.serving, self.is_ready = None, False
        try:
            self.table.serving = self.table.start(self.learning.modules, self.is_ready, now)
        except _NOT_STARTED as error:
            self._tell_why(f"the zygote can't be started: {error}")
            self._log.error("can't start the zygote", error=error)
            self._boots.plan_next(now)
        return self.table.serving

    def next_due(self) -> float:
        """The next moment at which a boot is due, or a boot or an exit is overdue; or infinity."""
        is_calm = self.is_ready and self.table.following is None
        return min(self.table.next_due(), self.learning.next_due() if is_calm else math.inf)

    def follow(self, request: str, now: float) -> None:
        """Begins a reload, with the code as it is now. It replaces a reload that is under way."""
        if self.table.following is not None and self.reloads.is_under_way:
            # No error: the command before gets newer code. `--autoreload` asks at every save.
            self.reloads.refuse("another reload was asked for meanwhile")
        self.table.end_following()
        self.learning.put_off(now)
        self.reloads.ask(request)
        self._log.info("reloading", pid=self.table.serving.pid if self.table.serving else 0)
        if not self.is_ready:
            # No zygote is ready: the next boot is the reload. A boot under way may have read old
            # code.
            self._boots.forget_pause()
            if self.table.serving is not None:
                self._boots.give_up(self.table.serving.pid)
                self.table.serving.end()
            else:
                self._boots.hasten_next(now)
            return
        self._follow(now)

    def is_replacement_due(self, now: float) -> bool:
        """True if the serving zygote is unresponsive, no other boots, and a new try is due."""
        is_still = (
            self.is_ready and self.table.serving is not None and self.table.serving.is_unresponsive
        )
        return is_still and self.table.following is None and now >= self._replace_at

    def replace(self, now: float) -> None:
        """Starts a zygote to replace the unresponsive one, whose jobs run on as far as they can."""
        assert self.table.serving is not None
        self._log.error("zygote stands still, starting another one", pid=self.table.serving.pid)
        self._replace_at = now + _REPLACE_AGAIN_S
        self.spawner.next_config = self.spawner.config
        self._follow(now)

    def is_lesson_due(self, now: float) -> bool:
        """True if a zygote with more of the modules that jobs import is to boot now."""
        is_calm = self.is_ready and self.table.following is None
        return is_calm and now >= self.learning.next_due()

    def learn(self, now: float) -> None:
        """Starts a next zygote that imports the modules that jobs' processes have imported."""
        self.spawner.next_config = self.spawner.config
        self.learning.begin(now)
        self._log.debug("preloading what jobs import", modules=self.learning.trying)
        self._follow(now)

    def refuse(self, request: str, error: str) -> None:
        """Refuses a reload before it begins. A reload that is under way ends with it."""
        self.reloads.ask(request)
        self._refuse(error)

    def end_overdue(self, now: float) -> None:
        """Kills zygotes that boot for too long, or stay too long after their dismissal.

        Refuses the reload that such a boot was.
        """
        self.table.kill_overdue(now)
        for pid, took_s in self._boots.give_up_overdue(now):
            if self.table.following is not None and pid == self.table.following.pid:
                self._refuse(f"it was not ready after {took_s:.0f} s")
            elif self.table.serving is not None:
                self._log.error("zygote not ready, ending it", pid=pid, after_s=round(took_s))
                self._note_unfit(f"it was not ready after {took_s:.0f} s", pid)
                self.table.serving.end()

    def note_ready(self, zygote: ZygoteProcess, ready: Ready, now: float) -> bool:
        """Handles the report that a zygote is ready; True if it now serves instead of another."""
        if zygote.pid not in self._boots:
            return False  # it was refused, or ended for a newer zygote, a moment ago
        if not self._may_serve(zygote, ready):
            return False
        if reasons := self.learning.unfit(ready.unforkable):
            self._boot_without(zygote, reasons, now)
            return False
        self._boots.end(zygote.pid, now)
        self._log.info(
            "zygote booted",
            pid=ready.pid,
            rss_mb=round(ready.rss_bytes / 1e6, 1),
            version=ready.version,
        )
        if new := self.learning.accept():
            self._log.info(
                "preloads what jobs import: after a change of code, rqd reload", modules=new
            )
        _warn_of(ready.unforkable, self._log)
        self.is_ready, self.boot_error, self.why_none = True, "", ""
        has_followed = zygote is self.table.following
        if has_followed:
            if self.table.serving is not None:
                self.table.retire(self.table.serving)
            self.table.serving, self.table.following = zygote, None
            self._boots.cancel_next()  # planned if the old zygote was lost meanwhile
        is_over = has_followed or self.table.following is None
        if is_over and self.reloads.succeed():
            self._log.info("reloaded", pid=ready.pid)
        return has_followed

    def _boot_without(self, zygote: ZygoteProcess, reasons: dict[str, str], now: float) -> None:
        """Ends a zygote because of learnt modules; another boots without them, if it is needed."""
        self._refuse_learnt(reasons)
        if zygote is self.table.following:
            self.table.end_following()
            is_needed = self.reloads.is_under_way or self.learning.trying
            if is_needed or (self.table.serving is not None and self.table.serving.is_unresponsive):
                self._follow(now)
            return
        zygote.end()
        self.table.retire(zygote)
        self.table.serving = None
        self._boots.hasten_next(now)

    def _refuse_learnt(self, reasons: dict[str, str]) -> None:
        self.learning.refuse(reasons)
        for module, why in reasons.items():
            self._log.warning(
                "a module of jobs is not preloaded by itself: each job imports it",
                module=module,
                why=_last_line(why)[:_MOST_CHARS],
            )

    def note_boot_failed(self, zygote: ZygoteProcess, traceback: str) -> None:
        """Handles a zygote's report that it can't import the application."""
        if zygote in self.table.leaving:
            return
        if zygote is self.table.following:
            self._refuse(traceback)
            return
        self.boot_error = traceback
        self._note_unfit(traceback, zygote.pid)
        self._log.error("the application can't be imported", traceback=traceback)

    def note_lost(self, zygote: ZygoteProcess, status: int, now: float) -> None:
        """Handles the end of a zygote; plans the next boot if it served.

        The boot is due at once if the zygote served for long enough. Otherwise it is due after a
        pause that grows with each such loss.
        """
        was_booting = zygote.pid in self._boots  # and was not ended for a newer zygote
        self.table.drop(zygote)
        if zygote is self.table.serving:
            if was_booting:
                self.reloads.refuse(f"it died while it booted (status {status})")
            is_told = zygote.pid == self._blamed_pid
            if not is_told and (was_booting or self.is_ready):
                self._tell_why(f"the zygote died (status {status})", zygote.pid)
            if was_booting and self.learning.trying:
                self._refuse_learnt(dict.fromkeys(self.learning.trying, "the zygote died of it"))
            else:
                self.learning.forget()  # a learnt module may have killed it
            pause_s = self._boots.plan_next(now, has_served=self.is_ready)
            self.table.serving, self.is_ready = None, False
            if not is_told or not self.boot_error:
                self._log.error(
                    "zygote lost", pid=zygote.pid, status=status, restart_in_s=round(pause_s, 1)
                )
        elif zygote is self.table.following:
            self.table.following = None
            self._refuse(f"it died while it booted (status {status})")
        else:
            self._log.info("zygote gone", pid=zygote.pid)

    def _may_serve(self, zygote: ZygoteProcess, ready: Ready) -> bool:
        """False for a zygote of another rqd, installed meanwhile, if the old code can serve on.

        Also False if this master does not understand its frames. If no zygote serves, another
        version may serve: the code of this master's version is gone.
        """
        is_understood = ready.format == protocol.FORMAT
        if is_understood and ready.version == __version__:
            return True
        why = f"rqd itself is {ready.version} by now, this master {__version__}: restart the daemon"
        if zygote is self.table.following and (self.reloads.is_under_way or not is_understood):
            self._refuse(why)
        elif not is_understood:
            self._note_unfit(why, zygote.pid)
            self._log.error(
                "zygote is of an rqd that its master does not understand: restart the daemon",
                pid=ready.pid,
                version=ready.version,
                master=__version__,
            )
            zygote.end()  # the next boot is tried after a pause that grows
        else:
            self._log.warning(
                "zygote is of another rqd than its master: restart the daemon",
                pid=ready.pid,
                version=ready.version,
                master=__version__,
            )
            return True
        return False

    def _note_unfit(self, error: str, pid: int) -> None:
        """Notes that the booting zygote never will serve. A reload that is under way was this boot,
        and is refused.
        """
        self._tell_why(error, pid)
        self.reloads.refuse(error)

    def _tell_why(self, error: str, pid: int = 0) -> None:
        """Notes why no zygote serves. Passwords are hidden: all users see a process's title."""
        self.why_none, self._blamed_pid = hide_passwords(_last_line(error))[:_MOST_CHARS], pid

    def _follow(self, now: float) -> None:
        try:
            self.table.following = self.table.start(self.learning.modules, self.is_ready, now)
        except _NOT_STARTED as error:
            self.learning.put_off(now)
            self._refuse(f"it can't be started: {error}")

    def _refuse(self, error: str) -> None:
        """Notes that the next zygote never will serve: the serving zygote stays."""
        last = _last_line(error)
        traceback = error if last != error.strip() else ""
        if self.reloads.refuse(error):
            self.learning.forget()  # the next reload is tried without learnt modules
            self._log.error(
                "reload refused, the old code serves on", error=last, traceback=traceback
            )
        elif self.table.serving is not None and self.table.serving.is_unresponsive:
            self._log.error(
                "no other zygote, trying again in a minute", error=last, traceback=traceback
            )
        elif self.learning.trying:
            self._refuse_learnt(dict.fromkeys(self.learning.trying, error))
        else:  # the serving zygote has died since, and is restarted, or is responsive again
            self._log.error(
                "the next zygote failed, none is needed any more", error=last, traceback=traceback
            )
        self.table.end_following()


def _warn_of(unforkable: tuple[Unforkable, ...], log: Log) -> None:
    for of in unforkable:
        if of.threads:
            log.warning(
                "preloaded code has threads, which jobs' processes lack",
                module=of.module,
                threads=of.threads,
            )
        if of.connections:
            log.warning(
                "preloaded code is connected, which all jobs' processes share",
                module=of.module,
                connections=of.connections,
            )


def _last_line(error: str) -> str:
    """The last line of a traceback, which names the error."""
    return error.strip().rpartition("\n")[2]
