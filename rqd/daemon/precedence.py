"""In which order a daemon's queues are taken: what its turns say of it; lib/orders.lua does it."""

from __future__ import annotations

import random
from collections.abc import Sequence

from rqd.daemon.config import Config
from rqd.model.records import Claim


class Precedence:
    """A master's queues as its turns name them, and whose turn it is."""

    def __init__(self, config: Config) -> None:
        self._kind = config.precedence
        self._last_queue = ""
        self.queues = config.queues
        if config.weights:
            pairs = zip(config.weights, config.queues, strict=True)
            self.queues = tuple(f"{weight} {queue}" for weight, queue in pairs)

    def order(self) -> str:
        """For the next turn; empty for the order in which they stand."""
        match self._kind:
            case "strict":
                return ""
            case "round-robin":
                return f"round_robin {self._last_queue}"
        return f"{self._kind} {random.getrandbits(31)}"

    def give_back(self, claims: Sequence[Claim]) -> None:
        """These go back, as if not claimed: the first one's queue has its turn again."""
        first = min(claims, key=lambda claim: claim.fence).queue
        if self._kind == "round-robin" and first in self.queues:
            self._last_queue = self.queues[self.queues.index(first) - 1]

    def note(self, claims: Sequence[Claim]) -> None:
        """What a turn has brought: the next one goes on from there."""
        if claims:
            self._last_queue = claims[-1].queue
