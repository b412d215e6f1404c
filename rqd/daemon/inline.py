"""Runs jobs in the caller's process: `Queue(is_async=False)`, `SimpleWorker`, `rqd.testing`.

The caller's thread runs the code of a child (child.py) at one end of a socket pair. A second thread
does the master's work at the other end: hands the job over, reads the answer, renews the lease.
Nothing is forked, so a job that crashes ends the caller.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from select import POLLIN, POLLOUT, poll

from rqd import __version__
from rqd.daemon.admission import PAYLOAD_GONE, Admission
from rqd.daemon.claims import Precedence
from rqd.daemon.config import Config
from rqd.daemon.control.heartbeat import ROW_TTL_S
from rqd.daemon.dispatcher import LEASE_US
from rqd.daemon.job_updates import update_of
from rqd.daemon.settlement import settlement
from rqd.daemon.workers.attempt import Attempt
from rqd.daemon.workers.link import queue_record
from rqd.daemon.workers.reader import Ended, read
from rqd.daemon.workers.single_use import SingleUse
from rqd.daemon.workers.updates import PendingUpdates
from rqd.daemon.workers.worker import Worker
from rqd.daemon.zygote import child
from rqd.daemon.zygote.timer import raise_timeout, timer
from rqd.daemon.zygotes.events import Forked
from rqd.model.current import CurrentJob, of_context, of_process
from rqd.model.middleware import Middleware
from rqd.model.outcome import Raised, Report
from rqd.model.records import Claim
from rqd.model.trust import Trust
from rqd.store.connection import RedisError, RedisGone
from rqd.store.messages import Beat, Turn
from rqd.store.store import Store

_BEAT_S = 5.0
_NUMBER = 1
_INTERRUPT = "builtins.KeyboardInterrupt"
# The boot id of all masters of synchronous queues in this process. In a thread they share a name,
# as a job may enqueue another: neither must mistake the other for a master that took its name.
_BOOT = secrets.token_hex(8)


class InlineMaster:
    """A master with a name of its own and one worker: the calling thread."""

    def __init__(self, store: Store, config: Config, boot: str | None = None) -> None:
        """`boot` is shared by all inline masters of the same name; None if the name is unique."""
        self._store = store
        self._config = config
        self._admission = Admission(config)
        self._precedence = Precedence(config)
        self._host = socket.gethostname()
        self._boot = boot or secrets.token_hex(8)
        self.name = config.name or f"{self._host}-{os.getpid()}-{self._boot[:4]}"
        self._is_known = False

    @classmethod
    def of_thread(cls, store: Store, config: Config) -> InlineMaster:
        """Returns a master named after this thread.

        With a name for each job, each would leave the rows of another master for a while.
        """
        name = f"{socket.gethostname()}-{os.getpid()}-{_BOOT[:4]}-{threading.get_native_id()}"
        return cls(store, replace(config, name=name), _BOOT)

    def register(self) -> bool:
        """Writes the master's row; False if another master has the name."""
        row = self._row("idle")
        self._is_known = self._store.hello(self.name, self._boot, ROW_TTL_S, row).owner is None
        return self._is_known

    def leave(self) -> None:
        """Removes the rows of master and worker."""
        if self._is_known:
            self._store.bye(self.name, self._boot, _NUMBER)

    def run_next(self, queues: Sequence[str]) -> bool:
        """Runs the next job of these queues; False if there is no job."""
        pids = {_NUMBER: os.getpid()}
        request = self._store.request_id()
        order = self._precedence.order()
        turn = Turn(
            request, self.name, LEASE_US, (), (_NUMBER,), tuple(queues), order=order, pids=pids
        )
        claims = self._store.turn(turn).claims
        self._precedence.note(claims)
        for claim in claims:
            self._run(claim)
        return bool(claims)

    def run_job(self, job_id: str) -> bool:
        """Runs this job if it is queued; False if it is not."""
        claim = self._store.take(job_id, self.name, LEASE_US, self._store.request_id())
        if claim is not None:
            self._run(claim)
        return claim is not None

    def _run(self, claim: Claim) -> None:
        attempt = Attempt(claim, _NUMBER)
        claim, report = self._admit(claim)
        if report is None:
            attempt, report = self._perform(claim)
        settled = (settlement(attempt, report, self._host),)
        self._store.turn(Turn(self._store.request_id(), self.name, LEASE_US, settled))
        if isinstance(report.outcome, Raised) and report.outcome.exc_type == _INTERRUPT:
            raise KeyboardInterrupt  # Ctrl-C is the caller's, not the job's alone

    def _admit(self, claim: Claim) -> tuple[Claim, Report | None]:
        """Returns the claim with its payload, and a report if the job must not run."""
        if claim.payload is None:
            most_bytes = self._config.payload_limit_bytes + 1
            payload = self._store.fetch_payload(claim.id, most_bytes)
            if not payload:
                return claim, Report(PAYLOAD_GONE)
            claim = replace(claim, payload=payload)
        refusal = self._admission.judge(claim)
        return claim, Report(refusal) if refusal is not None else None

    def _perform(self, claim: Claim) -> tuple[Attempt, Report]:
        near, far = socket.socketpair()
        near.setblocking(False)
        if threading.current_thread() is not threading.main_thread():
            claim = replace(claim, timeout_s=-1)  # its signal would come to another thread
        attendant = _Attendant(claim, near, self)
        trust = Trust(self._config.namespace.encode(), self._config.keyring)
        # `with` closes our end before it joins the attendant, which reads to that end.
        with attendant, far, _as_child(self._config) as own:
            child.serve_inline(far, trust, own)
        assert attendant.ended is not None, "a job ended without an answer"
        return attendant.ended.attempt, attendant.ended.report

    def beat(self, claim: Claim) -> None:
        """Renews the job's lease and the rows."""
        running = ((claim.id, claim.token, ""),)
        # All fields that the claim wrote: the row may have expired, in an outage say.
        row: dict[str, str | int | float] = {
            "state": "busy",
            "job": claim.id,
            "func_name": claim.func_name,
            "queue": claim.queue,
            "pid": os.getpid(),
        }
        rows = {_NUMBER: row}
        beat = Beat(
            self.name, self._boot, LEASE_US, ROW_TTL_S, "", running, self._row("busy"), rows
        )
        with suppress(*RedisGone, RedisError):  # the next one may come through
            self._store.beat(beat)
            self._is_known = True

    def write(self, attempt: Attempt, updates: PendingUpdates) -> None:
        """Writes the job's updates to Redis; the next call writes them if this one can't."""
        with suppress(*RedisGone, RedisError):
            self._store.write_updates([update_of(attempt)])
            updates.written()

    def job_fields(self, attempt: Attempt) -> dict[bytes, bytes]:
        """Reads the job's record from Redis; empty if that fails."""
        with suppress(*RedisGone, RedisError):
            return self._store.job_fields(attempt.claim.id)
        return {}

    def _row(self, state: str) -> dict[str, str | int]:
        return {
            "boot": self._boot,
            "host": self._host,
            "pid": os.getpid(),
            "version": __version__,
            "queues": ",".join(self._config.queues),
            "state": state,
            "busy": int(state == "busy"),
            "wanted": _NUMBER,
            "workers": _NUMBER,
        }


class _Attendant:
    """The master's side of a job, in a thread: hands it over, reads the answer, renews the lease.

    It uses a master's own worker and link.
    """

    def __init__(self, claim: Claim, channel: socket.socket, master: InlineMaster) -> None:
        self._claim = claim
        self._channel = channel
        self._master = master
        self._thread = threading.Thread(target=self._attend, name=f"rqd {claim.id}", daemon=True)
        self.ended: Ended | None = None

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._thread.join()

    def _attend(self) -> None:
        # In place of a pidfd, as there is no process to kill: a copy, which detach closes.
        stand_in = os.dup(self._channel.fileno())
        link = SingleUse(Forked(_NUMBER, os.getpid(), self._channel, stand_in), parent=None)
        attempt = Attempt(self._claim, _NUMBER, claimed_at=time.monotonic())
        worker = Worker(_NUMBER, child=link, attempt=attempt)
        worker.start_next(time.monotonic())
        has_more = link.push()
        watch = poll()
        beat_at = time.monotonic() + _BEAT_S
        while self.ended is None and not link.is_deaf:
            watch.register(self._channel, POLLIN | (POLLOUT if has_more else 0))
            watch.poll(max(0.0, beat_at - time.monotonic()) * 1000)
            has_more = has_more and link.push()
            self.ended = next(iter(read(worker, time.monotonic())), None)
            if attempt.updates is not None:
                has_more = self._serve_updates(link, attempt, attempt.updates) or has_more
            if self.ended is None and time.monotonic() >= beat_at:
                self._master.beat(self._claim)
                beat_at = time.monotonic() + _BEAT_S
        worker.detach()

    def _serve_updates(self, link: SingleUse, attempt: Attempt, updates: PendingUpdates) -> bool:
        """Sends the job its record if it asks for it; writes its updates to Redis.

        True if bytes are left for the job.
        """
        has_more = False
        if updates.asks_record:
            queue_record(link, attempt, self._master.job_fields(attempt))
            has_more = link.push()
        if updates:
            self._master.write(attempt, updates)  # before the outcome, even if that has come
        return has_more


@contextmanager
def _as_child(config: Config) -> Iterator[CurrentJob]:
    """Sets up this thread as a zygote does for its children, and restores it afterwards.

    Yields this thread's own current job: another thread, such as a job starts, has none.
    """
    own = CurrentJob()
    own.allowlist, own.keyring = of_process.allowlist, config.keyring
    if config.middleware or config.exception_handlers:
        own.middleware = Middleware(config.middleware, config.exception_handlers)
    before = of_context.set(own)
    is_main = threading.current_thread() is threading.main_thread()
    try:
        with _alarm_is_ours() if is_main else nullcontext():
            yield own
    finally:
        of_context.reset(before)


@contextmanager
def _alarm_is_ours() -> Iterator[None]:
    """Gives SIGALRM to the job's timeout, and restores an earlier alarm, of a test say."""
    handler = signal.signal(signal.SIGALRM, raise_timeout)
    left_s, every_s = signal.setitimer(signal.ITIMER_REAL, 0)
    since, limit_s, ask_more = time.monotonic(), timer.limit_s, timer.ask_more
    try:
        yield
    finally:
        timer.limit_s, timer.ask_more = limit_s, ask_more  # of an outer job, if any
        signal.signal(signal.SIGALRM, handler)
        if left_s:
            left_s = max(0.001, left_s - (time.monotonic() - since))
            signal.setitimer(signal.ITIMER_REAL, left_s, every_s)
