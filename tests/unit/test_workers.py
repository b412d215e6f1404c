"""The worker table, fed by hand through real socketpairs: nothing is forked."""

from __future__ import annotations

import gc
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rqd.daemon.control.heartbeat import Gauge, worker_row
from rqd.daemon.settlement import settlement
from rqd.daemon.workers.judging import Judging
from rqd.daemon.workers.prefetch import Prefetch
from rqd.daemon.workers.slots import Slots
from rqd.daemon.workers.worker import HARD_KILL_AFTER_S, Attempt, Worker
from rqd.daemon.workers.workers import Workers
from rqd.daemon.zygote import protocol
from rqd.daemon.zygote.protocol import FrameReader, encode_frame
from rqd.daemon.zygotes.events import Exited, Forked
from rqd.model.outcome import Crashed, Raised, Released, Report, Stopped, Succeeded, TimedOut
from rqd.model.records import Claim
from tests.daemons import ROOT
from tests.fuzzing import fuzz

MEGABYTE = 1_000_000


class Place:
    """A worker table with one place, and the far end of its child's channel."""

    def __init__(self, jobs_per_child: int = 1) -> None:
        self.ends: list[socket.socket] = []
        self.workers = Workers(jobs_per_child)
        self.judging = Judging(self.workers)
        self.ahead = Prefetch(self.workers)
        self.worker = self.workers.by_number[1] = Worker(1)
        self.far = self.fork(100)

    def fork(self, pid: int, worker: int = 1) -> socket.socket:
        near, far = socket.socketpair()
        near.setblocking(False)
        self.ends.append(far)
        self.workers.attach(Forked(worker, pid, near, os.open("/dev/null", os.O_RDONLY)))
        return far

    def close(self) -> None:
        for worker in self.workers:
            self.workers.detach(worker)
        for end in self.ends:
            end.close()

    def give(self, claim: Claim | None = None, now: float = 0.0) -> None:
        self.workers.assign(claim or a_claim())
        self.workers.send(self.worker, now)

    def hear(self, now: float) -> tuple[Attempt, Report] | None:
        return only(self.judging.hear(self.worker, now))

    def reap(self, exited: Exited, baseline: int, now: float) -> tuple[Attempt, Report] | None:
        return only(self.judging.reap(exited, baseline, now))

    def answer(self, kind: int, *fields: bytes) -> None:
        self.far.sendall(encode_frame(kind, b"7:n", *fields))

    def exit(self, status: int = 0, pid: int = 100, **usage: int) -> Exited:
        self.far.close()
        cpu_us, rss = usage.get("cpu_us", 0), usage.get("max_rss_bytes", 0)
        return Exited(1, pid, status, cpu_us, rss)


def only(ended: list[tuple[Attempt, Report]]) -> tuple[Attempt, Report] | None:
    assert len(ended) < 2
    return ended[0] if ended else None


def can_read(end: socket.socket) -> bool:
    return bool(select.select([end], [], [], 0)[0])


@pytest.fixture
def place() -> Iterator[Place]:
    made = Place()
    yield made
    made.close()


@pytest.fixture
def lasting_place() -> Iterator[Place]:
    """A place whose child takes two jobs."""
    made = Place(jobs_per_child=2)
    yield made
    made.close()


def a_claim(
    payload: bytes = b"call", timeout_s: float = 60, worker: int = 1, losses: int = 0
) -> Claim:
    return Claim(
        "id", "7:n", 1, "q", worker, "f", payload, "pickle", timeout_s, 0, 0, (), losses=losses
    )


def test_a_job_reaches_its_child_whole_and_its_answer_comes_back(place: Place) -> None:
    place.give(now=10.0)
    ((kind, fields),) = FrameReader().feed(place.far.recv(65536))
    assert kind == protocol.JOB
    assert fields[:6] == [b"id", b"7:n", b"1", b"q", b"f", b"call"]
    place.answer(protocol.SUCCEEDED, b"result", b"preview", b"1500000", b"200000", b"1000", b"4096")
    heard = place.hear(11.5)
    assert heard is not None
    attempt, report = heard
    assert attempt.claim.id == "id"
    assert report.outcome == Succeeded(b"result", "preview")
    assert (report.usage.wall_s, report.usage.cpu_s) == (1.5, 0.2)
    assert (report.usage.load_s, report.usage.peak_memory_bytes) == (0.001, 4096)
    assert place.workers.free_numbers(1.0) == [1]


def test_a_worker_is_free_while_its_next_child_is_still_forked(place: Place) -> None:
    place.give()
    place.answer(protocol.SUCCEEDED, b"", b"", b"1", b"1", b"1", b"0")
    place.hear(1.0)
    assert place.workers.free_numbers(1.0) == [1]
    assert not place.workers.has_waiting_child()
    place.workers.assign(a_claim())
    place.workers.send(place.worker, 2.0)  # to nobody: the old child takes no more
    assert place.worker.attempt is not None
    assert place.worker.attempt.started_at is None
    place.reap(place.exit(), 0, 2.0)
    far = place.fork(101)
    place.workers.send(place.worker, 3.0)
    assert far.recv(65536)


def test_a_suspect_waits_until_it_is_alone_and_nobody_starts_beside_it(place: Place) -> None:
    place.give()
    place.workers.by_number[2] = Worker(2)
    place.workers.by_number[3] = Worker(3)
    second, third = place.fork(102, worker=2), place.fork(103, worker=3)
    for worker in (2, 3):
        place.workers.assign(a_claim(worker=worker, losses=2))
        place.workers.send(place.workers.by_number[worker], 1.0)
    assert not can_read(second)
    assert place.workers.free_numbers(1.0) == []

    place.answer(protocol.SUCCEEDED, b"", b"", b"1", b"1", b"1", b"0")
    place.hear(1.0)
    for worker in (2, 3):
        place.workers.send(place.workers.by_number[worker], 2.0)

    assert can_read(second)
    assert not can_read(third)


def test_a_suspect_waits_no_longer_than_a_minute_and_is_alone_no_longer(place: Place) -> None:
    place.give(now=0.0)
    place.workers.by_number[2], place.workers.by_number[3] = Worker(2), Worker(3)
    second, third = place.fork(102, worker=2), place.fork(103, worker=3)
    place.workers.assign(a_claim(worker=2, losses=2), now=1.0)
    suspect, other = place.workers.by_number[2], place.workers.by_number[3]
    place.workers.send(suspect, 60.9)
    assert not can_read(second)
    assert place.workers.free_numbers(60.9) == []

    place.workers.send(suspect, 61.0)
    assert can_read(second)
    assert place.workers.free_numbers(120.9) == []
    place.workers.assign(a_claim(worker=3), now=2.0)
    place.workers.send(other, 120.9)
    assert not can_read(third)

    place.workers.send(other, 121.0)
    assert can_read(third)


def test_an_answer_before_the_exit_wins_over_the_exit(place: Place) -> None:
    place.give()
    place.far.recv(65536)
    place.answer(protocol.SUCCEEDED, b"result", b"", b"1", b"1", b"1", b"0")
    ended = place.reap(place.exit(status=9), 0, 1.0)
    assert ended is not None
    assert ended[1].outcome == Succeeded(b"result", "")


def test_a_child_that_dies_at_its_job_crashed_with_what_it_used(place: Place) -> None:
    place.give(now=1.0)
    place.far.recv(65536)
    gone = place.exit(status=139, cpu_us=2_000_000, max_rss_bytes=30 * MEGABYTE)
    ended = place.reap(gone, 12 * MEGABYTE, 3.5)
    assert ended is not None
    outcome, usage = ended[1].outcome, ended[1].usage
    assert outcome == Crashed(signal=11, exit_status=0, core_dumped=True)
    assert (usage.wall_s, usage.cpu_s, usage.peak_memory_bytes) == (2.5, 2.0, 18 * MEGABYTE)
    assert place.worker.child is None


def test_what_a_child_used_that_left_its_job_with_status_0_is_not_known(place: Place) -> None:
    place.give(now=1.0)
    place.far.recv(65536)
    ended = place.reap(place.exit(status=0), 12 * MEGABYTE, 3.5)
    assert ended is not None
    assert ended[1].outcome == Crashed()
    usage = ended[1].usage
    assert (usage.wall_s, usage.cpu_s, usage.peak_memory_bytes) == (2.5, None, None)


def test_a_child_that_dies_with_its_job_unread_charges_nothing(place: Place) -> None:
    place.give()
    ended = place.reap(place.exit(status=9), 0, 1.0)
    assert ended is not None
    assert isinstance(ended[1].outcome, Released)


def test_a_job_unread_at_its_childs_death_is_not_charged_though_its_channel_is_held_open(
    lasting_place: Place,
) -> None:
    """By a process that an earlier job of the child has left, say."""
    lasting_place.ends.append(lasting_place.far.dup())
    lasting_place.give()
    ended = lasting_place.reap(lasting_place.exit(status=0), 0, 1.0)
    assert ended is not None
    assert isinstance(ended[1].outcome, Released)


def test_more_time_that_a_job_never_read_does_not_make_it_one_that_never_started(
    place: Place,
) -> None:
    place.give()
    place.far.recv(65536)
    assert place.workers.extend("id", 7, 5.0) is place.worker
    place.workers.push(place.worker)
    ended = place.reap(place.exit(status=11), 0, 1.0)
    assert ended is not None
    assert ended[1].outcome == Crashed(signal=11, exit_status=0)


def test_a_child_that_says_so_with_its_answer_gets_no_other_job(lasting_place: Place) -> None:
    lasting_place.give()
    lasting_place.far.recv(65536)
    lasting_place.answer(protocol.LAST)
    lasting_place.answer(protocol.SUCCEEDED, b"", b"", b"1", b"1", b"1", b"0")
    assert lasting_place.hear(1.0) is not None
    assert lasting_place.workers.free_numbers(1.0) == [1]
    assert not lasting_place.workers.has_waiting_child()
    lasting_place.give()
    assert not can_read(lasting_place.far)
    assert lasting_place.reap(lasting_place.exit(), 0, 1.0) is None
    lasting_place.far = lasting_place.fork(101)
    lasting_place.workers.send(lasting_place.worker, 2.0)
    assert can_read(lasting_place.far)


def test_a_child_that_dies_amid_a_large_job_charges_nothing(place: Place) -> None:
    place.workers.assign(a_claim(b"x" * 5 * MEGABYTE))
    assert place.workers.send(place.worker, 0.0)  # bytes are left: the socket is full
    place.far.recv(65536)
    ended = place.reap(place.exit(status=9), 0, 1.0)
    assert ended is not None
    assert isinstance(ended[1].outcome, Released)


def test_a_large_job_goes_out_piece_by_piece(place: Place) -> None:
    payload = os.urandom(3 * MEGABYTE)
    place.workers.assign(a_claim(payload))
    more = place.workers.send(place.worker, 0.0)
    reader = FrameReader()
    got: list[protocol.Frame] = []
    while not got:
        got = reader.feed(place.far.recv(262144))
        if more:
            more = place.workers.push(place.worker)
    assert got[0][1][5] == payload


def test_a_killed_jobs_outcome_is_why_it_was_killed(place: Place) -> None:
    place.give()
    place.far.recv(65536)
    assert place.worker.attempt is not None
    place.worker.attempt.verdict = TimedOut(60, killed=True)
    ended = place.reap(place.exit(status=9), 0, 1.0)
    assert ended is not None
    assert ended[1].outcome == TimedOut(60, killed=True)


def test_a_job_that_finished_before_its_kill_succeeded(place: Place) -> None:
    place.give()
    place.far.recv(65536)
    assert place.worker.attempt is not None
    place.worker.attempt.verdict = Released("the daemon stops")
    place.answer(protocol.SUCCEEDED, b"r", b"", b"1", b"1", b"1", b"0")
    ended = place.reap(place.exit(status=9), 0, 1.0)
    assert ended is not None
    assert ended[1].outcome == Succeeded(b"r", "")


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\xff\xff\xff\xff\xff",
        encode_frame(99, b"1", b"1"),
        encode_frame(protocol.SUCCEEDED),
        encode_frame(protocol.SUCCEEDED, b"7:n", b"r", b"p", b"much", b"1", b"1", b"0"),
        encode_frame(protocol.SUCCEEDED, b"r", b"p", b"1", b"1", b"1", b"0"),
        encode_frame(protocol.RAISED, b"7:n", b"1", b"2"),
        encode_frame(protocol.ASKED_AGAIN, b"7:n", b'{"most":-1}', b"", b"1", b"1", b"1", b"0"),
        encode_frame(protocol.ASKED_AGAIN, b"7:n", b"[]", b"", b"1", b"1", b"1", b"0"),
    ],
)
def test_nonsense_on_the_channel_fails_the_job_and_nothing_else(
    place: Place, nonsense: bytes
) -> None:
    place.give()
    place.far.recv(65536)
    place.far.sendall(nonsense)
    ended = place.hear(1.0) or place.reap(place.exit(9), 0, 1.0)
    assert ended is not None
    assert isinstance(ended[1].outcome, Raised)
    assert "broke its channel" in ended[1].outcome.message


def test_what_an_earlier_job_of_the_process_left_does_not_answer_for_a_later_one(
    place: Place,
) -> None:
    place.give()
    late = b"6:earlier", b"r", b"", b"1", b"1", b"1", b"0"
    place.far.sendall(encode_frame(protocol.SUCCEEDED, *late))
    assert place.hear(1.0) is None
    place.answer(protocol.SUCCEEDED, b"its own", b"", b"1", b"1", b"1", b"0")
    heard = place.hear(1.0)
    assert heard is not None
    assert heard[1].outcome == Succeeded(b"its own", "")


def test_the_exit_of_an_earlier_child_is_not_this_ones(place: Place) -> None:
    place.give()
    assert place.reap(Exited(1, 99, 0, 0, 0), 0, 1.0) is None
    assert place.worker.attempt is not None


def test_a_deadline_is_the_timeout_and_the_patience_after_it(place: Place) -> None:
    place.give(a_claim(timeout_s=60), now=100.0)
    assert place.worker.attempt is not None
    assert place.worker.attempt.deadline == 160 + HARD_KILL_AFTER_S


def test_more_time_counts_for_its_attempt_only_and_may_come_before_the_claim(place: Place) -> None:
    assert place.workers.extend("id", 7, 30) is None
    assert place.workers.extend("id", 6, 500) is None
    for number in range(200):
        place.workers.extend("another", number, 1)
    assert place.workers.extend("id", 7, 30) is None
    assert place.workers.extend("id", 7, 10) is None
    place.give(a_claim(timeout_s=60), now=100.0)
    assert place.workers.extend("id", 7, 5) is place.worker
    assert place.workers.extend("id", 8, 5) is None
    place.workers.push(place.worker)

    assert place.worker.attempt is not None
    assert place.worker.attempt.deadline == 100 + 60 + 40 + 5 + HARD_KILL_AFTER_S
    (_, job), (kind, extended) = FrameReader().feed(place.far.recv(65536))
    assert float(job[7]) == 100
    assert (kind, extended) == (protocol.EXTEND, [b"7:n", b"5.000000"])


def test_a_job_without_a_timeout_has_no_deadline(place: Place) -> None:
    place.give(a_claim(timeout_s=-1))
    assert place.worker.attempt is not None
    assert place.worker.attempt.deadline is None


def test_a_reused_child_takes_its_number_of_jobs(lasting_place: Place) -> None:
    place = lasting_place
    for cpu in (b"300000", b"400000"):
        assert place.workers.has_waiting_child()
        place.give()
        place.answer(protocol.SUCCEEDED, b"", b"", b"1", cpu, b"1", b"0")
        assert place.hear(1.0)
    assert not place.workers.has_waiting_child()


def test_a_crash_of_a_reused_child_counts_only_its_last_jobs_cpu(lasting_place: Place) -> None:
    place = lasting_place
    place.give()
    place.answer(protocol.SUCCEEDED, b"", b"", b"1", b"300000", b"1", b"0")
    place.hear(1.0)
    place.far.recv(65536)
    place.give()
    place.far.recv(65536)
    ended = place.reap(place.exit(9, cpu_us=800_000), 0, 2.0)
    assert ended is not None
    assert ended[1].usage.cpu_s == 0.5


@fuzz(100)
@given(
    st.integers(0, 255) | st.sampled_from([*range(30, 36), *range(40, 44)]),
    st.sampled_from([[], [b"7:n"], [b"6:n"]]),
    st.lists(st.binary(max_size=9) | st.sampled_from([b"1", b"-5", b"9" * 400]), max_size=8),
    st.binary(max_size=20),
)
def test_whatever_a_job_writes_on_its_channel_is_an_outcome(
    kind: int, token: list[bytes], fields: list[bytes], garbage: bytes
) -> None:
    place = Place()
    try:
        place.give()
        place.far.recv(65536)
        place.far.sendall(encode_frame(kind, *token, *fields) + garbage)
        ended = place.hear(1.0) or place.reap(place.exit(9), 0, 1.0)
        assert ended is not None
        assert place.workers.current_attempts() == []
        assert settlement(*ended).decision in ("finish", "fail")
    finally:
        place.close()


@pytest.mark.parametrize("kind", [protocol.RAISED, protocol.TIMED_OUT, None])
def test_a_job_that_was_told_to_stop_has_stopped_whatever_it_raised(
    lasting_place: Place, kind: int | None
) -> None:
    place = lasting_place
    place.give()
    attempt = place.worker.attempt
    assert attempt is not None

    place.workers.stop_soon(attempt, Stopped("ops"), 5.0, 1.0)

    assert attempt.deadline == 5.0
    assert not place.workers.has_waiting_child()  # it was this child's last job
    if kind is None:
        ended = place.reap(place.exit(11), 0, 1.0)
    else:
        shown = (b"t", b"m", b"stack", b"") if kind == protocol.RAISED else (b"stack",)
        place.answer(kind, *shown, b"1", b"1", b"1", b"0")
        ended = place.hear(1.0)
    assert ended is not None
    assert ended[1].outcome == Stopped("ops", traceback="stack" if kind else "")
    assert settlement(*ended).decision == "stop"


def test_a_job_that_succeeds_although_it_was_told_to_stop_is_finished(place: Place) -> None:
    place.give()
    assert place.worker.attempt is not None
    place.workers.stop_soon(place.worker.attempt, Stopped("ops"), 5.0, 1.0)
    place.answer(protocol.SUCCEEDED, b"r", b"", b"1", b"1", b"1", b"0")
    ended = place.hear(1.0)
    assert ended is not None
    assert settlement(*ended).decision == "finish"


def test_a_row_without_a_process_is_corrected_once_there_is_one(place: Place) -> None:
    assert place.workers.without_row_pid() == [place.worker]
    assert place.workers.refresh_pids()
    assert not place.workers.refresh_pids()

    place.workers.assign(a_claim())
    place.workers.note_row_pid(1, 0)  # it was claimed while no child waited

    assert place.workers.refresh_pids()
    assert not place.workers.without_row_pid()


def test_a_thousand_workers_come_and_go_in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    slots = Slots.__new__(Slots)
    workers = slots._workers = Workers(1)
    for number in range(1, 5):
        workers.by_number[number] = Worker(number)
    workers.by_number[2].wanted = False
    filled: list[int] = []
    monkeypatch.setattr(slots, "fill", lambda worker, _now: filled.append(worker.number))
    monkeypatch.setattr(slots, "_retire", lambda worker, _now: setattr(worker, "wanted", False))

    def wanted() -> list[int]:
        return sorted(worker.number for worker in workers if worker.wanted)

    slots.resize_to(3, 1.0)
    assert (wanted(), filled) == ([1, 3, 4], [])
    slots.resize_to(5, 1.0)
    assert (wanted(), filled) == ([1, 2, 3, 4, 5], [2, 5])
    gc.collect()  # of all that other tests have left here, which a master has not
    gc.disable()
    began_s = time.process_time()
    slots.resize_to(1000, 1.0)
    took_s = time.process_time() - began_s
    gc.enable()
    assert took_s < 0.2, "the master does nothing else meanwhile"
    assert wanted() == [*range(1, 1001)]
    slots.resize_to(2, 1.0)
    assert wanted() == [1, 2]


WITHOUT_DESCRIPTORS = """
import os, resource
from rqd.daemon.control.heartbeat import Gauge
gauge, pid = Gauge(), os.getpid()
assert gauge.read(pid, 1.0)["rss_bytes"] > 0
most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, most[1]))  # standard input, output and error
assert gauge.read(pid, 2.0) == {}
resource.setrlimit(resource.RLIMIT_NOFILE, most)
assert gauge.read(pid, 3.0)["rss_bytes"] > 0
"""


def test_a_process_that_can_not_be_looked_at_ends_nobody() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_DESCRIPTORS], check=True, timeout=20, cwd=ROOT)


def test_a_second_look_within_a_second_tells_the_cpu_of_the_last_one() -> None:
    gauge, pid = Gauge(), os.getpid()
    gauge.read(pid, 100.0)
    began_s = time.process_time()
    while time.process_time() - began_s < 0.05:
        pass

    told = gauge.read(pid, 110.0)["cpu_percent"]
    while time.process_time() - began_s < 0.1:
        pass
    again = gauge.read(pid, 110.002)["cpu_percent"]

    assert 0.4 <= float(told) <= 20
    assert again == told
    assert float(gauge.read(pid, 120.0)["cpu_percent"]) >= 0.4


def test_a_worker_is_busy_until_the_end_of_its_job_is_recorded() -> None:
    worker, attempt = Worker(1), Attempt(a_claim(), 1, started_at=1.0)

    row = worker_row(worker, attempt, Gauge(), 2.0, "host")

    assert (row["state"], row["job"]) == ("busy", "id")
    assert worker_row(worker, None, Gauge(), 2.0, "host")["state"] == "starting"
