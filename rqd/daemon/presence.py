"""How a master shows itself: its name and rows in Redis, its title, what systemd hears."""

from __future__ import annotations

import os
import socket

import setproctitle

from rqd import __version__
from rqd.daemon.children import Children
from rqd.daemon.config import Config
from rqd.daemon.dispatch import LEASE_US
from rqd.daemon.log import Log
from rqd.daemon.notify import Notifier
from rqd.daemon.redis_link import RedisLink
from rqd.daemon.rows import Gauge, master_row, worker_row
from rqd.model.errors import MasterExistsError
from rqd.store.connection import explained, hide_password
from rqd.store.store import Beat, BeatAnswer

ROW_TTL_S = 15


class Presence:
    """A master's name, from hello to bye."""

    def __init__(self, config: Config, link: RedisLink, log: Log) -> None:
        self._config = config
        self._link = link
        self._log = log
        self._boot = os.urandom(8).hex()
        self._host = socket.gethostname()
        self._gauge = Gauge()
        self._notifier = Notifier()
        self._title = ""
        self._is_announced = False

    def register(self) -> None:
        """Takes the name. Raises MasterExistsError if it is taken, ServerUnavailableError."""
        config, store = self._config, self._link.store
        row: dict[str, str | int] = {
            "host": self._host,
            "pid": os.getpid(),
            "version": __version__,
            "queues": ",".join(config.queues),
            "workers": config.workers,
            "state": "starting",
        }
        with explained(config.url):
            taken = store.hello(config.name, self._boot, ROW_TTL_S, row)
        if taken:
            host, pid = taken
            raise MasterExistsError(
                f"a master named {config.name!r} is alive (host {host}, pid {pid}):"
                " stop it, or choose another --name"
            )
        shown = hide_password(config.url)
        self._log.info("master started", name=config.name, pid=os.getpid(), url=shown)

    def beat(self, state: str, children: Children, obeyed: str, now: float) -> BeatAnswer | None:
        """One heartbeat; None if Redis is not there."""
        workers = [worker for worker in children.workers if worker.is_present]
        gauge = self._gauge
        highest = max(children.workers.by_number)
        beat = Beat(
            master=self._config.name,
            boot=self._boot,
            lease_us=LEASE_US,
            row_ttl_s=ROW_TTL_S,
            obeyed=obeyed,
            running=tuple((job.claim.id, job.claim.token) for job in children.workers.runs()),
            row={
                "boot": self._boot,
                "host": self._host,
                "pid": os.getpid(),
                "version": __version__,
                "queues": ",".join(self._config.queues),
                **master_row(state, workers, children.zygote_pid, gauge, now, highest),
            },
            workers={one.number: worker_row(one, gauge, now, self._host) for one in workers},
        )
        gauge.forget_all_but({os.getpid(), *(one.child.pid for one in workers if one.child)})
        return self._link.attempt(lambda: self._link.store.beat(beat), now)

    def announce(self, state: str, children: Children) -> None:
        """Title, STATUS and READY, whenever what they say has changed."""
        config = self._config
        workers = children.workers
        wanted = sum(worker.wanted for worker in workers)
        busy = len(workers.runs())
        text = f"stopping, {busy} running" if state == "stopping" else f"{busy}/{wanted} busy"
        if state == "starting":
            text = "starting"
        if not self._is_announced and children.is_ready:
            self._is_announced = True
            self._notifier.ready()
            self._log.info("ready", queues=",".join(config.queues), workers=config.workers)
        title = f"rqd: master [{','.join(config.queues)}] {text}"
        if title != self._title:
            self._title = title
            setproctitle.setproctitle(title)
            self._notifier.status(text)

    def stopping(self) -> None:
        """Tells systemd that the stop has begun."""
        self._notifier.stopping()

    def leave(self, highest_worker: int, status: int, now: float) -> None:
        """Takes the rows away; where Redis is gone they vanish by themselves."""
        store = self._link.store
        if self._link.is_up:  # else one more wait for its answer, at the end of an urgent stop
            self._link.attempt(
                lambda: store.bye(self._config.name, self._boot, highest_worker), now
            )
        self._link.close()
        self._log.info("master stopped", name=self._config.name, status=status)
