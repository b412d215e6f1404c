"""The order of a daemon's queues, as its turns request it; Lua code carries it out."""

from __future__ import annotations

import random
from collections.abc import Sequence

from rqd.daemon.config import Config
from rqd.model.records import Claim


class Precedence:
    """A master's queues as its turns name them, and the queue that was served last."""

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
