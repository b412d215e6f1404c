"""Claims jobs for free workers and settles ended attempts, both in one round trip: a turn.

A turn whose answer was lost is sent again unchanged: its request id makes the replay harmless.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from itertools import compress
from operator import not_

from rqd.daemon.admission import Starter
from rqd.daemon.claims import Claims
from rqd.daemon.config import Config
from rqd.daemon.history import History
from rqd.daemon.instance import Instance
from rqd.daemon.job_updates import JobUpdates
from rqd.daemon.log.log import Log, about
from rqd.daemon.redis_client import REFUSED_PAUSE_S, RedisLink, Refused
from rqd.daemon.settlement import log_ending, settlement
from rqd.daemon.timers import Needs, Timers
from rqd.daemon.workers.attempt import Attempt
from rqd.daemon.workers.pool import Pool
from rqd.daemon.workers.reader import Ended
from rqd.model.outcome import Outcome, Released, Report
from rqd.model.records import Claim
from rqd.store.connection import RedisError, RedisGone, answers_are_read
from rqd.store.messages import Settlement, Turn, TurnAnswer
from rqd.store.wire import is_staged, within_a_turn

LEASE_US = 15_000_000


class Dispatcher:
    """Sends turns: records ended attempts, and starts the jobs that it has claimed."""

    def __init__(
        self,
        config: Config,
        instance: Instance,
        link: RedisLink,
        pool: Pool,
        timers: Timers,
        log: Log,
    ) -> None:
        self._config = config
        self.claims = Claims(config, pool)
        self._starter = Starter(config, link, pool, log)
        self.job_updates = JobUpdates(link, pool, timers)
        self.history = History(link, instance.name, timers)
        self._timer = timers.timer(self.claims.request_promoted, Needs.REDIS)
        self._instance = instance
        self._link = link
        self._pool = pool
        self._log = log
        self._host = socket.gethostname()
        self._ended: list[Ended] = []
        self._recorded: list[tuple[Ended, Settlement, str]] = []  # each with its verdict
        self._pending: tuple[Turn, list[Ended]] | None = None
        self._sent = ""  # the request of the latest turn that may have been carried out
        self._deferred: list[Ended] = []  # large results, for which Redis had no room
        self._deferred_until = 0.0
        self._refused_until = 0.0  # after a refused turn, the next goes then

    def configure(self, config: Config) -> None:
        """Uses these settings from now on."""
        if config.queues != self._config.queues:
            # The next wait covers the current queues. This one may have consumed a marker, but
            # new settings request a claim.
            self._link.wake_listener.close()
        self._config = config
        self.claims.configure(config)
        self._starter.configure(config)

    @property
    def unrecorded(self) -> list[Attempt]:
        """The attempts that have ended, whose leases must last until Redis has their outcomes."""
        pending = self._pending[1] if self._pending else []
        return [one.attempt for one in (*pending, *self._ended, *self._deferred)]

    @property
    def has_unfinished(self) -> bool:
        """True while an outcome is to be recorded, or the answer to a turn is unknown."""
        is_answered = self._pending is None and not self._pool.ended_meanwhile
        return bool(self._ended or self._deferred) or not is_answered

    @property
    def expects_jobs(self) -> bool:
        """True while Redis may have jobs for free workers, or a turn is pending."""
        return self.claims.expects_jobs or self._pending is not None

    def add_ended(self, ended: list[Ended]) -> None:
        """Adds ended attempts, which the next turn records."""
        self._ended += ended
        if back := [one.attempt.claim for one in ended if _has_not_begun(one)]:
            self.claims.give_back(back)

    def on_wake(self, ready: set[int], now: float) -> bool:
        """Reads the marker that came, if any; True if it announces a command."""
        marker = self._link.wake_listener.read(ready, now)
        if marker is None:
            return False
        if marker.queue and not self.claims.can_claim(now):
            # It woke a master without a free worker, or a paused one.
            self._link.wake_listener.pass_on(marker.queue, now)
        self.claims.request()
        return marker.text == "command"

    def on_turn_reply(self, ready: set[int], now: float) -> bool:
        """Reads the answer to the turn under way and starts its jobs; True if it came."""
        turns = self._link.turns
        try:
            if turns.has_answer(ready):
                with answers_are_read():
                    answer = TurnAnswer.parse(turns.answer())
            elif now >= turns.overdue_at:
                raise TimeoutError("no answer to a turn")
            else:
                return False
        except (*RedisGone, RedisError) as error:
            self._on_failure(error, now)
            return False
        assert self._pending is not None
        self._link.succeeded(now)
        (turn, ended), self._pending = self._pending, None
        self._apply(turn, ended, answer, now)
        return True

    def log_settled(self, now: float) -> None:
        """Logs the recorded attempts; called after the next turn was sent, while Redis works."""
        recorded, self._recorded = self._recorded, []
        for one, settled, verdict in recorded:
            log_ending(self._log, one.attempt, one.report, verdict)
            self.history.note(one, settled.decision, verdict, now)
            if load_s := one.report.usage.load_s:
                self._starter.note_import(one.attempt.claim, load_s, now)
            self._pool.note_ending(one)

    def send_turn(self, now: float) -> None:
        """Sends a turn, if there are outcomes to record or jobs to claim."""
        link = self._link
        if now < max(link.retry_at, self._refused_until) or link.turns.is_under_way:
            return
        if self._pending is None:
            if self._deferred and now >= self._deferred_until:
                self._ended.append(self._deferred.pop(0))  # one a turn, as room for all is unlikely
            self._pending = self._compose(now)
        if self._pending is None:
            return
        turn = self._pending[0]
        try:
            command = link.store.turn_command(turn)
            link.turns.connect()
            self._sent = turn.request
            link.turns.ask(now, *command)
        except (*RedisGone, RedisError) as error:
            self._on_failure(error, now)
            self._drop_unsent()

    def _drop_unsent(self) -> None:
        """Drops a turn that only claims and never went, so that a stop need not await it."""
        if self._pending is None:
            return
        turn, ended = self._pending
        if not ended and turn.request != self._sent:
            self._pending = None
            self.claims.request()

    def _on_failure(self, error: Exception, now: float) -> None:
        """Keeps a failed turn to send it again unchanged, as it may have been carried out.

        Splits a refused turn that can never pass. Otherwise it waits, without its large results.
        """
        if self._link.store.has_forgotten(error):
            return
        try:
            self._link.failed(error, now)
        except Refused as refusal:
            if not refusal.will_pass:
                self._split_turn(refusal, now)
                return
            self._link.log_rejection("turn refused by redis", refusal, now)
            if self._defer_large(now):
                self.send_turn(now)
            else:
                # Redis did nothing: the outcomes stay, and the same turn goes again.
                self._refused_until = now + REFUSED_PAUSE_S

    def listen(self, now: float) -> None:
        """Starts to wait for the next marker; for queues' markers only while a worker is free."""
        if not self._link.wake_listener.is_listening:
            queues = self._config.queues if self.claims.can_claim(now) else ()
            self._link.wake_listener.listen(self._instance.name, queues, now)
        self._timer.set(self._next_at())  # all that it follows from is settled in this pass

    def _next_at(self) -> float:
        """Returns the time by which the next turn has to go; inf for none."""
        if self._link.turns.is_under_way:
            return self._link.turns.overdue_at
        if self._pending is not None or (self._ended and not self.claims.is_gathering):
            return self._refused_until
        room_at = float("inf")
        if self._deferred:
            room_at = max(self._deferred_until, self._refused_until)
        return min(self._link.wake_listener.next_at(), room_at, self.claims.next_at())

    def _compose(self, now: float) -> tuple[Turn, list[Ended]] | None:
        ended = self._ended
        if len(ended) > 1:
            ended = ended[: within_a_turn(one.attempt.claim.terms for one in ended)]
        free, ahead = self.claims.workers_for(bool(ended), now)
        if not ended and not free and not ahead:
            self.claims.end_gathering()
            return None
        if self.claims.waits_for_child(now):
            return None
        if any(one.attempt.updates for one in ended) and not self.job_updates.write(now):
            return None  # a job's last updates are written before its outcome
        self._ended = self._ended[len(ended) :]
        self.claims.end_gathering()
        if free or ahead:
            self.claims.note_sent(free)
        return self._turn(ended, free, ahead), ended

    def _turn(self, ended: list[Ended], free: list[int], ahead: Sequence[int] = ()) -> Turn:
        workers, precedence = self._pool.workers, self.claims.precedence
        host, master = self._host, self._instance.name
        return Turn(
            # Claim tokens contain the request: by its boot id a successor recognises our jobs.
            request=f"{self._instance.boot}.{self._link.store.request_id()}",
            master=master,
            lease_us=LEASE_US,
            settlements=tuple(settlement(one.attempt, one.report, host, master) for one in ended),
            free_workers=tuple(free),
            ahead=tuple(ahead),
            busy=tuple(attempt.worker for attempt in workers.current_attempts()),
            queues=precedence.queues if free or ahead else (),
            order=precedence.order() if free or ahead else "",
            nudge=self._link.wake_listener.ignores_queues,
            pids=workers.waiting_pids(free),
        )

    def _split_turn(self, refusal: Refused, now: float) -> None:
        """Splits a refused turn, so that a broken job holds up no other job's outcome."""
        assert self._pending is not None
        (turn, ended), self._pending = self._pending, None
        self.claims.note_refused(turn)
        if len(ended) > 1:
            # Settlements carried out before the refusal answer `already` now.
            first, *rest = ended
            self._ended = [*rest, *self._ended]
            self._pending = self._turn([first], []), [first]
        elif ended:
            left = about(ended[0].attempt.claim)
            self._log.error("outcome can't be recorded", **left, error=refusal)
        else:
            self._refused_until = now + REFUSED_PAUSE_S
            self._link.log_rejection("claim refused by redis", refusal, now)

    def _defer_large(self, now: float) -> bool:
        """Puts large results off after a full Redis refused them; the turn's other outcomes go.

        False without large results, and for a turn that may have been carried out: that one goes
        again unchanged, or its claims would be lost.
        """
        assert self._pending is not None
        turn, ended = self._pending
        is_large = [*map(is_staged, turn.settlements)]
        if turn.request == self._sent or not any(is_large):
            return False
        self._pending = None
        self._deferred += compress(ended, is_large)
        self._deferred_until = now + REFUSED_PAUSE_S
        self._ended = [*compress(ended, map(not_, is_large)), *self._ended]
        self.claims.note_refused(turn)
        return True

    def _apply(self, turn: Turn, ended: list[Ended], answer: TurnAnswer, now: float) -> None:
        self.claims.note_answer(turn, answer, now)
        for job_id, queue, why in answer.set_aside:
            self._log.error("job failed", job_id=job_id, queue=queue, cause=why)
        for at, claim in enumerate(answer.claims):
            self._start(claim, now)
            if at < len(turn.free_workers):
                self._pool.workers.note_row_pid(claim.worker, turn.pids.get(claim.worker, 0))
        self._pool.start_assigned(now)
        self._recorded += zip(ended, turn.settlements, answer.verdicts, strict=True)

    def _start(self, claim: Claim, now: float) -> None:
        self._log.debug("job claimed", **about(claim), worker=claim.worker)
        refusal: Outcome | None = Released("its daemon starts no more jobs", is_usual=True)
        if self.claims.is_allowed:
            refusal = self._starter.start(claim, now)
        if refusal is not None:
            self.add_ended([Ended(Attempt(claim, claim.worker), Report(refusal))])


def _has_not_begun(ended: Ended) -> bool:
    """True for a job that goes back as if it had not been claimed: no child received it."""
    return ended.attempt.started_at is None and isinstance(ended.report.outcome, Released)
