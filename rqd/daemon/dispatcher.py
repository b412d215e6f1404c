"""Claims jobs for free workers and settles ended attempts, both in one round trip: a turn.

A turn whose answer was lost is sent again unchanged: its request id makes the replay harmless.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from itertools import compress
from operator import not_

from rqd.daemon.admission import Precedence
from rqd.daemon.config import Config
from rqd.daemon.instance import Instance
from rqd.daemon.job_updates import JobUpdates
from rqd.daemon.log.log import Log, about
from rqd.daemon.redis_client import REFUSED_PAUSE_S, RedisLink, Refused
from rqd.daemon.settlement import log_ending, settlement
from rqd.daemon.starting import Starting
from rqd.daemon.timers import Needs, Timers
from rqd.daemon.workers import prefetch
from rqd.daemon.workers.attempt import Attempt
from rqd.daemon.workers.pool import Pool
from rqd.daemon.workers.reader import Ended
from rqd.model.names import module_of
from rqd.model.outcome import Outcome, Released, Report
from rqd.model.records import Claim
from rqd.store.connection import RedisError, RedisGone, answers_are_read
from rqd.store.messages import Settlement, Turn, TurnAnswer
from rqd.store.wire import MOST_A_TURN, is_staged, within_a_turn

LEASE_US = 15_000_000
_SLOW_LOAD_S = 0.05
# The most jobs a turn claims, prefetched ones among them, so that it never keeps Redis for long.
_MOST_WITH_AHEAD = 64


class Dispatcher:
    """Settles and claims; knows if Redis may have jobs."""

    def __init__(
        self,
        config: Config,
        instance: Instance,
        link: RedisLink,
        pool: Pool,
        timers: Timers,
        log: Log,
    ) -> None:
        self._starting = Starting(config, link, pool)
        self.use(config)
        self.job_updates = JobUpdates(link, pool, timers)
        self._timer = timers.timer(self._promote, Needs.REDIS)
        self._instance = instance
        self._link = link
        self._pool = pool
        self._log = log
        self._host = socket.gethostname()
        self._ended: list[Ended] = []
        self._recorded: list[tuple[Ended, str]] = []  # each with its verdict
        self._gather_since: float | None = None
        self._gather_until: float | None = None
        self._advised: set[str] = set()
        self._pending: tuple[Turn, list[Ended]] | None = None
        self._sent = ""  # the request of the latest turn that may have been carried out
        self._deferred: list[Ended] = []  # large results, for which Redis had no room
        self._deferred_until = 0.0
        self._refused_until = 0.0  # after a refused turn, the next goes then
        self._deaf_until = 0.0  # after a refused wait for markers, the next begins then
        self._look = True  # there may be work: the next turn claims
        self._promotion_at = float("inf")
        self._claims_left = config.max_jobs
        self.is_open = True
        self.is_paused = False  # by an operator, until an operator resumes it
        self.found_nothing = False  # the latest claim: every queue was empty

    def use(self, config: Config) -> None:
        """Uses these settings from now on; the count of `max_jobs` goes on."""
        self._config = config
        self._starting.use(config)
        self._precedence = Precedence(config)
        self._look = True

    @property
    def outcomes_left(self) -> int:
        """The number of attempts that have ended and are not recorded yet."""
        return len(self.unrecorded)

    @property
    def unrecorded(self) -> list[Attempt]:
        """The attempts that have ended, whose leases must last until Redis has their outcomes."""
        pending = self._pending[1] if self._pending else []
        return [one.attempt for one in (*pending, *self._ended, *self._deferred)]

    @property
    def has_unfinished(self) -> bool:
        """True while an outcome is to be recorded, or the answer to a turn is unknown."""
        is_answered = self._pending is None and not self._pool.caught
        return bool(self._ended or self._deferred) or not is_answered

    @property
    def expects_jobs(self) -> bool:
        """True while Redis may have jobs for free workers, or a turn is pending."""
        looks = self._look and not self.may_claim_no_more
        return looks or self._pending is not None

    def _promote(self, now: float) -> None:
        """Has the next turn claim if a scheduled job is due by now."""
        if now >= self._promotion_at:
            self._promotion_at = float("inf")  # until the turn's answer sets it
            self._look = True

    def _next_at(self) -> float:
        """Returns the time by which the next turn has to go; inf for none."""
        if self._link.turns.is_under_way:
            return self._link.turns.overdue_at()
        if self._pending is not None or (self._ended and self._gather_until is None):
            return self._refused_until
        # Waiting for a marker may be tried again then: until then no marker wakes us.
        rearm_at = float("inf") if self._link.waiter.is_armed else self._deaf_until
        room_at = float("inf")
        if self._deferred:
            room_at = max(self._deferred_until, self._refused_until)
        return min(rearm_at, room_at, self._promotion_at, self._gather_until or float("inf"))

    def take(self, ended: list[Ended]) -> None:
        """Adds ended attempts, which the next turn records."""
        self._ended += ended
        if back := [one.attempt.claim for one in ended if _has_not_begun(one)]:
            self._precedence.give_back(back)
            if self._claims_left is not None:
                self._claims_left += len(back)

    def look(self) -> None:
        """Has the next turn claim, if a worker is free: there may be work."""
        self._look = True

    def on_wake(self, ready: set[int], now: float) -> bool:
        """Reads the marker that came, if any; True if it announces a command."""
        waiter = self._link.waiter
        if not waiter.has_answer(ready):
            if now >= waiter.overdue_at():
                waiter.close()
                self._look = True
            return False
        try:
            with answers_are_read():
                marker = waiter.read()
        except (*RedisGone, RedisError) as error:
            self._look = True
            self._lose_waiter(error, now)
            return False
        if marker is None:
            return False
        queue, member = marker
        if queue and not self._could_claim(now):
            # It woke a master without a free worker, or a paused one: pass it on to another master.
            key = self._link.store.keys.wake_queue(queue)
            self._link.try_call(lambda: self._link.store.redis.zadd(key, {"look": 0}), now)
        self._look = True
        return member == "command"

    def on_turn_reply(self, ready: set[int], now: float) -> bool:
        """Reads the answer to the turn under way and starts its jobs; True if it came."""
        turns = self._link.turns
        try:
            if turns.has_answer(ready):
                with answers_are_read():
                    answer = TurnAnswer.parse(turns.answer())
            elif now >= turns.overdue_at():
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
        for one, verdict in recorded:
            log_ending(self._log, one.attempt, one.report, verdict)
            self._note_import(one, now)
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
            self._pending, self._look = None, True

    def _on_failure(self, error: Exception, now: float) -> None:
        """Keeps a failed turn to send it again unchanged, as it may have been carried out.

        A refused turn is taken apart or waits; a large result in it is put off.
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
        self._listen(now)
        self._timer.set(self._next_at())  # all that it follows from is settled in this pass

    def _listen(self, now: float) -> None:
        waiter, link = self._link.waiter, self._link
        if waiter.is_armed or now < max(link.retry_at, self._deaf_until):
            return
        queues = self._config.queues if self._could_claim(now) else ()
        try:
            waiter.arm(self._instance.name, queues, now)
        except (*RedisGone, RedisError) as error:
            self._lose_waiter(error, now)

    def stop_waiting(self) -> None:
        """Ends the wait for markers, so that the next one covers the current queues."""
        self._link.waiter.close()
        self._look = True  # the wait may have consumed a marker

    def _lose_waiter(self, error: Exception, now: float) -> None:
        self._link.waiter.close()
        try:
            self._link.failed(error, now)
        except Refused as refusal:
            self._deaf_until = now + REFUSED_PAUSE_S
            self._link.log_rejection("redis refuses to wake us", refusal, now)

    def _compose(self, now: float) -> tuple[Turn, list[Ended]] | None:
        ended = self._ended[: within_a_turn(one.attempt.claim.terms for one in self._ended)]
        may_claim = self._may_claim
        free: list[int] = []
        ahead: list[int] = []
        if may_claim and (self._look or ended):
            free = self._free(now)
            ahead = self._prefetch(len(free), now)
        if not ended and not free and not ahead:
            self._gather_since = self._gather_until = None
            return None
        if may_claim and self._gathers(now):
            return None
        if any(one.attempt.updates for one in ended) and not self.job_updates.write(now):
            return None  # a job's last updates are written before its outcome
        self._ended = self._ended[len(ended) :]
        self._gather_since = self._gather_until = None
        if free or ahead:
            # A marker that comes while the turn is under way sets it again: its job may have missed
            # the turn. It stays set if more workers may be free than one turn has room for.
            self._look = len(free) == MOST_A_TURN
        return self._turn(ended, free, ahead), ended

    def _turn(self, ended: list[Ended], free: list[int], ahead: Sequence[int] = ()) -> Turn:
        waiter, workers = self._link.waiter, self._pool.workers
        return Turn(
            # Claim tokens contain the request: by its boot id a successor recognises our jobs.
            request=f"{self._instance.boot}.{self._link.store.request_id()}",
            master=self._instance.name,
            lease_us=LEASE_US,
            settlements=self._settlements(ended),
            free_workers=tuple(free),
            ahead=tuple(ahead),
            busy=tuple(attempt.worker for attempt in workers.current_attempts()),
            queues=self._precedence.queues if free or ahead else (),
            order=self._precedence.order() if free or ahead else "",
            nudge=waiter.is_armed and not waiter.listens_to_queues,
            pids=workers.waiting_pids(free),
        )

    def _settlements(self, ended: list[Ended]) -> tuple[Settlement, ...]:
        host, master = self._host, self._instance.name
        return tuple(settlement(one.attempt, one.report, host, master) for one in ended)

    def _gathers(self, now: float) -> bool:
        """True while a claiming turn should wait: there may be jobs, and no child for them yet."""
        wait_s = prefetch.need_jobs_in_s(self._pool.workers, now) if self._look else 0.0
        if not wait_s:
            return False
        self._gather_since = now if self._gather_since is None else self._gather_since
        self._gather_until = self._gather_since + wait_s
        return now < self._gather_until

    def _split_turn(self, refusal: Refused, now: float) -> None:
        """Splits a refused turn, so that a broken job holds up no other job's outcome."""
        assert self._pending is not None
        (turn, ended), self._pending = self._pending, None
        self._look = self._look or bool(turn.free_workers or turn.ahead)  # the turn has not claimed
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

        False without large results, and for a turn that may have gone before: only unchanged it
        brings its claims again.
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
        self._look = self._look or bool(turn.free_workers or turn.ahead)
        return True

    def _apply(self, turn: Turn, ended: list[Ended], answer: TurnAnswer, now: float) -> None:
        if asked := len(turn.free_workers) + len(turn.ahead):
            # Fewer claims than asked for: no job is left, until a marker or the clock says more.
            if len(answer.claims) == asked:
                self._look = True
            self.found_nothing = not answer.claims
            due = answer.next_due_us
            wait_s = (due - answer.now_us) / 1e6 if due is not None else float("inf")
            self._promotion_at = now + max(0.0, wait_s)
        for job_id, queue, why in answer.set_aside:
            self._log.error("job failed", job_id=job_id, queue=queue, cause=why)
        self._precedence.note(answer.claims)
        if self._claims_left is not None:
            self._claims_left -= len(answer.claims)
        for at, claim in enumerate(answer.claims):
            self._start(claim, now)
            if at < len(turn.free_workers):
                self._pool.workers.note_row_pid(claim.worker, turn.pids.get(claim.worker, 0))
        self._pool.start_assigned(now)
        self._recorded += zip(ended, answer.verdicts, strict=True)

    def _note_import(self, ended: Ended, now: float) -> None:
        """Learns to preload a module that a job imported. If it can't, warns once of the cost."""
        if not (load_s := ended.report.usage.load_s):
            return
        module = module_of(ended.attempt.claim.func_name)
        if self._starting.may_preload(ended.attempt.claim) and self._pool.forking.learn(
            module, load_s, now
        ):
            return
        if load_s >= _SLOW_LOAD_S and module not in self._advised:
            self._advised.add(module)
            self._log.warning(
                "a job imported its module itself, --preload does it once for all",
                preload=module,
                import_ms=round(load_s * 1000),
            )

    def _start(self, claim: Claim, now: float) -> None:
        self._log.debug("job claimed", **about(claim), worker=claim.worker)
        refusal: Outcome | None = Released("its daemon starts no more jobs", is_usual=True)
        if self._claims:
            refusal = self._starting.start(claim, now)
        if refusal is not None:
            self.take([Ended(Attempt(claim, claim.worker), Report(refusal))])

    @property
    def may_claim_no_more(self) -> bool:
        """True once `max_jobs` jobs were claimed."""
        return self._claims_left == 0

    @property
    def _claims(self) -> bool:
        return self.is_open and not self.is_paused

    @property
    def _may_claim(self) -> bool:
        return self._claims and self._pool.is_ready

    def _could_claim(self, now: float) -> bool:
        """True if the next turn can claim: a worker is free, and nothing forbids it."""
        return self._may_claim and bool(self._free(now))

    def _free(self, now: float) -> list[int]:
        return self._pool.workers.free_numbers(now)[: self._claims_left][:MOST_A_TURN]

    def _prefetch(self, free: int, now: float) -> list[int]:
        left = self._claims_left
        most = _MOST_WITH_AHEAD if left is None else min(left, _MOST_WITH_AHEAD)
        return prefetch.numbers_to_prefetch(self._pool.workers, now)[: max(0, most - free)]


def _has_not_begun(ended: Ended) -> bool:
    """True for a job that goes back as if it had not been claimed: no child received it."""
    return ended.attempt.started_at is None and isinstance(ended.report.outcome, Released)
