"""Registers the master, beats for it and its workers, and writes their rows."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable

import psutil
import setproctitle

from rqd import __version__
from rqd.daemon.config import Config
from rqd.daemon.dispatcher import LEASE_US
from rqd.daemon.host.orphans import kill_stale
from rqd.daemon.host.systemd import Notifier
from rqd.daemon.instance import Holder, Instance, name_is_taken
from rqd.daemon.log.log import Log
from rqd.daemon.redis_client import RedisLink
from rqd.daemon.workers.attempt import Attempt
from rqd.daemon.workers.pool import Pool
from rqd.daemon.workers.worker import Worker
from rqd.model.errors import MasterExistsError
from rqd.store.connection import hide_password, translate_errors
from rqd.store.messages import Beat, BeatAnswer, Loss, Owner

ROW_TTL_S = 15
PULSE_S = 5.0  # the longest pause between two signs of life on this host
# SIGKILL takes effect at once, except on a process that waits for a device.
_SWEEP_S = 5.0


class Heartbeat:
    """Holds a master's name, from hello to bye."""

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
        self._has_warned = False  # of a disk that refuses writes

    def configure(self, config: Config) -> None:
        """Uses other settings from now on."""
        self._config = config

    def register(self) -> None:
        """Takes the name, and the jobs that a dead master of this name held.

        Raises MasterExistsError if the name is taken, ServerUnavailableError.
        """
        config, instance = self._config, self._instance
        predecessor = self._bury(instance.predecessor)
        while owner := self._greet(predecessor):
            if owner.place and owner.place == instance.lock_id:
                predecessor = self._bury(Holder(owner.boot, owner.pid))
            elif instance.is_chosen:
                raise name_is_taken(instance.name, owner.host, owner.pid)
            else:
                instance.take_next()
                predecessor = self._bury(instance.predecessor)
        instance.succeed()
        self.pulse("starting")
        if instance.lock_error:
            self._log.warning(
                "no lock on the name: if this master is killed, its jobs wait for their leases",
                error=instance.lock_error,
            )
        shown = hide_password(config.url)
        self._log.name_master(instance.name)
        self._log.info(
            "master started", master=instance.name, pid=os.getpid(), version=__version__, url=shown
        )

    def report_reaped(self, reaped: Iterable[Loss]) -> None:
        """Logs which jobs were taken back from masters that are gone."""
        for job_id, losses, lost in reaped:
            self._log.warning(
                "job of a lost master taken back", job_id=job_id, lost_with=lost, losses=losses
            )

    def _greet(self, predecessor: str) -> Owner | None:
        """Says hello. Returns the living owner of the name, None if it is ours from now on."""
        config, instance = self._config, self._instance
        row: dict[str, str | int] = {
            **self._identity(),
            "workers": config.workers,
            "state": "starting",
        }
        with translate_errors(config.url):
            greeting = self._link.store.hello(
                instance.name, instance.boot, ROW_TTL_S, row, predecessor
            )
        self.report_reaped(greeting.reaped)
        return greeting.owner

    def _bury(self, dead: Holder | None) -> str:
        """Kills a dead master's processes; returns its boot id, empty for None.

        Our lock shows that the master is dead. Raises MasterExistsError if processes remain.
        """
        if dead is None:
            return ""
        left = kill_stale(dead.boot, self._instance.lock_path, _SWEEP_S)
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
        self, state: str, pool: Pool, unrecorded: list[Attempt], obeyed: str, now: float
    ) -> BeatAnswer | None:
        """Sends a heartbeat, which renews all leases; returns None if Redis is not there."""
        workers = [worker for worker in pool.workers if worker.is_present]
        gauge = self._gauge
        held = pool.workers.held() + unrecorded
        ending = {attempt.worker: attempt for attempt in unrecorded}
        busy = pool.workers.busy(unrecorded)
        beat = Beat(
            master=self._instance.name,
            boot=self._instance.boot,
            lease_us=LEASE_US,
            row_ttl_s=ROW_TTL_S,
            obeyed=obeyed,
            running=tuple(
                (attempt.claim.id, attempt.claim.token, attempt.worker if attempt.is_moved else "")
                for attempt in held
            ),
            row={
                "boot": self._instance.boot,
                **self._identity(),
                **master_row(state, pool, busy),
                **gauge.read(os.getpid(), now),
            },
            workers={
                one.number: worker_row(one, ending.get(one.number), gauge, now, self._host)
                for one in workers
            },
        )
        for one in workers:
            one.row_has_pid = one.child is not None
        gauge.forget_all_but({os.getpid(), *(one.child.pid for one in workers if one.child)})
        return self._link.try_call(lambda: self._link.store.beat(beat), now)

    def announce(self, state: str, busy: int, pool: Pool) -> None:
        """Updates title, STATUS and READY, whenever they have changed."""
        config = self._config
        wanted = sum(worker.wanted for worker in pool.workers)
        text = f"stopping, {busy} running" if state == "stopping" else f"{busy}/{wanted} busy"
        why_none = pool.zygotes.why_none
        if state == "starting":
            text = f"{state}: {why_none}" if why_none else state
        elif state in ("paused", "suspended"):
            text = f"{state} {text}"
        reload = pool.zygotes.reloads.latest
        is_reloading = reload is not None and reload.is_under_way
        if is_reloading:
            text += ", reloading"
        elif reload is not None and reload.is_refused and state not in ("starting", "stopping"):
            text += ", reload refused"
        if not self._link.is_up:
            text += ", redis gone"
        if is_reloading and not self._is_reloading:
            self._notifier.reloading()
        elif self._is_reloading and not is_reloading:
            self._notifier.ready()
        self._is_reloading = is_reloading
        if not self._is_announced and pool.is_ready:
            self._is_announced = True
            self._notifier.ready()
            self._log.info("ready", queues=config.queues, workers=config.workers)
        title = f"rqd: master [{','.join(config.queues)}] {text}"
        if title != self._title:
            self._title = title
            setproctitle.setproctitle(title)
            self._notifier.status(text)

    def pulse(self, state: str) -> float:
        """Shows that the loop goes round; returns how soon to do it again, in seconds."""
        try:
            self._instance.note_state(state)
        except OSError as error:
            if not self._has_warned:
                self._has_warned = True
                self._log.warning("state not shown on this host", error=error)
        self._notifier.alive()
        if state == "stopping":
            self._notifier.extend_stop(2 * PULSE_S)
        # systemd advises half of its limit; a third leaves room for a late pulse.
        return self._notifier.watchdog_s / 3

    def stopping(self) -> None:
        """Reports to systemd that the stop has begun."""
        self._notifier.stopping()

    def leave(self, highest_worker: int, status: int, now: float) -> None:
        """Removes the rows; where Redis is gone they expire by themselves."""
        store, instance = self._link.store, self._instance
        if self._link.is_up:  # otherwise another wait for its answer, at the end of an urgent stop
            is_removed = self._link.try_call(
                lambda: store.bye(instance.name, instance.boot, highest_worker), now
            )
            if is_removed is not None:
                instance.leave()
        self._link.close()
        self._log.info("master stopped", master=instance.name, status=status)

    def _identity(self) -> dict[str, str | int]:
        config = self._config
        return {
            "host": self._host,
            "pid": os.getpid(),
            "place": self._instance.lock_id,
            "version": __version__,
            "queues": ",".join(config.queues),
            # Clients read here how to sign commands; a client without the key gives the reason.
            "key_ids": ",".join(config.keyring.key_ids) if config.keyring else "",
            "signed_only": "1" if config.require_signed else "",
        }


# Of a traceback: the error is at its end.
_ERROR_CHARS = 8 * 1024
Row = dict[str, str | int | float]


# Used time has a resolution of hundredths of a second: a shorter interval gives no usable rate.
_LEAST_S = 1.0


class Gauge:
    """CPU use of processes between two readings; rss and cpu by psutil."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[float, float]] = {}
        self._told: dict[int, float] = {}

    def read(self, pid: int, now: float, since: float | None = None) -> Row:
        """Returns `rss_bytes` and `cpu_percent` of a process, {} if it is gone or can't be read.

        CPU use counts since the last reading; at the first, since `since`, when the process got its
        job. Less than a second after the last reading, returns the last figure again, or 0.
        """
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                times = process.cpu_times()
                rss = process.memory_info().rss
        except psutil.Error:
            self._forget(pid)
            return {}
        except OSError:
            return {}  # such as no free descriptor: psutil passes that on as it is
        used_s = times.user + times.system
        first = (now, used_s) if since is None else (since, 0.0)
        before, before_s = self._seen.setdefault(pid, first)
        if now - before >= _LEAST_S:
            self._seen[pid] = (now, used_s)
            self._told[pid] = 100 * (used_s - before_s) / (now - before)
        return {"rss_bytes": rss, "cpu_percent": f"{self._told.get(pid, 0.0):.1f}"}

    def forget_all_but(self, pids: set[int]) -> None:
        """Forgets the readings of other processes."""
        for pid in self._seen.keys() - pids:
            self._forget(pid)

    def _forget(self, pid: int) -> None:
        self._seen.pop(pid, None)
        self._told.pop(pid, None)


def worker_row(
    worker: Worker, unrecorded: Attempt | None, gauge: Gauge, now: float, host: str
) -> Row:
    """Returns a worker's row: state, pid, host, rss and cpu, its last error; the memory of its job.

    A worker is busy until the end of its job is recorded: `unrecorded` is an attempt that has ended
    and is not recorded yet.
    """
    child, attempt = worker.child, worker.attempt or unrecorded
    row: Row = {
        "host": host,
        "state": "busy" if attempt else ("idle" if child else "starting"),
        "pid": child.pid if child else 0,
        "job": attempt.claim.id if attempt else "",
        "func_name": attempt.claim.func_name if attempt else "",
        "queue": attempt.claim.queue if attempt else "",
        "last_error": worker.last_error,
        "worked_s": f"{worker.worked_s:.3f}",
    }
    if attempt and attempt.started_at is not None:
        # A row that names another job when it is read has no measurement of that job.
        memory = "" if attempt.memory_bytes is None else attempt.memory_bytes
        row |= {"measured": attempt.claim.id, "memory_bytes": memory}
    since = attempt.started_at if attempt else None
    return row | (gauge.read(child.pid, now, since) if child else {})


def master_row(state: str, pool: Pool, busy: int) -> Row:
    """Returns a master's row: state, numbers of workers, its zygote, and its last reload.

    The row also has the reason why no zygote serves, if none does.
    """
    zygotes = pool.zygotes
    serving, reload = zygotes.table.serving, zygotes.reloads.latest
    return {
        "state": state,
        "busy": busy,
        "wanted": sum(worker.wanted for worker in pool.workers),
        "workers": max(pool.workers.by_number),
        "zygote_pid": serving.pid if serving else 0,
        "why_no_zygote": zygotes.why_none,
        "preload_learnt": ",".join(zygotes.learning.learnt),
        "reload": reload.state if reload else "",
        "reload_requests": " ".join(filter(None, reload.requests)) if reload else "",
        "reload_error": reload.error[-_ERROR_CHARS:] if reload else "",
    }
