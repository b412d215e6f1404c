"""Jobs in and outcomes out: one round trip settles what ended and claims for who is free.

A turn whose answer was lost is sent again unchanged: its request id makes the replay harmless.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from itertools import compress
from operator import not_

from rqd.daemon.config import Config
from rqd.daemon.instance import Instance
from rqd.daemon.job_updates import JobUpdates
from rqd.daemon.log.log import Log, about
from rqd.daemon.precedence import Precedence
from rqd.daemon.redis_client import REFUSED_PAUSE_S, RedisLink, Refused
from rqd.daemon.settlement import log_ending, settlement
from rqd.daemon.starting import Starting
from rqd.daemon.workers.pool import Children
from rqd.daemon.workers.reader import Ended
from rqd.daemon.workers.worker import Run
from rqd.model.names import module_of
from rqd.model.outcome import Outcome, Released, Report
from rqd.model.records import Claim
from rqd.store.connection import RedisError, RedisGone, answers_are_read
from rqd.store.messages import Settlement, Turn, TurnAnswer
from rqd.store.wire import MOST_A_TURN, is_staged, within_a_turn

LEASE_US = 15_000_000
_SLOW_LOAD_S = 0.05
# With those that it claims ahead a turn is no longer than this: Redis is never kept for long.
_MOST_WITH_AHEAD = 64


class Dispatcher:
    """Settles and claims; knows what may be waiting in Redis."""

    def __init__(
        self,
        config: Config,
        instance: Instance,
        link: RedisLink,
        children: Children,
        reporting: JobUpdates,
        log: Log,
    ) -> None:
        self._starting = Starting(config, link, children)
        self.use(config)
        self._job_updates = reporting
        self._instance = instance
        self._link = link
        self._children = children
        self._log = log
        self._host = socket.gethostname()
        self._ended: list[Ended] = []
        self._recorded: list[tuple[Ended, str]] = []  # with its verdict
        self._gather_since: float | None = None
        self._gather_until: float | None = None
        self._advised: set[str] = set()
        self._pending: tuple[Turn, list[Ended]] | None = None
        self._sent = ""  # the request of the latest turn that may have been carried out
        self._put_off: list[Ended] = []  # large results, for which Redis had no room
        self._put_off_until = 0.0
        self._refused_until = 0.0  # a turn was refused: the next goes then
        self._deaf_until = 0.0  # as was the wait for a marker
        self._look = True  # something says that there may be work
        self.next_promotion_at = float("inf")
        self._claims_left = config.max_jobs
        self.is_open = True
        self.is_paused = False  # by an operator, until one resumes it
        self.found_nothing = False  # the latest claim: every queue was empty

    def use(self, config: Config) -> None:
        """Other settings from now on; how many jobs may be claimed stays."""
        self._config = config
        self._starting.use(config)
        self._precedence = Precedence(config)
        self._look = True

    @property
    def outcomes_left(self) -> int:
        """How many attempts have ended and are not recorded yet."""
        return len(self.unrecorded)

    @property
    def unrecorded(self) -> list[Run]:
        """The attempts that have ended, and whose leases have to last until that is recorded."""
        pending = self._pending[1] if self._pending else []
        return [one.run for one in (*pending, *self._ended, *self._put_off)]

    @property
    def has_unfinished(self) -> bool:
        """True while something is to be recorded, or a claim's answer is unknown."""
        is_answered = self._pending is None and not self._children.has_pending
        return bool(self._ended or self._put_off) or not is_answered

    @property
    def expects_jobs(self) -> bool:
        """True while Redis may have jobs for who is free: something says so, or it was asked."""
        looks = self._look and not self.may_claim_no_more
        return looks or self._pending is not None

    @property
    def next_due(self) -> float:
        """When the next turn has to go, at the latest."""
        if self._link.turns.is_under_way:
            return self._link.turns.overdue_at()
        if self._pending is not None or (self._ended and self._gather_until is None):
            return self._refused_until
        # As soon as it may be tried again: no marker would wake us.
        rearm_at = float("inf") if self._link.waiter.is_armed else self._deaf_until
        room_at = float("inf")
        if self._put_off:
            room_at = max(self._put_off_until, self._refused_until)
        return min(rearm_at, room_at, self.next_promotion_at, self._gather_until or float("inf"))

    def take(self, ended: list[Ended]) -> None:
        """These attempts are over: the next turn records them."""
        self._ended += ended
        if back := [one.run.claim for one in ended if _has_not_begun(one)]:
            self._precedence.give_back(back)
            if self._claims_left is not None:
                self._claims_left += len(back)

    def look(self) -> None:
        """There may be work: the next turn claims, if anybody is free."""
        self._look = True

    def on_wake(self, ready: set[int], now: float) -> bool:
        """Takes the marker that came, if one did; True if it announces a command."""
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
            # It woke a master that has nobody free, or is paused, say: another one may have.
            key = self._link.store.keys.wake_queue(queue)
            self._link.attempt(lambda: self._link.store.redis.zadd(key, {"look": 0}), now)
        self._look = True
        return member == "command"

    def on_turn_reply(self, ready: set[int], now: float) -> bool:
        """Takes the answer to the turn under way; True if it came."""
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
            self._hear_failure(error, now)
            return False
        assert self._pending is not None
        self._link.succeeded(now)
        (turn, ended), self._pending = self._pending, None
        self._apply(turn, ended, answer, now)
        return True

    def log_settled(self, now: float) -> None:
        """Logs what has been recorded: nobody waits for it, but Redis may be at the next turn."""
        recorded, self._recorded = self._recorded, []
        for one, verdict in recorded:
            log_ending(self._log, one.run, one.report, verdict)
            self._note_import(one, now)
            self._children.note_ending(one)

    def settle_and_claim(self, now: float) -> None:
        """Sends a turn, if there is anything to record, or a reason to look for work."""
        link = self._link
        if now < max(link.retry_at, self._refused_until) or link.turns.is_under_way:
            return
        if self._pending is None:
            if self._put_off and now >= self._put_off_until:
                self._ended.append(self._put_off.pop(0))  # one a turn: there may be room for one
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
            self._hear_failure(error, now)
            self._withdraw_unsent()

    def _withdraw_unsent(self) -> None:
        """A claim that never went brings nothing: whoever stops need not await it."""
        if self._pending is None:
            return
        turn, ended = self._pending
        if not ended and turn.request != self._sent:
            self._pending, self._look = None, True

    def _hear_failure(self, error: Exception, now: float) -> None:
        """The turn may have been carried out: the same goes again, with its request id."""
        if self._link.store.has_forgotten(error):
            return
        try:
            self._link.failed(error, now)
        except Refused as refusal:
            if not refusal.will_pass:
                self._part(refusal, now)
                return
            self._link.complain("turn refused by redis", refusal, now)
            if self._defer_large(now):
                self.settle_and_claim(now)
            else:
                # Nothing was done: the outcomes stay, and the same turn goes again.
                self._refused_until = now + REFUSED_PAUSE_S

    def listen(self, now: float) -> None:
        """Starts to wait for the next marker: the queues' too, while a worker is free."""
        waiter, link = self._link.waiter, self._link
        if waiter.is_armed or now < max(link.retry_at, self._deaf_until):
            return
        queues = self._config.queues if self._could_claim(now) else ()
        try:
            waiter.arm(self._instance.name, queues, now)
        except (*RedisGone, RedisError) as error:
            self._lose_waiter(error, now)

    def stop_waiting(self) -> None:
        """Lets go of the wait for markers: the next one is for the queues as they are by now."""
        self._link.waiter.close()
        self._look = True  # it may have taken a marker along

    def _lose_waiter(self, error: Exception, now: float) -> None:
        self._link.waiter.close()
        try:
            self._link.failed(error, now)
        except Refused as refusal:
            self._deaf_until = now + REFUSED_PAUSE_S
            self._link.complain("redis refuses to wake us", refusal, now)

    def _compose(self, now: float) -> tuple[Turn, list[Ended]] | None:
        ended = self._ended[: within_a_turn(one.run.claim.terms for one in self._ended)]
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
        if any(one.run.news for one in ended) and not self._job_updates.write(now):
            return None  # what a job told last comes before its outcome
        self._ended = self._ended[len(ended) :]
        self._gather_since = self._gather_until = None
        if free or ahead:
            # What is announced while the turn is under way may have missed it. More workers may be
            # free than one turn has room for.
            self._look = len(free) == MOST_A_TURN
        return self._turn(ended, free, ahead), ended

    def _turn(self, ended: list[Ended], free: list[int], ahead: Sequence[int] = ()) -> Turn:
        waiter, workers = self._link.waiter, self._children.workers
        return Turn(
            # The tokens of its claims have it in them: by the boot id a successor knows its jobs.
            request=f"{self._instance.boot}.{self._link.store.request_id()}",
            master=self._instance.name,
            lease_us=LEASE_US,
            settlements=self._settlements(ended),
            free_workers=tuple(free),
            ahead=tuple(ahead),
            busy=tuple(run.worker for run in workers.runs()),
            queues=self._precedence.queues if free or ahead else (),
            order=self._precedence.order() if free or ahead else "",
            nudge=waiter.is_armed and not waiter.listens_to_queues,
            pids=workers.waiting_pids(free),
        )

    def _settlements(self, ended: list[Ended]) -> tuple[Settlement, ...]:
        host, master = self._host, self._instance.name
        return tuple(settlement(one.run, one.report, host, master) for one in ended)

    def _gathers(self, now: float) -> bool:
        """True while a turn is better put off: there is a backlog, and nobody to begin with it."""
        wait_s = self._children.ahead.need_jobs_in_s(now) if self._look else 0.0
        if not wait_s:
            return False
        self._gather_since = now if self._gather_since is None else self._gather_since
        self._gather_until = self._gather_since + wait_s
        return now < self._gather_until

    def _part(self, refusal: Refused, now: float) -> None:
        """A refused turn is taken apart, so that one broken job holds up no other's outcome."""
        assert self._pending is not None
        (turn, ended), self._pending = self._pending, None
        self._look = self._look or bool(turn.free_workers or turn.ahead)  # it has not looked
        if len(ended) > 1:
            # What was carried out before the refusal answers `already` now.
            first, *rest = ended
            self._ended = [*rest, *self._ended]
            self._pending = self._turn([first], []), [first]
        elif ended:
            left = about(ended[0].run.claim)
            self._log.error("outcome can't be recorded", **left, error=refusal)
        else:
            self._refused_until = now + REFUSED_PAUSE_S
            self._link.complain("claim refused by redis", refusal, now)

    def _defer_large(self, now: float) -> bool:
        """A full Redis has refused a large result, before its turn went: the others go without.

        False for a turn that may have gone before: only as it was it brings its claims again.
        """
        assert self._pending is not None
        turn, ended = self._pending
        is_large = [*map(is_staged, turn.settlements)]
        if turn.request == self._sent or not any(is_large):
            return False
        self._pending = None
        self._put_off += compress(ended, is_large)
        self._put_off_until = now + REFUSED_PAUSE_S
        self._ended = [*compress(ended, map(not_, is_large)), *self._ended]
        self._look = self._look or bool(turn.free_workers or turn.ahead)
        return True

    def _apply(self, turn: Turn, ended: list[Ended], answer: TurnAnswer, now: float) -> None:
        if asked := len(turn.free_workers) + len(turn.ahead):
            # Fewer than asked for: nothing is left, until a marker or the clock says otherwise.
            if len(answer.claims) == asked:
                self._look = True
            self.found_nothing = not answer.claims
            due = answer.next_due_us
            wait_s = (due - answer.now_us) / 1e6 if due is not None else float("inf")
            self.next_promotion_at = now + max(0.0, wait_s)
        for job_id, queue, why in answer.set_aside:
            self._log.error("job failed", job_id=job_id, queue=queue, cause=why)
        self._precedence.note(answer.claims)
        if self._claims_left is not None:
            self._claims_left -= len(answer.claims)
        for at, claim in enumerate(answer.claims):
            self._start(claim, now)
            if at < len(turn.free_workers):
                self._children.workers.note_shown_pid(claim.worker, turn.pids.get(claim.worker, 0))
        self._children.start_assigned(now)
        self._recorded += zip(ended, answer.verdicts, strict=True)

    def _note_import(self, ended: Ended, now: float) -> None:
        """Learns a module that its jobs import; says once what one costs that can't be learnt."""
        if not (load_s := ended.report.usage.load_s):
            return
        module = module_of(ended.run.claim.func_name)
        if self._starting.may_preload(ended.run.claim) and self._children.learn(
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
            self.take([Ended(Run(claim, claim.worker), Report(refusal))])

    @property
    def may_claim_no_more(self) -> bool:
        """True once all of `max_jobs` were claimed."""
        return self._claims_left == 0

    @property
    def _claims(self) -> bool:
        return self.is_open and not self.is_paused

    @property
    def _may_claim(self) -> bool:
        return self._claims and self._children.is_ready

    def _could_claim(self, now: float) -> bool:
        """True if a job that is there now would be claimed by the next turn."""
        return self._may_claim and bool(self._free(now))

    def _free(self, now: float) -> list[int]:
        return self._children.workers.free_numbers(now)[: self._claims_left][:MOST_A_TURN]

    def _prefetch(self, free: int, now: float) -> list[int]:
        left = self._claims_left
        most = _MOST_WITH_AHEAD if left is None else min(left, _MOST_WITH_AHEAD)
        return self._children.ahead.numbers(now)[: max(0, most - free)]


def _has_not_begun(ended: Ended) -> bool:
    """True for a job that goes back as if it had not been claimed."""
    return ended.run.sent_at is None and isinstance(ended.report.outcome, Released)
