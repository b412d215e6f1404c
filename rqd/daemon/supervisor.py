"""The master: watches the queues, has children run the jobs, settles what became of them.

One thread. It never unpickles, imports no user code, and does not exit because Redis did. The loop
in `Master._work` is the story; who does what stands beside this file: children.py for processes,
redis_link.py for Redis, settling.py for outcomes, signals.py for what signals ask.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Sequence

import setproctitle

import rqd
from rqd.daemon.children import Children, Ended, broken_frame
from rqd.daemon.config import Config
from rqd.daemon.duties import Duties, Duty
from rqd.daemon.embedded import EmbeddedServer
from rqd.daemon.log import Log, stderr_log
from rqd.daemon.loop import Loop
from rqd.daemon.notify import Notifier
from rqd.daemon.redis_link import RedisLink
from rqd.daemon.rows import Gauge, master_row, worker_row
from rqd.daemon.settling import log_ending, settlement
from rqd.daemon.signals import HANDLED, Orders, Shutdown, obey
from rqd.daemon.workers import Run
from rqd.model.errors import MasterExistsError, RqdError
from rqd.model.outcome import Released, Report, TimedOut, cause
from rqd.model.records import Claim
from rqd.store.connection import RedisGone, explained, hide_password
from rqd.store.embedded import embedded_dir, is_embedded
from rqd.store.store import Beat, BeatAnswer, Turn, TurnAnswer

LEASE_US = 15_000_000
ROW_TTL_S = 15
_EMBEDDED_READY_S = 30.0
# After an immediate stop the master is gone within two seconds, Redis or not.
_LAST_SETTLES_S = 1.2
_EX_OK, _EX_TEMPFAIL, _EX_CONFIG = 0, 75, 78


def run(config: Config) -> int:
    """Runs a master until it is told to stop; returns the process's exit status.

    Raises ServerUnavailableError and MasterExistsError before it has begun.
    """
    return Master(config, stderr_log()).run()


class Master:
    """One supervisor process."""

    def __init__(self, config: Config, log: Log) -> None:
        self._config = config
        self._log = log
        self._boot = os.urandom(8).hex()
        self._host = socket.gethostname()
        self._orders = Orders()
        self._grace_over_at: float | None = None
        self._give_up_at: float | None = None
        self._ended: list[Ended] = []
        self._pending: tuple[Turn, list[Ended]] | None = None
        self._look = True  # something says that there may be work
        self._next_promotion_at = float("inf")
        self._obeyed = ""
        self._is_announced = False
        self._exit_status = _EX_OK
        self._gauge = Gauge()
        self._notifier = Notifier()
        self._title = ""

    def run(self) -> int:
        """From the first connection to the last farewell."""
        config = self._config
        setproctitle.setproctitle(f"rqd: master [{','.join(config.queues)}] starting")
        self._loop = Loop(HANDLED)
        self._embedded = self._start_embedded()
        try:
            self._link = RedisLink(config.url, config.namespace, self._log)
            self._register()
            now = time.monotonic()
            self._duties = Duties(now)
            self._children = Children(config, _zygote_path(config), self._loop, self._log)
            try:
                self._children.start(now)
                self._work()
            finally:
                self._children.close(but=self._own_pids())
            self._take_leave()
        finally:
            if self._embedded is not None:
                self._embedded.stop()
        return self._exit_status

    def _work(self) -> None:
        while not self._is_done():
            ready = self._loop.wait(self._next_due() - time.monotonic())
            now = time.monotonic()
            self._hear_waiter(ready, now)
            self._ended += self._children.collect(ready, now)
            self._obey_signals(now)
            self._perform_due_duties(now)
            self._settle_and_claim(now)
            self._arm_waiter(now)
            self._announce()

    # -- what woke us ------------------------------------------------------------------------

    def _next_due(self) -> float:
        children, link = self._children, self._link
        due = [children.next_due(), self._duties.next_due(Duty.BEAT)]
        if self._orders.shutdown is Shutdown.NONE:
            due += [self._duties.next_due(Duty.POLL), self._next_promotion_at]
        if children.workers.runs():
            due.append(self._duties.next_due(Duty.SAMPLE))
        if not link.is_up:
            due.append(link.retry_at)
        elif self._has_outcomes():
            due.append(0.0)
        for at in (self._grace_over_at, self._give_up_at):
            if at is not None:
                due.append(at)
        earliest = min(due)
        # While Redis is gone nothing that needs it is due before its next try.
        return earliest if link.is_up else max(earliest, min(link.retry_at, children.next_due()))

    def _hear_waiter(self, ready: set[int], now: float) -> None:
        waiter = self._link.waiter
        if waiter.fd is None or waiter.fd not in ready:
            if waiter.is_overdue(now):
                self._drop_waiter()
            return
        try:
            marker = waiter.read()
        except RedisGone:
            self._drop_waiter()
            return
        if marker is None:
            return
        queue, member = marker
        if queue and not self._children.workers.free_numbers():
            # It woke a master that has nobody free: another one may have.
            keys = self._link.store.keys
            wake = {"look": 0.0}
            self._link.attempt(
                lambda: self._link.store.redis.zadd(keys.wake_queue(queue), wake), now
            )
        self._look = True
        if member == "command":
            self._duties.hasten(Duty.BEAT, now)

    def _drop_waiter(self) -> None:
        if self._link.waiter.fd is not None:
            self._loop.forget(self._link.waiter.fd)
        self._link.waiter.close()
        self._look = True

    def _obey_signals(self, now: float) -> None:
        for signum in self._loop.signals():
            before = self._orders.shutdown
            self._orders = obey(self._orders, signum, now)
            if self._orders.workers_delta:
                count = self._children.resize(self._orders.workers_delta)
                self._log.info("workers resized", workers=count)
                self._look = True
            if self._orders.shutdown > before:
                self._shut_down(self._orders.shutdown, now)

    def _shut_down(self, level: Shutdown, now: float) -> None:
        children = self._children
        self._log.info("stopping", how=level.name.lower(), running=len(children.workers.runs()))
        self._notifier.stopping()
        children.retire_all()
        self._ended += children.release_unsent("the daemon stops")
        if level is Shutdown.IMMEDIATE:
            self._kill_all(Released("the daemon stopped at once"), now)
            self._give_up_at = now + _LAST_SETTLES_S
        elif self._grace_over_at is None:
            self._grace_over_at = now + self._config.grace_s

    def _kill_all(self, verdict: Released, now: float) -> None:
        for job in self._children.workers.runs():
            self._children.kill(job, verdict, now)

    # -- what is due -------------------------------------------------------------------------

    def _perform_due_duties(self, now: float) -> None:
        duties = self._duties
        self._children.perform(now)
        if self._grace_over_at is not None and now >= self._grace_over_at:
            self._grace_over_at = None
            self._kill_all(Released(f"the daemon stopped, grace {self._config.grace_s:g} s"), now)
            if self._give_up_at is None:
                self._give_up_at = now + _LAST_SETTLES_S
        if duties.take(Duty.POLL, now) or now >= self._next_promotion_at:
            self._look = True
        if duties.take(Duty.SAMPLE, now):
            self._children.sample_memory()
        if not self._link.is_up and self._embedded and duties.take(Duty.EMBEDDED, now):
            self._tend_embedded(self._embedded)
        if duties.take(Duty.BEAT, now):
            self._beat(now)
        self._children.reap_strangers(but=self._own_pids())

    def _beat(self, now: float) -> None:
        children, gauge = self._children, self._gauge
        workers = list(children.workers)
        rows = {w.number: worker_row(w, gauge, now, self._host) for w in workers}
        highest = max(children.workers.by_number)
        row = master_row(self._state(), workers, children.zygote_pid, gauge, now, highest)
        gauge.forget_all_but({os.getpid(), *(w.child.pid for w in workers if w.child)})
        running = tuple((job.claim.id, job.claim.token) for job in children.workers.runs())
        beat = Beat(
            self._config.name, LEASE_US, ROW_TTL_S, self._obeyed, running, row, rows
        )
        answer = self._link.attempt(lambda: self._link.store.beat(beat), now)
        if answer is None:
            self._duties.hasten(Duty.BEAT, self._link.retry_at)
            return
        self._apply_beat(answer, now)

    def _apply_beat(self, answer: BeatAnswer, now: float) -> None:
        for job in self._children.workers.runs():
            if job.claim.id in answer.lost:
                self._log.error("lease lost, killing the job", id=job.claim.id)
                self._children.kill(job, Released("its lease was lost"), now)
        for job_id, losses, lost in answer.reaped:
            self._log.warning("job of a lost master put back", id=job_id, cause=lost, losses=losses)
        for command in answer.commands:
            if command["id"] == self._obeyed:
                continue
            self._obeyed = command["id"]
            if command.get("do") == "stop":
                level = Shutdown.IMMEDIATE if command.get("now") else Shutdown.GRACEFUL
                if level > self._orders.shutdown:
                    self._orders = Orders(level, self._orders.interrupted_at)
                    self._shut_down(level, now)
            else:
                self._log.warning("unknown command ignored", command=command.get("do"))
        if answer.commands:
            self._duties.hasten(Duty.BEAT, now)  # the next beat says that they were obeyed

    def _tend_embedded(self, server: EmbeddedServer) -> None:
        server.poll()
        try:
            server.ensure()
        except RqdError as error:
            self._log.error("embedded server", error=error)

    # -- settle and claim --------------------------------------------------------------------

    def _has_outcomes(self) -> bool:
        return bool(self._ended or self._pending)

    def _settle_and_claim(self, now: float) -> None:
        link = self._link
        if now < link.retry_at:
            return
        turn, ended = self._pending or self._compose_turn()
        if turn is None:
            return
        self._pending = (turn, ended)
        answer = link.attempt(lambda: link.store.turn(turn), now)
        if answer is None:
            return  # perhaps it was carried out: the same turn goes again, with the same request id
        self._pending = None
        self._apply_turn(turn, ended, answer, now)

    def _compose_turn(self) -> tuple[Turn, list[Ended]] | tuple[None, list[Ended]]:
        ended = self._ended
        free: Sequence[int] = ()
        if self._orders.shutdown is Shutdown.NONE and self._children.is_ready:
            free = self._children.workers.free_numbers()
        if not ended and not (free and self._look):
            return None, ended
        self._ended = []
        waiter = self._link.waiter
        turn = Turn(
            request=self._link.store.request_id(),
            master=self._config.name,
            lease_us=LEASE_US,
            settlements=tuple(settlement(one.run, one.report) for one in ended),
            free_workers=tuple(free),
            queues=self._config.queues if free else (),
            nudge=waiter.is_armed and not waiter.hears_queues,
        )
        return turn, ended

    def _apply_turn(
        self, turn: Turn, ended: list[Ended], answer: TurnAnswer, now: float
    ) -> None:
        for one, verdict in zip(ended, answer.verdicts, strict=True):
            log_ending(self._log, one.run, one.report, verdict)
            if verdict == "settled" and one.report.pid:
                worker = self._children.workers.by_number[one.run.worker]
                worker.last_error = cause(one.report.outcome)
        if turn.free_workers:
            # Fewer than asked for: nothing is left, until a marker or the clock says otherwise.
            self._look = len(answer.claims) == len(turn.free_workers)
            due = answer.next_due_us
            wait_s = (due - answer.now_us) / 1e6 if due is not None else float("inf")
            self._next_promotion_at = now + max(0.0, wait_s)
            if self._config.burst and not answer.claims:
                self._end_burst(now)
        for claim in answer.claims:
            self._start(claim, now)

    def _start(self, claim: Claim, now: float) -> None:
        if claim.payload is None:
            held, claim = claim, self._with_payload(claim, now)
            if claim.payload is None:
                reason = "its payload is gone from Redis"
                outcome = Released(reason) if not self._link.is_up else broken_frame(reason)
                self._ended.append(Ended(Run(held, held.worker), Report(outcome)))
                return
        if self._orders.shutdown is not Shutdown.NONE:
            self._ended.append(Ended(Run(claim, claim.worker), Report(Released("the daemon stops"))))
            return
        self._children.assign(claim, now)

    def _with_payload(self, claim: Claim, now: float) -> Claim:
        from dataclasses import replace

        store = self._link.store
        return replace(claim, payload=self._link.attempt(lambda: store.fetch_payload(claim.id), now))

    def _arm_waiter(self, now: float) -> None:
        waiter = self._link.waiter
        if waiter.is_armed or not self._link.is_up:
            return
        before = waiter.fd
        is_open = self._orders.shutdown is Shutdown.NONE
        free = is_open and self._children.is_ready and self._children.workers.free_numbers()
        try:
            waiter.arm(self._config.name, self._config.queues if free else (), now)
        except RedisGone:
            self._drop_waiter()
            return
        if waiter.fd is not None and waiter.fd != before:
            self._loop.watch(waiter.fd)

    # -- beginning and end -------------------------------------------------------------------

    def _start_embedded(self) -> EmbeddedServer | None:
        if not is_embedded(self._config.url):
            return None
        server = EmbeddedServer(embedded_dir(self._config.url))
        try:
            server.ensure()
            server.wait_ready(_EMBEDDED_READY_S)
        except RqdError:
            server.stop()
            raise
        return server

    def _register(self) -> None:
        config, store = self._config, self._link.store
        row: dict[str, str | int] = {
            "host": self._host,
            "pid": os.getpid(),
            "version": rqd.__version__,
            "queues": ",".join(config.queues),
            "workers": config.workers,
            "state": "starting",
        }
        with explained(config.url):
            store.redis.ping()
            taken = store.hello(config.name, self._boot, ROW_TTL_S, row)
        if taken:
            host, pid = taken
            raise MasterExistsError(
                f"a master named {config.name!r} is alive (host {host}, pid {pid}):"
                " stop it, or choose another --name"
            )
        shown = hide_password(config.url)
        self._log.info("master started", name=config.name, pid=os.getpid(), url=shown)

    def _announce(self) -> None:
        """Title, STATUS and READY, whenever what they say has changed."""
        if not self._is_announced and self._children.is_ready:
            self._is_announced = True
            self._notifier.ready()
            queues = ",".join(self._config.queues)
            self._log.info("ready", queues=queues, workers=self._config.workers)
        workers = self._children.workers
        wanted = sum(worker.wanted for worker in workers)
        text = f"{len(workers.runs())}/{wanted} busy"
        if self._orders.shutdown is not Shutdown.NONE:
            text = f"stopping, {len(workers.runs())} running"
        title = f"rqd: master [{','.join(self._config.queues)}] {text}"
        if title != self._title:
            self._title = title
            setproctitle.setproctitle(title)
            self._notifier.status(text)

    def _state(self) -> str:
        if self._orders.shutdown is not Shutdown.NONE:
            return "stopping"
        if not self._children.is_ready:
            return "starting"
        return "busy" if self._children.workers.runs() else "idle"

    def _end_burst(self, now: float) -> None:
        if not self._children.workers.runs() and self._orders.shutdown is Shutdown.NONE:
            self._orders = Orders(Shutdown.GRACEFUL)
            self._shut_down(Shutdown.GRACEFUL, now)

    def _is_done(self) -> bool:
        if self._children.boot_error and not self._is_announced:
            self._log.error("the application can't be imported")
            self._log.output(self._children.boot_error.encode())
            self._exit_status = _EX_CONFIG
            return True
        if self._orders.shutdown is Shutdown.NONE:
            return False
        busy = bool(self._children.workers.runs()) or self._has_outcomes()
        if busy and self._give_up_at is not None and time.monotonic() >= self._give_up_at:
            left = len(self._ended) + len(self._pending[1] if self._pending else ())
            self._log.error("outcomes not recorded, their jobs run again", outcomes=left)
            self._exit_status = _EX_TEMPFAIL
            return True
        return not busy

    def _take_leave(self) -> None:
        now = time.monotonic()
        highest = max(self._children.workers.by_number)
        store = self._link.store
        self._link.attempt(lambda: store.bye(self._config.name, self._boot, highest) or True, now)
        self._link.waiter.close()
        self._log.info("master stopped", name=self._config.name, status=self._exit_status)

    def _own_pids(self) -> set[int]:
        server = self._embedded.pid if self._embedded else None
        return {server} if server else set()


def _zygote_path(config: Config) -> list[str]:
    """The zygote's import path: the application's folders first, then the master's own."""
    first = [os.path.abspath(folder) for folder in config.path]
    return first + [entry for entry in sys.path if entry and entry not in first]


__all__ = ["Master", "TimedOut", "run"]
