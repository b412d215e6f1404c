"""What is known of an attempt that did not succeed."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from typing import Any

import pytest

from rqd import Queue
from rqd.client.connection import Backend, backend_for
from rqd.daemon.zygote.protocol import STOP_SIGNAL
from rqd.exceptions import InvalidJobOperation, NoSuchJobError, RqdError
from rqd.job import Job
from rqd.model.filter import Filter
from rqd.model.stack import threads_of
from rqd.results import Result
from rqd.stacks import live_stack
from rqd.store.search import Search
from tests import jobs
from tests.cli.running import rqd
from tests.daemons import StartDaemon
from tests.waiting import eventually

WAIT_S = 15.0


def ended(job: Job[Any]) -> Result:
    result = job.latest_result(timeout=WAIT_S)
    assert result is not None, f"{job.id} is {job.get_status()}"
    return result


def functions(stack: str | None) -> list[list[str]]:
    """The names of each thread's functions."""
    return [[frame.function for frame in thread.frames] for thread in threads_of(stack or "")]


def test_a_crash_leaves_the_stacks_of_all_threads(start_daemon: StartDaemon, queue: Queue) -> None:
    daemon = start_daemon("--jobs-per-child", "2")
    result = ended(queue.enqueue(jobs.segfault_beside_a_thread))
    other, main = functions(result.stack)
    assert "wait_in_a_thread" in other
    assert main[-1] == "segfault_beside_a_thread"  # below are rqd's own
    assert "segfault" in main
    assert "Segmentation fault" in (result.stack or "")
    assert result.output == ""
    eventually(lambda: "in segfault_beside_a_thread" in daemon.log())

    assert result.details["signal"] == signal.SIGSEGV
    assert "sent_by" not in result.details  # nobody knows
    assert (result.details["host"], result.details["zygote"]) == (socket.gethostname(), 1)

    # The next one in that place does not inherit it.
    assert ended(queue.enqueue(jobs.leave, 3)).stack is None
    os.kill(daemon.zygote().pid, signal.SIGKILL)
    assert ended(queue.enqueue(jobs.leave, 3)).details["zygote"] == 2


def test_failures_are_grouped_by_the_innermost_frame_of_their_jobs(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    start_daemon("--preload", "tests.jobs", workers=2)
    for made in (
        queue.enqueue(jobs.leave, 3),
        queue.enqueue(jobs.segfault_beside_a_thread),
        queue.enqueue(jobs.run_for_ever, job_timeout=0.1),
        queue.enqueue(jobs.run_for_ever, job_timeout=0.1),
    ):
        ended(made)

    search = Search(backend_for(queue.connection).store)
    found = {
        one.kind: one for one in search.failure_groups(Filter(host=socket.gethostname())).groups
    }

    assert (found["timed_out"].jobs, found["timed_out"].function) == (2, "tests.jobs.run_for_ever")
    crashed = [one for one in search.page(Filter(cause="crashed")).jobs if "SIGSEGV" in one.cause]
    assert [one.frame.split()[-1] for one in crashed] == ["string_at"]
    assert found["timed_out"].frame.endswith(" run_for_ever")
    assert [one.frame for one in search.page(Filter(cause="exit status 3")).jobs] == [""]


def test_a_timeout_leaves_the_stacks_even_of_c_code_that_keeps_the_gil(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    start_daemon("--preload", "tests.jobs", workers=2)
    stuck = queue.enqueue(jobs.keep_the_gil, job_timeout=0.1)
    threaded = ended(queue.enqueue(jobs.time_out_beside_a_thread, job_timeout=0.3))
    other, main = functions(threaded.stack)
    assert "wait_in_a_thread" in other
    assert main == ["run_for_ever", "time_out_beside_a_thread"]
    assert "in run_for_ever" in (threaded.exc_string or "")
    alone = ended(queue.enqueue(jobs.run_for_ever, job_timeout=0.1))
    assert alone.stack is None  # the traceback has it all
    assert "in run_for_ever" in (alone.exc_string or "")

    killed = ended(stuck)
    assert functions(killed.stack) == [["keep_the_gil"]]
    assert killed.details["signal"] == signal.SIGKILL
    assert killed.details["sent_by"] == "rqd, as it ran on after its timeout"


def test_who_sent_a_signal_is_said_where_it_was_rqd(
    start_daemon: StartDaemon, queue: Queue, fifo: str
) -> None:
    start_daemon("--preload", "tests.jobs")
    job = queue.enqueue(jobs.keep_the_gil, fifo)
    with open(fifo) as started:
        assert started.read() == "here"
    job.stop(grace=0.5, by="ada")
    result = ended(job)
    assert functions(result.stack) == [["keep_the_gil"]]
    assert result.details["sent_by"] == "rqd, for ada"
    assert "sent_by" not in ended(queue.enqueue(jobs.signal_self, int(signal.SIGKILL))).details


def test_what_has_become_another_program_dies_by_a_signal_of_rqds(
    start_daemon: StartDaemon, queue: Queue, fifo: str
) -> None:
    start_daemon("--preload", "tests.jobs")
    job = queue.enqueue(jobs.become_a_shell, f"echo here > {fifo}; exec sleep 60 > /dev/null")
    with open(fifo) as started:
        assert started.read() == "here\n"
    job.stop(grace=30, by="ada")
    result = ended(job)
    assert result.details["signal"] == STOP_SIGNAL
    assert result.details["sent_by"] == "rqd, for ada"
    assert result.cause == "stopped by ada, killed"

    spins = queue.enqueue(jobs.become_a_shell, "while :; do :; done", max_cpu=0.2)
    assert ended(spins).details["sent_by"] == "rqd, as it ran on after its timeout"


def test_a_running_job_shows_its_stack_soon_even_while_c_code_keeps_the_gil(
    start_daemon: StartDaemon, queue: Queue, there: Backend, fifo: str
) -> None:
    daemon = start_daemon("--name", "alpha", "--preload", "tests.jobs")
    job = queue.enqueue(jobs.keep_the_gil, fifo)
    with open(fifo) as started:
        assert started.read() == "here"
    took_s = []
    for _ in range(5):
        begun = time.monotonic()
        assert functions(live_stack(job.id, there).text) == [["keep_the_gil"]]
        took_s.append(time.monotonic() - begun)
    assert min(took_s) < 0.2, took_s
    stack = live_stack(job.id, there)
    told = json.loads(rqd("stack", job.id, "--json", url=there.url).out)
    assert [frame["function"] for frame in told["threads"][0]["frames"]] == ["keep_the_gil"]
    child = daemon.titled("rqd: worker 1 tests.jobs.keep_the_gil")
    assert (stack.worker, stack.attempt, stack.pid) == ("alpha:1", 1, child.pid)
    assert stack.host == socket.gethostname()

    child.suspend()
    with pytest.raises(RqdError, match="its process wrote no stack: it was stopped by a signal"):
        live_stack(job.id, there)
    job.stop(grace=0)
    assert ended(job).stack is None
    with pytest.raises(InvalidJobOperation, match="is stopped: only a running job has a stack"):
        live_stack(job.id, there)
    with pytest.raises(NoSuchJobError):
        live_stack("nobody", there)


def test_a_job_that_has_become_another_program_is_not_killed_by_who_looks_at_it(
    start_daemon: StartDaemon, queue: Queue, there: Backend, fifo: str
) -> None:
    daemon = start_daemon("--preload", "tests.jobs")
    job = queue.enqueue(jobs.become_a_shell, f"echo here > {fifo}; exec sleep 60")
    with open(fifo) as started:
        assert started.read() == "here\n"
    with pytest.raises(RqdError, match="its process has become another program"):
        live_stack(job.id, there)
    assert "died" not in daemon.log()
    job.stop(grace=0.1)
    assert ended(job).type == "stopped"


def test_a_master_that_stands_still_shows_no_stack(
    start_daemon: StartDaemon, queue: Queue, there: Backend, fifo: str
) -> None:
    daemon = start_daemon("--name", "alpha", "--preload", "tests.jobs")
    job = queue.enqueue(jobs.keep_the_gil, fifo)
    with open(fifo) as started:
        assert started.read() == "here"
    daemon.signal(signal.SIGSTOP)
    with pytest.raises(RqdError, match=r"runs on 'alpha', which does not answer within 0\.2 s"):
        live_stack(job.id, there, timeout=0.2)
    daemon.signal(signal.SIGCONT)
