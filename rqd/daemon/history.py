"""Adds up what becomes of attempts, and writes the sums to Redis every five seconds.

A job's way has no more of it than a few additions in memory. A master that is killed loses the sums
of its last seconds, and no more.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain, islice

from rqd.daemon.redis_client import RedisLink, Refused
from rqd.daemon.timers import Needs, Timers
from rqd.daemon.workers.reader import Ended
from rqd.model.history import (
    FAILED,
    FINISHED,
    LOST,
    MOST_FUNCTIONS,
    OTHER_FUNCTION,
    PARKED,
    PUT_BACK,
    REPEATED,
    RETRIED,
    STOPPED,
    Numbers,
    added_up,
    function_label,
)
from rqd.model.outcome import Outcome, cause_kind
from rqd.store.messages import QueueNumbers

_PAUSE_S = 5.0
# The functions of a queue in one request, so that it keeps Redis for some milliseconds at most.
_FUNCTIONS_A_REQUEST = 25
_BECAME = {
    "finish": FINISHED,
    "repeat": REPEATED,
    "retry": RETRIED,
    "fail": FAILED,
    "stop": STOPPED,
    "put_back": PUT_BACK,
    "lose": LOST,
    "park": PARKED,
}
_NO_RUN = (PUT_BACK, LOST, PARKED)
_NOT_RECORDED = ("stale", "gone")
_INSTEAD = {"abandoned": FAILED, "stopped": STOPPED}  # by the verdict, whatever was decided


class History:
    """The sums of this master that Redis does not have yet."""

    def __init__(self, link: RedisLink, master: str, timers: Timers) -> None:
        self._link = link
        self._master = master
        self._timer = timers.timer(self._send, Needs.REDIS)
        self._queues: dict[str, dict[str, Numbers]] = {}  # by queue and function
        # Requests that may have been carried out are sent again unchanged: by id, each a queue.
        self._requests: list[tuple[str, QueueNumbers]] = []

    def note(self, ended: Ended, decision: str, verdict: str, now: float) -> None:
        """Adds an attempt whose end was recorded: the settlement's decision, and its verdict."""
        became = _BECAME[decision]
        if verdict != "settled":
            if verdict in _NOT_RECORDED:
                return
            became = _INSTEAD.get(verdict, became)
        attempt, report = ended.attempt, ended.report
        claim = attempt.claim
        try:
            numbers = self._queues[claim.queue][claim.func_name]
        except KeyError:
            numbers = self._numbers(claim.queue, claim.func_name)
            self._timer.hasten(now + _PAUSE_S)
        numbers.became[became] = numbers.became.get(became, 0) + 1
        if became in _NO_RUN:
            return
        if became != FINISHED and (why := _cause(report.outcome, verdict)):
            numbers.causes[why] = numbers.causes.get(why, 0) + 1
        usage = report.usage
        numbers.add_run(attempt.waited_s, usage.wall_s, usage.cpu_s, usage.peak_memory_bytes)

    def flush(self, now: float) -> None:
        """Writes all sums now, if Redis is there; for the end of the master."""
        # A second time for the sums that grew while the requests of an outage stood.
        for _ in range(2):
            if self._link.is_up:
                self._send(now)

    def _numbers(self, queue: str, function: str) -> Numbers:
        functions = self._queues.setdefault(queue, {})
        if len(functions) >= MOST_FUNCTIONS:
            function = OTHER_FUNCTION
        return functions.setdefault(function, Numbers())

    def _send(self, now: float) -> None:
        self._timer.clear()
        self._requests += self._take()
        while self._requests:
            if not self._is_done(self._requests[0], now):
                self._timer.set(now + _PAUSE_S)
                return
            self._requests.pop(0)
        if self._queues:
            self._timer.set(now + _PAUSE_S)  # sums that grew while Redis was away

    def _is_done(self, request: tuple[str, QueueNumbers], now: float) -> bool:
        """False if the request is to be sent again: Redis is gone, or has no memory for it now."""
        name, numbers = request
        add = partial(self._link.store.add_history, name, self._master, numbers)
        try:
            return self._link.call(add, now) is not None
        except Refused as refusal:
            self._link.log_rejection("redis refuses numbers of the history", refusal, now)
            return not refusal.will_pass

    def _take(self) -> Iterator[tuple[str, QueueNumbers]]:
        """Yields the requests for all sums so far, and begins new sums."""
        if self._requests:
            return  # the sums go on meanwhile: an outage costs no memory
        queues, self._queues = self._queues, {}
        for queue, functions in queues.items():
            own, rest = added_up(functions.values()), iter(functions.items())
            fields = list(own.fields())
            while portion := list(islice(rest, _FUNCTIONS_A_REQUEST)):
                yield self._link.store.request_id(), _portion(queue, portion, fields)
                fields = []


def _portion(
    queue: str, functions: list[tuple[str, Numbers]], own: list[tuple[str, int]]
) -> QueueNumbers:
    of_functions = (
        (f"{field} {at}", value)
        for at, (_, numbers) in enumerate(functions, 1)
        for field, value in numbers.fields(of_function=True)
    )
    names = tuple(function_label(name) for name, _ in functions)
    return QueueNumbers(queue, names, tuple(chain(own, of_functions)))


def _cause(outcome: Outcome, verdict: str) -> str:
    """Returns the kind of a failure's cause; empty for a success, or a run that asked for more."""
    return "abandoned" if verdict == "abandoned" else cause_kind(outcome)
