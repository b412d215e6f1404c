"""What a job tells on its channel while it runs: from the child's end to the master's news."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest

from rqd.daemon.workers.updates import PendingUpdates
from rqd.daemon.zygote import protocol
from rqd.daemon.zygote.job_source import JobSource
from rqd.daemon.zygote.protocol import Frame, FrameReader, encode_frame
from rqd.daemon.zygote.timer import raise_cpu_limit, raise_timeout, timer
from rqd.daemon.zygote.updates import UpdateSender
from rqd.model.errors import JobTimeoutException
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]


class Line:
    """A teller, and the far end of its channel."""

    def __init__(self) -> None:
        near, self.far = socket.socketpair()
        self.near = near
        self.teller = UpdateSender(near, os.getpid())
        self.teller.begin(b"7:n")
        self.reader = FrameReader()
        self.far.setblocking(False)

    def heard(self) -> list[Frame]:
        found: list[Frame] = []
        try:
            while data := self.far.recv(65536):
                found += self.reader.feed(data)
        except BlockingIOError:
            pass
        return found


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line()
    yield made
    made.near.close()
    made.far.close()


def test_progress_is_there_at_once(line: Line) -> None:
    line.teller.progress(0.4, "reading")

    assert line.heard() == [(protocol.PROGRESS, [b"7:n", b"0.4", b"reading"])]


def test_of_many_the_latest_arrives_soon_though_nothing_is_told_after_it(line: Line) -> None:
    for number in range(1000):
        line.teller.progress(number / 1000, str(number))
    heard: list[Frame] = []

    def has_come() -> bool:
        heard.extend(line.heard())
        return bool(heard) and heard[-1][1][2] == b"999"

    eventually(has_come, 2.0)
    assert len(heard) < 20
    assert heard[0][1][2] == b"0"


def test_a_full_channel_never_holds_the_job_and_what_is_left_goes_before_the_answer(
    line: Line,
) -> None:
    # The last one reaches the thread, which waits in the socket: the job does not.
    meta = b"x" * 900_000
    started = monotonic()
    for number in range(200):
        line.teller.save_meta(meta[: 900_000 - number], "")
        line.teller.progress(number / 200, str(number))
    assert monotonic() - started < 3

    answering = threading.Thread(target=line.teller.answer, args=(encode_frame(protocol.RAISED),))
    answering.start()
    heard: list[Frame] = []

    def is_whole() -> bool:
        heard.extend(line.heard())
        return bool(heard) and heard[-1][0] == protocol.RAISED

    eventually(is_whole, 5.0)
    answering.join()
    latest = {kind: fields for kind, fields in heard if kind != protocol.RAISED}
    assert latest[protocol.PROGRESS][2] == b"199"
    assert len(latest[protocol.META][1]) == 900_000 - 199


def test_an_extension_reaches_the_master_before_anything_else_can_happen(line: Line) -> None:
    line.teller.progress(0.1, "")
    line.teller.extend(5)
    line.teller.extend(2.5)

    assert [fields[1] for kind, fields in line.heard() if kind == protocol.EXTENDED] == [
        b"5.000000",
        b"7.500000",
    ]
    assert not timer.is_held


@pytest.mark.parametrize("alarm", [raise_timeout, raise_cpu_limit])
def test_a_limit_that_is_reached_amid_what_is_told_waits_for_the_alarms_next_time(
    alarm: Callable[[int, object], None],
) -> None:
    timer.limit_s, timer.runs, timer.is_held = 1.0, True, True
    try:
        alarm(0, None)
        timer.let_go()
        with pytest.raises(JobTimeoutException):
            alarm(0, None)
    finally:
        timer.limit_s, timer.runs, timer.is_held = 0.0, False, False


NONSENSE = [
    ("another token", encode_frame(protocol.PROGRESS)),
    ("another token", encode_frame(protocol.PROGRESS, b"8:n", b"0.5", b"")),
    ("not enough values", encode_frame(protocol.PROGRESS, b"7:n")),
    ("nan", encode_frame(protocol.PROGRESS, b"7:n", b"nan", b"")),
    ("1.1", encode_frame(protocol.PROGRESS, b"7:n", b"1.1", b"")),
    ("half", encode_frame(protocol.PROGRESS, b"7:n", b"half", b"")),
    ("a meta of", encode_frame(protocol.META, b"7:n", b"x" * (1024 * 1024 + 1), b"")),
    ("inf", encode_frame(protocol.EXTENDED, b"7:n", b"inf")),
    ("x", encode_frame(protocol.ASK, b"7:n", b"x")),
    ("-5", encode_frame(protocol.EXTENDED, b"7:n", b"-5")),
]


@pytest.mark.parametrize(("why", "data"), NONSENSE, ids=[why for why, _ in NONSENSE])
def test_what_no_child_of_ours_would_tell_is_an_error(why: str, data: bytes) -> None:
    with pytest.raises(ValueError, match=why):
        PendingUpdates().take(FrameReader().feed(data), b"7:n", 1.0)


def test_who_tells_more_than_a_child_of_ours_ever_would_is_none() -> None:
    news, some = PendingUpdates(), [(protocol.PROGRESS, [b"7:n", b"0.5", b""])] * 500
    news.take(some, b"7:n", 0.0)
    news.take(some, b"7:n", 0.0)
    news.take(some, b"7:n", 3600.0)

    with pytest.raises(ValueError, match="1501 frames"):
        news.take(some[:1], b"7:n", 2.0)


def test_a_child_that_has_nothing_to_do_finds_out_once_and_then_waits() -> None:
    near, far = socket.socketpair()
    idle_at: list[int] = []

    def when_idle() -> None:
        idle_at.append(len(idle_at))
        far.sendall(encode_frame(protocol.JOB, b"id", b"7:n"))

    inbox = JobSource(near, when_idle)
    inbox.warm_up_pending = True

    assert inbox.next_job() == [b"id", b"7:n"]
    assert idle_at == [0]
    assert near.gettimeout() is None
    near.close()
    far.close()


WARM_UP = """
from rqd.daemon.zygote.child import Child
from rqd.daemon.zygote.timer import timer
from rqd.model.trust import Trust
timer.is_to_stop = True
Child(1, lambda title: None, Trust())._warm_up()
assert timer.is_to_stop and not timer.is_held and not timer.runs
"""


def test_an_order_to_stop_is_not_raised_in_what_a_waiting_child_runs_for_nobody() -> None:
    subprocess.run([sys.executable, "-c", WARM_UP], check=True, timeout=20, cwd=ROOT)


def test_what_the_master_sends_a_running_job_is_told_apart() -> None:
    near, far = socket.socketpair()
    inbox = JobSource(near, when_idle=lambda: None)
    far.sendall(encode_frame(protocol.JOB, b"id", b"7:n"))
    assert inbox.next_job() == [b"id", b"7:n"]
    far.sendall(encode_frame(protocol.RECORD, b"6:n", b"of", b"another"))
    far.sendall(
        encode_frame(protocol.EXTEND, b"7:n", b"5") + encode_frame(protocol.EXTEND, b"6:n", b"9")
    )
    far.sendall(encode_frame(protocol.RECORD, b"7:n", b"status", b"started"))
    assert inbox.granted_s() == 5
    assert inbox.record(1.0) == {b"status": b"started"}
    assert inbox.record(0.0) is None
    extend = encode_frame(protocol.EXTEND, b"7:n", b"2")
    far.sendall(extend + encode_frame(protocol.JOB, b"b", b"8:n"))
    assert inbox.record(0.05) is None
    assert inbox.granted_s() == 2
    assert inbox.next_job() == [b"b", b"8:n"]
    far.close()
    assert inbox.record(5.0) is None
    near.close()
