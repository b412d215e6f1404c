"""Jobs that wait for others, through a real daemon and its death."""

from __future__ import annotations

import signal
from pathlib import Path

from rqd import Queue, chain
from rqd.group import Group
from tests import jobs
from tests.daemons import StartDaemon
from tests.waiting import eventually, has_text

WAIT_S = 10.0


def test_what_waits_for_a_killed_masters_job_runs_once_when_that_has_run_again(
    start_daemon: StartDaemon, queue: Queue, fifo: str, tmp_path: Path
) -> None:
    history = str(tmp_path / "history")
    first = start_daemon("--name", "alpha")
    calls = chain(
        Queue.prepare_data(jobs.note_and_hold, [history, fifo]),
        *(Queue.prepare_data(jobs.append, [history, word]) for word in ("b", "c", "d")),
    )
    then = Queue.prepare_data(jobs.append, [history, "then"])
    parent, *_, last = Group(queue.connection).enqueue_many(queue, calls, then=then)
    eventually(lambda: parent.is_started, WAIT_S)
    eventually(lambda: has_text(Path(history)), WAIT_S)
    first.signal(signal.SIGKILL)
    first.wait()
    assert last.is_deferred

    second = start_daemon("--name", "alpha")
    eventually(lambda: "taken back" in second.log(), WAIT_S)
    Path(fifo).write_text("")
    assert last.latest_result(timeout=WAIT_S) is not None
    assert Path(history).read_text().split() == ["started", "started", "b", "c", "d", "then"]
