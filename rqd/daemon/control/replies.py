"""Replies of this master to commands, on their way to Redis.

A command with `"answer": true` gets a reply: at once, or later, when it has been carried out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from rqd.daemon.instance import Instance
from rqd.daemon.redis_client import RedisLink
from rqd.daemon.timers import Needs, Timers

# The client has given up by then.
_KEPT_S = 60
MOST_BYTES = 64 * 1024
_MOST_WAITING = 100
_LONGEST_ID = 100


class Replies:
    """Replies that are not written yet: they wait while Redis is away."""

    def __init__(self, link: RedisLink, instance: Instance, timers: Timers) -> None:
        self._link = link
        self._instance = instance
        self._timer = timers.timer(self.send, Needs.REDIS)
        self._waiting: list[tuple[str, str, float]] = []  # command's id, answer, until when

    def give(self, command: Mapping[str, Any], content: Mapping[str, Any], now: float) -> None:
        """Queues the reply to a command; does nothing if it asks for none.

        Replaces a reply of over 64 KiB by an `error` that says so: the caller, which knows its
        parts, must cut them.
        """
        request = command.get("id")
        if command.get("answer") is not True or not isinstance(request, str):
            return
        if len(request) > _LONGEST_ID:
            return
        answer = json.dumps(dict(content))
        if len(answer) > MOST_BYTES:
            answer = json.dumps({"error": f"the answer has {len(answer):,} bytes"})
        self._waiting.append((request, answer, now + _KEPT_S))
        del self._waiting[:-_MOST_WAITING]
        self._timer.set(now)

    def send(self, now: float) -> None:
        """Writes the replies; drops replies that Redis refuses or nobody waits for any more."""
        while self._waiting:
            request, answer, until = self._waiting[0]
            write = partial(self._link.store.answer, request, self._instance.name, answer, _KEPT_S)
            if (
                now < until
                and self._link.try_call(write, now) is None
                and now < self._link.retry_at
            ):
                self._timer.set(self._link.retry_at)
                return
            del self._waiting[0]
