"""Enqueues calls and notes what was promised; as a program, at a rate until it is told to stop.

python -m tests.torture.producer SYSTEM URL FOLDER NAME SEED JOBS_A_SECOND. A call is noted before
it is sent (`offer`), and when the enqueue returned (`ack`) or raised (`unknown`: it may exist).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from types import FrameType

from tests.torture.calls import Call, draw, draw_again, draw_family, draw_limited
from tests.torture.history import History
from tests.torture.systems import Sender, system_named

_BULK_JOBS = (10, 60)
_BULK_SHARE = 0.02
_FAMILY_SHARE = 0.02
_LIMITED_SHARE = 0.1
_AGAIN_SHARE = 0.04


class Producer:
    """Sends calls and notes them in a history of its own, `offers-<name>.jsonl`. Threads may share
    it.
    """

    def __init__(self, sender: Sender, folder: Path, name: str) -> None:
        self._sender = sender
        self._history = History(folder / f"offers-{name}.jsonl")
        self._name = name
        self._calls = 0
        self._jobs = 0
        self._numbering = threading.Lock()

    def send(self, calls: Sequence[Call], fault: str = "") -> list[str]:
        """Enqueues these together; returns their ids, or [] if nobody knows whether they exist."""
        ids, is_known = self.offer(calls, fault)
        return ids if is_known else []

    def offer(self, calls: Sequence[Call], fault: str = "") -> tuple[list[str], bool]:
        """The same; the ids, and whether it is known that they exist."""
        with self._numbering:
            ids = [f"{self._name}-{self._jobs + n}" for n in range(len(calls))]
            self._jobs += len(calls)
            self._calls += 1
            number, first = self._calls, calls[0]
        told = {"kind": first.kind, "expect": first.expect, "retries": first.retries}
        told["again"] = first.again
        if fault:
            told["fault"] = fault
        self._history.note("offer", by=self._name, call=number, ids=ids, **told)
        try:
            self._sender.send(calls, ids)
        except Exception as error:  # noqa: BLE001 - whatever it raises, the job may exist
            why = f"{type(error).__name__}: {error}"[:300]
            self._history.note("unknown", by=self._name, call=number, error=why)
            return ids, False
        self._history.note("ack", by=self._name, call=number)
        return ids, True


def main(system: str, url: str, folder: str, name: str, seed: str, rate: str) -> None:
    """Produces until SIGTERM."""
    told: list[int] = []

    def stop(signum: int, _frame: FrameType | None) -> None:
        told.append(signum)

    signal.signal(signal.SIGTERM, stop)
    rng = Random(f"{seed}:{name}")
    producer = Producer(system_named(system).sender(url), Path(folder), name)
    endpoint = os.environ.get("RQD_TORTURE_ENDPOINT", "")
    owed, last = 0.0, time.monotonic()
    while not told:
        now = time.monotonic()
        # After an outage it does not make up for more than a second: it is a rate, not a debt.
        owed, last = min(owed + (now - last) * float(rate), float(rate)), now
        if owed < 1:
            time.sleep(0.01)
            continue
        owed -= len(producer.send(_next_calls(rng, endpoint if system == "rqd" else None))) or 1


def _next_calls(rng: Random, endpoint: str | None) -> list[Call]:
    """`endpoint` None: not rqd, which has no more than the common work."""
    if endpoint is not None and rng.random() < _FAMILY_SHARE:
        return draw_family(rng)
    call = draw(rng) if endpoint is None else _draw_any(rng, endpoint)
    count = rng.randint(*_BULK_JOBS) if rng.random() < _BULK_SHARE and _may_be_many(call) else 1
    return [call] * count


def _draw_any(rng: Random, endpoint: str) -> Call:
    share = rng.random()
    if share < _LIMITED_SHARE:
        return draw_limited(rng)
    return draw_again(rng, endpoint) if share < _LIMITED_SHARE + _AGAIN_SHARE else draw(rng)


def _may_be_many(call: Call) -> bool:
    return call.delay_s is None and call.kind != "unique"


if __name__ == "__main__":
    main(*sys.argv[1:])
