"""How a master shows itself: its name and rows in Redis, its title, what systemd hears."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable

import setproctitle

from rqd import __version__
from rqd.daemon.config import Config
from rqd.daemon.control.rows import Gauge, master_row, worker_row
from rqd.daemon.duties import INTERVAL_S, Duty
from rqd.daemon.host.leftovers import sweep
from rqd.daemon.host.notify import Notifier
from rqd.daemon.instance import Holder, Instance, name_is_taken
from rqd.daemon.jobs.dispatch import LEASE_US
from rqd.daemon.log.log import Log
from rqd.daemon.processes.children import Children
from rqd.daemon.processes.worker import Run
from rqd.daemon.redis_link import RedisLink
from rqd.model.errors import MasterExistsError
from rqd.store.connection import explained, hide_password
from rqd.store.exchange import Beat, BeatAnswer, Loss, Owner

ROW_TTL_S = 15
# SIGKILL takes effect at once, but for a process that waits for a device.
_SWEEP_S = 5.0


class Presence:
    """A master's name, from hello to bye."""

    def __init__(self, config: Config, instance: Instance, link: RedisLink, log: Log) -> None:
        self._config = config
        self._instance = instance
        self._link = link
        self._log = log
        self._host = socket.gethostname()
        self._gauge = Gauge()
        self._notifier = Notifier()
        self._title = ""
        self._is_announced = False
        self._is_reloading = False
        self._has_warned = False  # of a disk that takes nothing

    def use(self, config: Config) -> None:
        """Other settings from now on."""
        self._config = config

    def register(self) -> None:
        """Takes the name, and what a dead master of this name held.

        Raises MasterExistsError if the name is taken, ServerUnavailableError.
        """
        config, instance = self._config, self._instance
        predecessor = self._bury(instance.predecessor)
        while owner := self._greet(predecessor):
            if owner.place and owner.place == instance.place:
                predecessor = self._bury(Holder(owner.boot, owner.pid))
            elif instance.is_chosen:
                raise name_is_taken(instance.name, owner.host, owner.pid)
            else:
                instance.take_next()
                predecessor = self._bury(instance.predecessor)
        instance.succeed()
        self.pulse("starting")
        if instance.trouble:
            self._log.warning(
                "no lock on the name: if this master is killed, its jobs wait for their leases",
                error=instance.trouble,
            )
        shown = hide_password(config.url)
        self._log.name_master(instance.name)
        self._log.info(
            "master started", master=instance.name, pid=os.getpid(), version=__version__, url=shown
        )

    def report_reaped(self, reaped: Iterable[Loss]) -> None:
        """Says which jobs were taken back from masters that are gone."""
        for job_id, losses, lost in reaped:
            self._log.warning(
                "job of a lost master taken back", job_id=job_id, lost_with=lost, losses=losses
            )

    def _greet(self, predecessor: str) -> Owner | None:
        """The living owner of the name, None if it is ours from now on."""
        config, instance = self._config, self._instance
        row: dict[str, str | int] = {
            **self._identity(),
            "workers": config.workers,
            "state": "starting",
        }
        with explained(config.url):
            greeting = self._link.store.hello(
                instance.name, instance.boot, ROW_TTL_S, row, predecessor
            )
        self.report_reaped(greeting.reaped)
        return greeting.owner

    def _bury(self, dead: Holder | None) -> str:
        """The boot id of a master that is gone, by our lock, once its processes are gone too."""
        if dead is None:
            return ""
        left = sweep(dead.boot, self._instance.lock_path, _SWEEP_S)
        if left:
            raise MasterExistsError(
                f"processes of the master that had the name {self._instance.name!r} can't be"
                f" killed (pids {left}): end them, or choose another --name"
            )
        self._log.warning(
            "taking over from a master that died", master=self._instance.name, pid=dead.pid
        )
        return dead.boot

    def beat(
        self, state: str, children: Children, unrecorded: list[Run], obeyed: str, now: float
    ) -> BeatAnswer | None:
        """One heartbeat, which renews all leases; None if Redis is not there."""
        workers = [worker for worker in children.workers if worker.is_present]
        gauge = self._gauge
        held = children.workers.held() + unrecorded
        ending = {run.worker: run for run in unrecorded}
        busy = children.workers.busy(unrecorded)
        highest = max(children.workers.by_number)
        beat = Beat(
            master=self._instance.name,
            boot=self._instance.boot,
            lease_us=LEASE_US,
            row_ttl_s=ROW_TTL_S,
            obeyed=obeyed,
            running=tuple(
                (run.claim.id, run.claim.token, run.worker if run.is_moved else "") for run in held
            ),
            row={
                "boot": self._instance.boot,
                **self._identity(),
                **master_row(state, workers, busy, children.zygotes, gauge, now, highest),
            },
            workers={
                one.number: worker_row(one, ending.get(one.number), gauge, now, self._host)
                for one in workers
            },
        )
        for one in workers:
            one.is_shown = one.child is not None
        gauge.forget_all_but({os.getpid(), *(one.child.pid for one in workers if one.child)})
        return self._link.attempt(lambda: self._link.store.beat(beat), now)

    def announce(self, state: str, busy: int, children: Children) -> None:
        """Title, STATUS and READY, whenever what they say has changed."""
        config = self._config
        wanted = sum(worker.wanted for worker in children.workers)
        text = f"stopping, {busy} running" if state == "stopping" else f"{busy}/{wanted} busy"
        why_none = children.zygotes.why_none
        if state == "starting":
            text = f"{state}: {why_none}" if why_none else state
        elif state in ("paused", "suspended"):
            text = f"{state} {text}"
        is_reloading = children.zygotes.reloads.is_under_way
        if is_reloading:
            text += ", reloading"
        elif children.zygotes.reloads.is_refused and state not in ("starting", "stopping"):
            text += ", reload refused"
        if not self._link.is_up:
            text += ", redis gone"
        if is_reloading and not self._is_reloading:
            self._notifier.reloading()
        elif self._is_reloading and not is_reloading:
            self._notifier.ready()
        self._is_reloading = is_reloading
        if not self._is_announced and children.is_ready:
            self._is_announced = True
            self._notifier.ready()
            self._log.info("ready", queues=config.queues, workers=config.workers)
        title = f"rqd: master [{','.join(config.queues)}] {text}"
        if title != self._title:
            self._title = title
            setproctitle.setproctitle(title)
            self._notifier.status(text)

    def pulse(self, state: str) -> float:
        """Shows that the loop goes round; how soon to do it again, in seconds."""
        try:
            self._instance.note_state(state)
        except OSError as error:
            if not self._has_warned:
                self._has_warned = True
                self._log.warning("state not shown on this host", error=error)
        self._notifier.alive()
        if state == "stopping":
            self._notifier.extend_stop(2 * INTERVAL_S[Duty.PULSE])
        # systemd's advice is half of its limit; a third bears one that comes late.
        return self._notifier.watchdog_s / 3

    def stopping(self) -> None:
        """Tells systemd that the stop has begun."""
        self._notifier.stopping()

    def leave(self, highest_worker: int, status: int, now: float) -> None:
        """Takes the rows away; where Redis is gone they vanish by themselves."""
        store, instance = self._link.store, self._instance
        if self._link.is_up:  # else one more wait for its answer, at the end of an urgent stop
            told = self._link.attempt(
                lambda: store.bye(instance.name, instance.boot, highest_worker), now
            )
            if told is not None:
                instance.leave()
        self._link.close()
        self._log.info("master stopped", master=instance.name, status=status)

    def _identity(self) -> dict[str, str | int]:
        config = self._config
        return {
            "host": self._host,
            "pid": os.getpid(),
            "place": self._instance.place,
            "version": __version__,
            "queues": ",".join(config.queues),
            # By which a client knows how to sign commands, and says so to who can't.
            "key_ids": ",".join(config.keyring.key_ids) if config.keyring else "",
            "signed_only": "1" if config.require_signed else "",
        }
