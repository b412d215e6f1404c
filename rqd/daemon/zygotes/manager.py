"""Which zygotes there are: the one that serves, one that boots to follow it, those that leave.

A reload starts a fresh interpreter with the code as it is now. It serves once it has imported all;
until then, and if it never does, the old one serves on. The old one leaves when its last job has
ended (Unicorn's and gunicorn's reload, for one place at a time instead of whole processes). So does
one that stands still: another one follows it.
"""

from __future__ import annotations

import math
import subprocess
import time
from collections.abc import Callable, Iterator

from rqd import __version__
from rqd.daemon.event_loop import Loop
from rqd.daemon.log.log import Log
from rqd.daemon.zygote import protocol
from rqd.daemon.zygotes.boot_backoff import Boots
from rqd.daemon.zygotes.events import Ready, Unforkable
from rqd.daemon.zygotes.learning import Learning
from rqd.daemon.zygotes.process import ZygoteProcess
from rqd.daemon.zygotes.reloads import Reloads
from rqd.store.urls import hide_passwords

_SWEEP_LIMIT_S = 5.0
# Where one that stands still could not be replaced, it is tried again in a minute.
_REPLACE_AGAIN_S = 60.0
# Of a line in a process's title.
_MOST_CHARS = 200
_NOT_STARTED = (OSError, subprocess.SubprocessError)


class Zygotes:
    """Starts, replaces and lets go of zygotes; knows nothing of what their children do."""

    def __init__(
        self,
        spawn: Callable[[tuple[str, ...]], ZygoteProcess],
        loop: Loop,
        log: Log,
        learning: Learning,
    ) -> None:
        """`spawn` starts a zygote that imports these modules besides the configured ones."""
        self._spawn = spawn
        self._loop = loop
        self._log = log
        self._boots = Boots()
        self._generation = 0
        self._look_at = 0.0
        self._replace_at = 0.0
        self.serving: ZygoteProcess | None = None
        self.following: ZygoteProcess | None = None
        self.leaving: list[ZygoteProcess] = []
        self._dismissed_at: dict[int, float] = {}
        self.is_ready = False
        self.why_none = ""  # serves, in a line, once one was lost or refused
        self._told_of = 0  # the pid of the zygote that it is told of
        self.boot_error = ""
        self.reloads = Reloads()
        self.learning = learning

    def __iter__(self) -> Iterator[ZygoteProcess]:
        """All there are."""
        return iter([z for z in (self.serving, self.following, *self.leaving) if z is not None])

    @property
    def has_never_booted(self) -> bool:
        """True before the first one that was ready."""
        return self._boots.took_s is None

    def boot(self, now: float) -> ZygoteProcess | None:
        """Starts one that serves from its first moment, as none does; None if it can't be had."""
        self._boots.cancel_next()
        self.serving, self.is_ready = None, False
        try:
            self.serving = self._start(now)
        except _NOT_STARTED as error:
            self._tell_why(f"the zygote can't be started: {error}")
            self._log.error("can't start the zygote", error=error)
            self._boots.plan_next(now)
        return self.serving

    def is_restart_due(self, now: float) -> bool:
        """True when a lost zygote is to be replaced."""
        return self._boots.is_next_due(now)

    def next_due(self) -> float:
        """When a restart is due, or a boot or a leave takes too long."""
        due = [at + _SWEEP_LIMIT_S for at in self._dismissed_at.values()]
        if self.is_ready and self.following is None:
            due.append(self.learning.next_due())
        return min(self._boots.next_due(), *due, math.inf)

    def follow(self, request: str, now: float) -> None:
        """Begins a reload; one that is under way begins anew, with the code as it is by now."""
        if self.following is not None and self.reloads.is_under_way:
            # No error: whoever asked for it gets newer code. `--autoreload` asks at every save.
            self.reloads.refuse("another reload was asked for meanwhile")
        self._end_following()
        self.learning.put_off(now)
        self.reloads.ask(request)
        self._log.info("reloading", pid=self.serving.pid if self.serving else 0)
        if not self.is_ready:
            # None serves: the next boot is the reload. One that boots may have read old code.
            self._boots.forget_pause()
            if self.serving is not None:
                self._boots.give_up(self.serving.pid)
                self.serving.end()
            else:
                self._boots.hasten_next(now)
            return
        self._follow(now)

    def look(self, now: float) -> None:
        """Takes note of who has said nothing since the last look, as all do that go round."""
        if now < self._look_at:
            return
        # Looks are counted, and no time: the master may have stood still itself.
        self._look_at = now + protocol.HERE_S
        for zygote in self:
            if zygote.pid not in self._boots:
                zygote.look()

    def is_replacement_due(self, now: float) -> bool:
        """True when the one that serves stands still, and none is about to follow it."""
        is_still = self.is_ready and self.serving is not None and self.serving.is_unresponsive
        return is_still and self.following is None and now >= self._replace_at

    def replace(self, now: float) -> None:
        """Has another one follow the one that stands still; its jobs run on, as far as they do."""
        assert self.serving is not None
        self._log.error("zygote stands still, starting another one", pid=self.serving.pid)
        self._replace_at = now + _REPLACE_AGAIN_S
        self._follow(now)

    def is_lesson_due(self, now: float) -> bool:
        """True when a zygote is to boot that has more of what jobs import."""
        is_calm = self.is_ready and self.following is None
        return is_calm and now >= self.learning.next_due()

    def learn(self, now: float) -> None:
        """Has a zygote follow that imports what jobs' processes have imported by themselves."""
        self.learning.begin(now)
        self._log.debug("preloading what jobs import", modules=self.learning.trying)
        self._follow(now)

    def refuse(self, request: str, error: str) -> None:
        """Does not even begin a reload; one that is under way ends with it."""
        self.reloads.ask(request)
        self._refuse(error)

    def end_overdue(self, now: float) -> None:
        """Ends who does not come to the end of its boot, and refuses the reload that this was; and
        who stays though it was told to go.
        """
        for zygote in self.leaving:
            if zygote.is_dismissed and now >= self._dismissed_at[zygote.pid] + _SWEEP_LIMIT_S:
                self._dismissed_at[zygote.pid] = now
                zygote.end()
        for pid, took_s in self._boots.give_up_overdue(now):
            if self.following is not None and pid == self.following.pid:
                self._refuse(f"it was not ready after {took_s:.0f} s")
            elif self.serving is not None:
                self._log.error("zygote not ready, ending it", pid=pid, after_s=round(took_s))
                self._note_unfit(f"it was not ready after {took_s:.0f} s", pid)
                self.serving.end()

    def note_ready(self, zygote: ZygoteProcess, ready: Ready, now: float) -> bool:
        """A zygote has imported the application; True if it now serves instead of another."""
        if zygote.pid not in self._boots:
            return False  # it was refused, or ended for a newer one, a moment ago
        if not self._may_serve(zygote, ready):
            return False
        if reasons := self._unfit_lessons(ready):
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
        self._warn_of(ready.unforkable)
        self.is_ready, self.boot_error, self.why_none = True, "", ""
        has_followed = zygote is self.following
        if has_followed:
            if self.serving is not None:
                self._boots.give_up(self.serving.pid)
                self.leaving.append(self.serving)
            self.serving, self.following = zygote, None
            self._boots.cancel_next()  # if one was lost meanwhile: here it is
        is_over = has_followed or self.following is None
        if is_over and self.reloads.succeed():
            self._log.info("reloaded", pid=ready.pid)
        return has_followed

    def _unfit_lessons(self, ready: Ready) -> dict[str, str]:
        """Why modules that were learnt should rather not be preloaded; empty if all may be."""
        return {
            of.module: of.error
            or f"it leaves threads or connections: {of.threads or of.connections}"
            for of in ready.unforkable
            if of.module in self.learning.modules
        }

    def _boot_without(self, zygote: ZygoteProcess, reasons: dict[str, str], now: float) -> None:
        """Ends a zygote for what was learnt; another one boots without that, if it is needed."""
        self._refuse_lessons(reasons)
        if zygote is self.following:
            self._end_following()
            is_needed = self.reloads.is_under_way or self.learning.trying
            if is_needed or (self.serving is not None and self.serving.is_unresponsive):
                self._follow(now)
            return
        self._boots.give_up(zygote.pid)
        zygote.end()
        self.leaving.append(zygote)
        self.serving = None
        self._boots.hasten_next(now)

    def _refuse_lessons(self, reasons: dict[str, str]) -> None:
        self.learning.refuse(reasons)
        for module, why in reasons.items():
            self._log.warning(
                "a module of jobs is not preloaded by itself: each job imports it",
                module=module,
                why=_last_line(why)[:_MOST_CHARS],
            )

    def _warn_of(self, unforkable: tuple[Unforkable, ...]) -> None:
        for of in unforkable:
            if of.threads:
                self._log.warning(
                    "preloaded code has threads, which jobs' processes lack",
                    module=of.module,
                    threads=of.threads,
                )
            if of.connections:
                self._log.warning(
                    "preloaded code is connected, which all jobs' processes share",
                    module=of.module,
                    connections=of.connections,
                )

    def note_boot_failed(self, zygote: ZygoteProcess, traceback: str) -> None:
        """The application can't be imported."""
        if zygote in self.leaving:
            return
        if zygote is self.following:
            self._refuse(traceback)
            return
        self.boot_error = traceback
        self._note_unfit(traceback, zygote.pid)
        self._log.error("the application can't be imported", traceback=traceback)

    def note_lost(self, zygote: ZygoteProcess, status: int, now: float) -> None:
        """A zygote is gone, and its children: the next one is started, if it served; at once if it
        served well, else after a pause that grows with each such loss.
        """
        was_booting = zygote.pid in self._boots  # and was not ended for a newer one
        self._forget(zygote)
        if zygote is self.serving:
            if was_booting:
                self.reloads.refuse(f"it died while it booted (status {status})")
            is_told = zygote.pid == self._told_of
            if not is_told and (was_booting or self.is_ready):
                self._tell_why(f"the zygote died (status {status})", zygote.pid)
            if was_booting and self.learning.trying:
                self._refuse_lessons(dict.fromkeys(self.learning.trying, "the zygote died of it"))
            else:
                self.learning.forget()  # it may be what killed it
            pause_s = self._boots.plan_next(now, has_served=self.is_ready)
            self.serving, self.is_ready = None, False
            if not is_told or not self.boot_error:
                self._log.error(
                    "zygote lost", pid=zygote.pid, status=status, restart_in_s=round(pause_s, 1)
                )
        elif zygote is self.following:
            self.following = None
            self._refuse(f"it died while it booted (status {status})")
        else:
            self.leaving.remove(zygote)
            self._dismissed_at.pop(zygote.pid, None)
            self._log.info("zygote gone", pid=zygote.pid)

    def hear_output(self, ready: set[int]) -> None:
        """Logs what zygotes printed: warnings of the application's import, say."""
        for zygote in self:
            if zygote.output_fd in ready and not self._log_output(zygote):
                self._loop.forget(zygote.output_fd)  # it has closed it: that is told once

    def let_go(self, needed: set[int], now: float) -> None:
        """Tells those that leave, and have no job any more (`needed` are pids), to go."""
        for zygote in self.leaving:
            if zygote.pid not in needed and not zygote.is_dismissed:
                self._loop.forget(zygote.control_fd)
                zygote.shut_down()  # its pidfd will tell when it has swept and gone
                self._dismissed_at[zygote.pid] = now

    def flush(self) -> None:
        """Sends what zygotes had no room for."""
        for zygote in self:
            zygote.flush()

    def close(self) -> None:
        """Ends them all, within a second."""
        for zygote in self:
            zygote.shut_down()
        give_up_at = time.monotonic() + 1.0
        for zygote in self:
            self._log_output(zygote)  # why it could not import the application, say
            zygote.close(max(0.0, give_up_at - time.monotonic()))
        self.serving = self.following = None
        self.leaving.clear()

    def _may_serve(self, zygote: ZygoteProcess, ready: Ready) -> bool:
        """False for one of an rqd that was installed meanwhile where the old code can serve on
        instead, or that this master does not understand.

        Where none serves there is no other: of the version that this master is there is no code.
        """
        is_understood = ready.format == protocol.FORMAT
        if is_understood and ready.version == __version__:
            return True
        why = f"rqd itself is {ready.version} by now, this master {__version__}: restart the daemon"
        if zygote is self.following and (self.reloads.is_under_way or not is_understood):
            self._refuse(why)
        elif not is_understood:
            self._note_unfit(why, zygote.pid)
            self._log.error(
                "zygote is of an rqd that its master can't work with: restart the daemon",
                pid=ready.pid,
                version=ready.version,
                master=__version__,
            )
            zygote.end()  # another one is tried after a pause that grows
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
        """The zygote that was to serve never will; if a reload is under way, this was it."""
        self._tell_why(error, pid)
        self.reloads.refuse(error)

    def _tell_why(self, error: str, pid: int = 0) -> None:
        """None serves for this reason, which all see who see a process's title."""
        self.why_none, self._told_of = hide_passwords(_last_line(error))[:_MOST_CHARS], pid

    def _follow(self, now: float) -> None:
        try:
            self.following = self._start(now)
        except _NOT_STARTED as error:
            self.learning.put_off(now)
            self._refuse(f"it can't be started: {error}")

    def _start(self, now: float) -> ZygoteProcess:
        """Raises those of _NOT_STARTED."""
        zygote = self._spawn(self.learning.modules)
        self._generation += 1
        zygote.generation = self._generation
        self._boots.begin(zygote.pid, now)
        self._watch(zygote)
        return zygote

    def _watch(self, zygote: ZygoteProcess) -> None:
        self._loop.watch(zygote.control_fd)
        self._loop.watch(zygote.pidfd)
        self._loop.watch(zygote.output_fd)

    def _refuse(self, error: str) -> None:
        """The zygote that was to follow never will: what serves serves on."""
        last = _last_line(error)
        traceback = error if last != error.strip() else ""
        if self.reloads.refuse(error):
            self.learning.forget()  # the next one is tried without
            self._log.error(
                "reload refused, the old code serves on", error=last, traceback=traceback
            )
        elif self.serving is not None and self.serving.is_unresponsive:
            self._log.error(
                "no other zygote, trying again in a minute", error=last, traceback=traceback
            )
        elif self.learning.trying:
            self._refuse_lessons(dict.fromkeys(self.learning.trying, error))
        else:  # it has died since, and is restarted, or goes round again
            self._log.error(
                "the next zygote failed, none is to follow by now", error=last, traceback=traceback
            )
        self._end_following()

    def _end_following(self) -> None:
        if (zygote := self.following) is not None:
            self.following = None
            self._boots.give_up(zygote.pid)
            zygote.end()
            self.leaving.append(zygote)  # until its pidfd says that it is gone

    def _forget(self, zygote: ZygoteProcess) -> None:
        self._boots.give_up(zygote.pid)
        if not zygote.is_dismissed:
            self._loop.forget(zygote.control_fd)
        self._loop.forget(zygote.pidfd)
        self._loop.forget(zygote.output_fd)
        self._log_output(zygote)
        zygote.close()

    def _log_output(self, zygote: ZygoteProcess) -> bool:
        """False at the end of it."""
        lines, is_open = zygote.read_output()
        if lines:
            self._log.output(lines, zygote=zygote.pid)
        return is_open


def _last_line(error: str) -> str:
    """Of a traceback: what it was."""
    return error.strip().rpartition("\n")[2]
