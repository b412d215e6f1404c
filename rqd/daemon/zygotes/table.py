"""The zygotes' processes: their starts, their watched descriptors, and their ends."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

from rqd.daemon.event_loop import Loop
from rqd.daemon.log.log import Log
from rqd.daemon.zygote import protocol
from rqd.daemon.zygotes.boot_backoff import Boots
from rqd.daemon.zygotes.process import ZygoteProcess, ZygoteSpawner

_SWEEP_LIMIT_S = 5.0


class ZygoteTable:
    """The zygotes that are not gone yet, by their part; decides nothing."""

    def __init__(self, spawner: ZygoteSpawner, loop: Loop, log: Log) -> None:
        self.spawner = spawner
        self._loop = loop
        self._log = log
        self.boots = Boots()
        self.serving: ZygoteProcess | None = None
        self.following: ZygoteProcess | None = None
        self.leaving: list[ZygoteProcess] = []
        self.check_at = 0.0  # the next check whether zygotes are responsive
        self._generation = 0
        self._dismissed_at: dict[int, float] = {}

    def __iter__(self) -> Iterator[ZygoteProcess]:
        """All zygotes that are not gone yet."""
        return iter([z for z in (self.serving, self.following, *self.leaving) if z is not None])

    def start(self, modules: tuple[str, ...], is_next: bool, now: float) -> ZygoteProcess:
        """Starts and watches a zygote that imports these modules besides --preload.

        Raises OSError or SubprocessError if it can't be started.
        """
        zygote = self.spawner.spawn(modules, is_next=is_next)
        self._generation += 1
        zygote.generation = self._generation
        self.boots.begin(zygote.pid, now)
        self._loop.watch(zygote.control_fd)
        self._loop.watch(zygote.pidfd)
        self._loop.watch(zygote.output_fd)
        return zygote

    def retire(self, zygote: ZygoteProcess) -> None:
        """Keeps a zygote that will not serve any more until its pidfd reports its end."""
        self.boots.give_up(zygote.pid)
        zygote.is_retired = True
        self.leaving.append(zygote)

    def end_following(self) -> None:
        """Ends the zygote that is to serve next, if there is one."""
        if (zygote := self.following) is not None:
            self.following = None
            zygote.end()
            self.retire(zygote)

    def drop(self, zygote: ZygoteProcess) -> None:
        """Closes a zygote that is gone, and logs the rest of its output."""
        self.boots.give_up(zygote.pid)
        if not zygote.is_dismissed:
            self._loop.forget(zygote.control_fd)
        self._loop.forget(zygote.pidfd)
        self._loop.forget(zygote.output_fd)
        self._log_output(zygote)
        zygote.close()
        self._dismissed_at.pop(zygote.pid, None)
        if zygote in self.leaving:
            self.leaving.remove(zygote)

    def dismiss(self, needed: set[int], now: float) -> None:
        """Dismisses the retiring zygotes that have no child with a job any more.

        `needed`: pids of the zygotes that have children in slots.
        """
        for zygote in self.leaving:
            if zygote.pid not in needed and not zygote.is_dismissed:
                self._loop.forget(zygote.control_fd)
                zygote.shut_down()  # its pidfd reports when it has killed the rest and is gone
                self._dismissed_at[zygote.pid] = now

    def kill_overdue(self, now: float) -> None:
        """Kills the zygotes that stay too long after their dismissal."""
        for zygote in self.leaving:
            if zygote.is_dismissed and now >= self._dismissed_at[zygote.pid] + _SWEEP_LIMIT_S:
                self._dismissed_at[zygote.pid] = now
                zygote.end()

    def next_due(self) -> float:
        """The next moment at which a boot is due, or a boot or an exit is overdue; or infinity."""
        exits = [at + _SWEEP_LIMIT_S for at in self._dismissed_at.values()]
        return min(self.boots.next_due(), *exits, math.inf)

    def check_alive(self, now: float) -> None:
        """Counts the zygotes that have sent no report since the last check, if a check is due."""
        if now < self.check_at:
            return
        # Checks are counted, not seconds: the master may have stood still itself.
        self.check_at = now + protocol.HERE_S
        for zygote in self:
            if zygote.pid not in self.boots:
                zygote.check_alive()

    def read_output(self, zygote: ZygoteProcess) -> None:
        """Logs a zygote's output: warnings of the application's import, say."""
        if not self._log_output(zygote):
            self._loop.forget(zygote.output_fd)  # closed: it would be ready for ever

    def flush(self) -> None:
        """Sends the frames for which the zygotes' sockets had no room."""
        for zygote in self:
            zygote.flush()

    def close(self) -> None:
        """Ends all zygotes; kills the ones that are not gone after a second."""
        for zygote in self:
            zygote.shut_down()
        give_up_at = time.monotonic() + 1.0
        for zygote in self:
            self._log_output(zygote)  # the reason why it could not import the application, say
            zygote.close(max(0.0, give_up_at - time.monotonic()))
        self.serving = self.following = None
        self.leaving.clear()

    def _log_output(self, zygote: ZygoteProcess) -> bool:
        """Logs a zygote's new output; False at its end."""
        lines, is_open = zygote.read_output()
        if lines:
            self._log.output(lines, zygote=zygote.pid)
        return is_open
