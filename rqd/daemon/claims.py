"""Decides when a turn claims jobs, for which workers, and in which order of queues."""

from __future__ import annotations

import random
from collections.abc import Sequence

from rqd.daemon.config import Config
from rqd.daemon.workers import prefetch
from rqd.daemon.workers.pool import Pool
from rqd.model.records import Claim
from rqd.store.messages import Turn, TurnAnswer
from rqd.store.wire import MOST_A_TURN

# The most jobs a turn claims, prefetched ones among them, so that it never keeps Redis for long.
_MOST_WITH_AHEAD = 64


class Precedence:
    """A master's queues as its turns name them, and their order, which Lua code carries out."""

    def __init__(self, config: Config) -> None:
        self._kind = config.precedence
        self._last_queue = ""
        self.queues = config.queues
        if config.weights:
            pairs = zip(config.weights, config.queues, strict=True)
            self.queues = tuple(f"{weight} {queue}" for weight, queue in pairs)

    def order(self) -> str:
        """Returns the order for the next turn; empty for the order of `queues`."""
        match self._kind:
            case "strict":
                return ""
            case "round-robin":
                return f"round_robin {self._last_queue}"
        return f"{self._kind} {random.getrandbits(31)}"

    def give_back(self, claims: Sequence[Claim]) -> None:
        """Notes claims that go back as if not claimed: the first claim's queue comes next again."""
        first = min(claims, key=lambda claim: claim.fence).queue
        if self._kind == "round-robin" and first in self.queues:
            self._last_queue = self.queues[self.queues.index(first) - 1]

    def note(self, claims: Sequence[Claim]) -> None:
        """Notes the claims of a turn, so that the next turn goes on after their queue."""
        if claims:
            self._last_queue = claims[-1].queue


class Claims:
    """The claims of a master: if they are allowed, if Redis may have jobs, and for how many."""

    def __init__(self, config: Config, pool: Pool) -> None:
        self.configure(config)
        self._pool = pool
        self._left = config.max_jobs
        self._promotion_at = float("inf")
        self._gather_since: float | None = None
        self._gather_until = float("inf")
        self.is_open = True
        self.is_paused = False  # by an operator, until an operator resumes it
        self.found_nothing = False  # the latest claim: every queue was empty

    def configure(self, config: Config) -> None:
        """Uses these settings from now on; the count of `max_jobs` goes on."""
        self.precedence = Precedence(config)
        self._is_requested = True  # there may be work: the next turn claims

    @property
    def is_allowed(self) -> bool:
        """True unless the master is paused or stops."""
        return self.is_open and not self.is_paused

    @property
    def is_exhausted(self) -> bool:
        """True once `max_jobs` jobs were claimed."""
        return self._left == 0

    @property
    def expects_jobs(self) -> bool:
        """True while Redis may have jobs for free workers."""
        return self._is_requested and not self.is_exhausted

    def request(self) -> None:
        """Has the next turn claim, if a worker is free: there may be work."""
        self._is_requested = True

    def request_promoted(self, now: float) -> None:
        """Has the next turn claim if a scheduled job is due by now."""
        if now >= self._promotion_at:
            self._promotion_at = float("inf")  # until the turn's answer sets it
            self._is_requested = True

    def next_at(self) -> float:
        """Returns the time of the next due scheduled job, or of a claim that waits for a child."""
        return min(self._promotion_at, self._gather_until)

    def can_claim(self, now: float) -> bool:
        """True if the next turn can claim: a worker is free, and nothing forbids it."""
        return self._is_served and bool(self._free(now))

    def workers_for(self, has_ended: bool, now: float) -> tuple[list[int], list[int]]:
        """Returns the workers to claim for: free ones, and ones that take a job ahead.

        `has_ended`: the turn records outcomes, and claims with them.
        """
        if not (self._is_requested or has_ended) or not self._is_served:
            return [], []
        free = self._free(now)
        left = _MOST_WITH_AHEAD if self._left is None else min(self._left, _MOST_WITH_AHEAD)
        ahead = prefetch.numbers_to_prefetch(self._pool.workers, now)
        return free, ahead[: max(0, left - len(free))]

    def waits_for_child(self, now: float) -> bool:
        """True while a claiming turn should wait: there may be jobs, and no child for them yet."""
        if not self._is_requested or not self._is_served:
            return False
        wait_s = prefetch.need_jobs_in_s(self._pool.workers, now)
        if not wait_s:
            return False
        self._gather_since = now if self._gather_since is None else self._gather_since
        self._gather_until = self._gather_since + wait_s
        return now < self._gather_until

    @property
    def is_gathering(self) -> bool:
        """True while a turn waits for more children."""
        return self._gather_since is not None

    def end_gathering(self) -> None:
        """Ends a turn's wait for children: it goes now, or has no reason any more."""
        self._gather_since, self._gather_until = None, float("inf")

    def note_sent(self, free: Sequence[int]) -> None:
        """Notes a turn that claims for these free workers.

        A marker that comes while the turn is under way requests again: its job may have missed the
        turn. The request stands if more workers may be free than one turn has room for.
        """
        self._is_requested = len(free) == MOST_A_TURN

    def note_answer(self, turn: Turn, answer: TurnAnswer, now: float) -> None:
        """Notes what a turn has claimed, and when the next scheduled job is due."""
        if asked := turn.claims_for:
            # Fewer claims than asked for: no job is left, until a marker or the clock says more.
            if len(answer.claims) == asked:
                self._is_requested = True
            self.found_nothing = not answer.claims
            due = answer.next_due_us
            wait_s = (due - answer.now_us) / 1e6 if due is not None else float("inf")
            self._promotion_at = now + max(0.0, wait_s)
        self.precedence.note(answer.claims)
        if self._left is not None:
            self._left -= len(answer.claims)

    def note_refused(self, turn: Turn) -> None:
        """Notes a turn that Redis has refused, and so has not carried out."""
        if turn.claims_for:
            self._is_requested = True

    def give_back(self, claims: Sequence[Claim]) -> None:
        """Notes claims that go back as if not claimed: no child received them."""
        self.precedence.give_back(claims)
        if self._left is not None:
            self._left += len(claims)

    @property
    def _is_served(self) -> bool:
        return self.is_allowed and self._pool.is_ready

    def _free(self, now: float) -> list[int]:
        return self._pool.workers.free_numbers(now)[: self._left][:MOST_A_TURN]
