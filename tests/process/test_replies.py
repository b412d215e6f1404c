"""Daemons answer to what they are told from anywhere, and soon."""

from __future__ import annotations

import signal
import time

from rqd.client.connection import Backend
from rqd.store.live import ask
from tests.daemons import StartDaemon


def test_idle_daemons_answer_at_once_and_who_stands_still_does_not(
    start_daemon: StartDaemon, there: Backend
) -> None:
    names = ["alpha", "beta", "still"]
    daemons = [start_daemon("--name", name) for name in names]
    still = daemons[-1]
    still.signal(signal.SIGSTOP)

    took_s = [1.0]
    while min(took_s) >= 0.2 and len(took_s) < 20:  # some 5 ms, on a machine with time for it
        begun = time.monotonic()
        answers = ask(there.store, there.views, {"do": "no such"}, names[:2])
        took_s.append(time.monotonic() - begun)
        assert all(answer and "does not know" in answer["error"] for answer in answers.values())
    assert min(took_s) < 0.2, took_s

    answers = ask(there.store, there.views, {"do": "stop"}, names, timeout_s=0.5)
    assert answers.pop("still") is None
    for answer in answers.values():
        assert answer == {"state": "stopping", "busy": 0, "workers": 0}
    still.signal(signal.SIGCONT)
    assert [daemon.wait() for daemon in daemons] == [0, 0, 0]  # told is told
