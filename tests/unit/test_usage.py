"""Who is ended for what it uses, and who takes no further job: processes are this one's own."""

from __future__ import annotations

import math
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import pytest

from rqd.daemon.host.cgroups import OomCounter
from rqd.daemon.host.procfs import cpu_s, group_of, own_bytes, size_of
from rqd.daemon.timers import OPEN, Timers
from rqd.daemon.workers.attempt import HARD_KILL_AFTER_S, Attempt
from rqd.daemon.workers.mailbox import Mailbox
from rqd.daemon.workers.pool import Pool
from rqd.daemon.workers.slots import link_to
from rqd.daemon.workers.usage import UsageMonitor
from rqd.daemon.workers.worker import Worker
from rqd.daemon.workers.workers import Workers
from rqd.daemon.zygote.exit_cleanup import children_of
from rqd.daemon.zygote.protocol import CPU_SIGNAL
from rqd.daemon.zygotes.events import Forked
from rqd.model.errors import ConfigurationError
from rqd.model.outcome import Outcome, OutOfMemory, TimedOut, cause
from rqd.model.records import Claim
from rqd.model.resources import ResourceLimits, limits_of, resource_term
from tests.processes import bound_to_pytest

NOBODY = 2**22 - 1


class Kills:
    """As Children, for one worker whose child is this process."""

    def __init__(self, limits: ResourceLimits) -> None:
        self.workers = Workers(limits=limits)
        self.near, self.far = socket.socketpair()
        post, self.letters = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.mailbox = Mailbox(post.detach(), os.dup(self.letters.fileno()))
        self.worker = self.workers.add(1)
        forked = Forked(1, os.getpid(), self.near, -1, self.mailbox)
        child = self.worker.child = link_to(forked, None, 5, self.worker)
        child.parent_pid = os.getppid()
        self.killed: list[Outcome] = []
        self.forking = SimpleNamespace(oom_counter=OomCounter())

    def kill(self, attempt: Attempt, verdict: Outcome, now: float) -> None:
        attempt.killed_at = now
        self.killed.append(verdict)

    def start(self, terms: str = "", worker: int = 1) -> Attempt:
        claim = Claim("id", "7:n", 1, "q", worker, "f", b"", "pickle", 60, 0, 0, (), terms=terms)
        self.workers.by_number[worker].attempt = None
        attempt = self.workers.assign(claim)
        attempt.start(0.0)
        return attempt


# A parent with memory of its own; a job that takes as much, shares it with a process that it forks,
# and then changes all of its parent's.
FAMILY = """
import os, time
from tests.hungry_jobs import PAGE_BYTES, take
inherited = take(20)
if os.fork() == 0:
    taken = take(20)
    if os.fork() == 0:
        time.sleep(60)
    inherited[::PAGE_BYTES] = b"y" * (len(inherited) // PAGE_BYTES)
    print(os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.fixture
def own_mebibytes() -> int:
    # Other tests' servers and command lines, too: they are this process's children.
    used_bytes = own_bytes(group_of(os.getpid(), os.getppid()), os.getppid())
    assert used_bytes is not None
    return used_bytes // 1024**2


@pytest.fixture
def made() -> Iterator[list[Kills]]:
    kills: list[Kills] = []
    yield kills
    for one in kills:
        one.mailbox.close()
        for end in (one.near, one.far, one.letters):
            end.close()


def look(made: list[Kills], limit_mebibytes: float) -> Kills:
    kills = Kills(ResourceLimits(int(limit_mebibytes * 1024**2)))
    made.append(kills)
    kills.start()
    timers = Timers()
    UsageMonitor(cast("Pool", kills), timers).wake()
    timers.run_due(1.0, OPEN)
    return kills


def test_a_job_is_ended_above_its_limit_and_its_process_takes_no_other_above_half_of_it(
    own_mebibytes: int, made: list[Kills]
) -> None:
    above = look(made, own_mebibytes * 0.7)
    half = look(made, own_mebibytes * 1.5)
    below = look(made, own_mebibytes * 4)

    (verdict,) = above.killed
    assert isinstance(verdict, OutOfMemory)
    assert verdict.used_bytes > (verdict.limit_bytes or 0)
    assert not half.killed
    assert not below.killed
    left = [one.worker.child.jobs_left for one in made if one.worker.child]
    assert left == [5, 0, 5]


def test_a_process_that_takes_no_other_job_is_told_so_after_its_answer(
    own_mebibytes: int, made: list[Kills]
) -> None:
    half = look(made, own_mebibytes * 1.5)
    half.far.setblocking(False)
    with pytest.raises(BlockingIOError):
        half.far.recv(1)


def test_a_job_is_told_that_its_cpu_time_is_over_again_and_again_and_then_it_is_killed(
    made: list[Kills],
) -> None:
    kills = Kills(ResourceLimits(cpu_s=0.001))
    made.append(kills)
    attempt = kills.start()
    child = kills.worker.child
    assert child is not None
    timers = Timers()
    consumption = UsageMonitor(cast("Pool", kills), timers)
    for at in (10.0, 10.6):
        with subprocess.Popen(["sleep", "60"]) as told:
            child.pidfd = os.pidfd_open(told.pid)
            consumption.wake()
            timers.run_due(at, OPEN)
            assert told.wait(10) == -CPU_SIGNAL
        os.close(child.pidfd)
    consumption.wake()
    timers.run_due(10.9, OPEN)  # not yet again: this would fail, as nobody is there to be told

    assert attempt.verdict == TimedOut(0.001, killed=False, is_cpu=True)
    assert cause(attempt.verdict) == "timed out after 0.001 s of cpu time"
    assert attempt.deadline == 10 + HARD_KILL_AFTER_S


def test_looks_at_limited_jobs_take_turns_where_there_is_no_time_for_all(
    made: list[Kills],
) -> None:
    kills = Kills(ResourceLimits(memory_bytes=2**40))
    made.append(kills)
    attempts = [kills.start()]
    kills.workers.by_number[2] = Worker(2, child=kills.worker.child)
    attempts.append(kills.start(worker=2))
    timers = Timers()
    hurried = UsageMonitor(cast("Pool", kills), timers, looking_s=0)
    for at, seen in ((100.0, [True, False]), (200.0, [True, True])):
        hurried.wake()
        timers.run_due(at, OPEN)
        assert [attempt.peak_bytes is not None for attempt in attempts] == seen


def test_samples_take_turns_where_there_is_no_time_for_all(made: list[Kills]) -> None:
    kills = Kills(ResourceLimits())
    made.append(kills)
    attempts = [kills.start()]
    kills.workers.by_number[2] = Worker(2, child=kills.worker.child)
    attempts.append(kills.start(worker=2))
    hurried = UsageMonitor(cast("Pool", kills), Timers(), looking_s=0)
    hurried.sample(1.0)
    assert [attempt.sampled_at for attempt in attempts] == [1.0, -math.inf]
    hurried.sample(2.0)
    assert [attempt.sampled_at for attempt in attempts] == [1.0, 2.0]
    assert all(attempt.peak_bytes for attempt in attempts)

    UsageMonitor(cast("Pool", kills), Timers(), looking_s=60).sample(3.0)
    assert [attempt.sampled_at for attempt in attempts] == [3.0, 3.0]


def test_without_limited_jobs_there_is_nothing_to_do(made: list[Kills]) -> None:
    kills = Kills(ResourceLimits())
    made.append(kills)
    timers = Timers()
    consumption = UsageMonitor(cast("Pool", kills), timers)
    kills.start()
    consumption.wake()
    assert timers.next_at(OPEN) == float("inf")

    kills.start('{"resources":{"cpu_s":1000000}}')  # more than the tests' own process ever takes
    consumption.wake()
    assert timers.next_at(OPEN) <= 0
    timers.run_due(10.0, OPEN)
    consumption.wake()
    assert 10 < timers.next_at(OPEN) < 20

    kills.worker.attempt = None
    timers.run_due(20.0, OPEN)
    consumption.wake()
    assert timers.next_at(OPEN) == float("inf")


def test_a_jobs_terms_go_before_the_daemons_limits_and_damaged_ones_say_nothing() -> None:
    daemons = ResourceLimits(1000, 60)

    assert daemons.of_job("") == daemons
    assert daemons.of_job('{"resources":{"memory_bytes":5}}') == ResourceLimits(5, 60)
    assert daemons.of_job('{"resources":{"memory_bytes":-1,"cpu_s":-1}}') == ResourceLimits()
    for damaged in (
        '{"resources":3}',
        '{"resources":{"memory_bytes":"5","cpu_s":true}}',
        '{"resources":{"memory_bytes":-2,"cpu_s":NaN}}',
        '{"resources":{"memory_bytes":1e300,"cpu_s":0}}',
        '"resources"',
    ):
        assert daemons.of_job(damaged) == daemons


@pytest.mark.parametrize(
    ("memory", "cpu", "says"),
    [
        ("512", None, "write 1M or more"),
        ("much", None, "is no size"),
        ("-2", None, "is no size"),
        (None, "0", "write seconds"),
        (None, "long", "is no duration"),
    ],
)
def test_what_is_no_limit_is_refused(memory: str | None, cpu: str | None, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        limits_of(memory, cpu)
    with pytest.raises(ConfigurationError, match=says):
        resource_term(memory, cpu)


def test_limits_are_read_with_their_units_and_minus_one_is_none() -> None:
    assert limits_of("512M", "5m") == ResourceLimits(512 * 1024**2, 300)
    assert limits_of("-1", "-1") == limits_of(None, None) == ResourceLimits()
    assert resource_term(1024**3, 90) == {"memory_bytes": 1024**3, "cpu_s": 90}
    assert resource_term(-1, -1) == {"memory_bytes": -1, "cpu_s": -1}


def test_what_a_process_holds_is_its_own() -> None:
    held = bytearray(b"x" * 10_000_000)
    assert (own_bytes([os.getpid()], os.getppid()) or 0) > len(held)


def test_what_a_job_shares_among_its_own_processes_is_counted_once() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FAMILY],
        stdout=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=bound_to_pytest(60),
    ) as parent:
        try:
            assert parent.stdout is not None
            group = group_of(int(parent.stdout.readline()), parent.pid)
            used_bytes = own_bytes(group, parent.pid) or 0
        finally:
            os.killpg(parent.pid, signal.SIGKILL)
    assert len(group) == 2
    assert 40 <= used_bytes / 1024**2 < 50


def test_nothing_is_told_of_a_process_that_is_gone() -> None:
    assert size_of(NOBODY) is None
    assert own_bytes([NOBODY], os.getpid()) is None
    assert cpu_s([NOBODY]) == 0
    assert group_of(NOBODY, NOBODY) == [NOBODY]
    assert children_of(NOBODY) == []
