"""The daemon's small parts: log, tail, duties, settings, settling, loop and notifier."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Any, cast

import pytest

from rqd.daemon.config import Config, LogSettings
from rqd.daemon.control.heartbeat import Heartbeat
from rqd.daemon.host.systemd import Notifier
from rqd.daemon.instance import Holder, Instance, masters_here
from rqd.daemon.log.log import open_log
from rqd.daemon.redis_client import RedisLink
from rqd.daemon.settlement import settlement
from rqd.daemon.timers import OPEN, Needs, Timers
from rqd.daemon.workers.attempt import Attempt
from rqd.daemon.workers.forensics import crash_from_status
from rqd.daemon.workers.output_buffer import TAIL_BYTES, Tail
from rqd.exceptions import ConfigurationError
from rqd.model.outcome import (
    Crashed,
    Lost,
    Outcome,
    Raised,
    Released,
    Report,
    Succeeded,
    TimedOut,
    Usage,
)
from rqd.model.records import Claim


def test_a_tail_keeps_the_end_and_gives_whole_lines() -> None:
    tail = Tail()
    assert tail.feed(b"one\ntw") == b"one\n"
    assert tail.feed(b"o\nthree") == b"two\n"
    assert tail.since(4) == (4, b"two\nthree")
    assert tail.take() == (b"one\ntwo\nthree", 13, b"three\n")
    assert tail.take() == (b"", 0, b"")
    tail.feed(b"a\n" * TAIL_BYTES)
    assert tail.since(5) == (TAIL_BYTES, b"a\n" * (TAIL_BYTES // 2))
    assert tail.since(2 * TAIL_BYTES) == (2 * TAIL_BYTES, b"")
    assert len(tail.take()[0]) == TAIL_BYTES


def test_a_line_without_an_end_is_given_in_parts() -> None:
    tail = Tail()
    assert tail.feed(b"x" * (TAIL_BYTES + 1)) == b"x" * (TAIL_BYTES + 1) + b"\n"


@pytest.mark.parametrize(
    ("status", "crash"),
    [
        (9, Crashed(signal=9)),
        (139, Crashed(signal=11, core_dumped=True)),
        (768, Crashed(exit_status=3)),
    ],
)
def test_a_wait_status_tells_the_crash(status: int, crash: Crashed) -> None:
    assert crash_from_status(status) == crash


def test_a_timer_runs_once_when_it_is_due() -> None:
    timers, ran = Timers(), list[tuple[str, float]]()
    beat = timers.timer(lambda now: ran.append(("beat", now)), at=100.0)
    poll = timers.timer(lambda now: ran.append(("poll", now)))
    timers.run_due(99.9, OPEN)
    timers.run_due(100.0, OPEN)
    timers.run_due(100.0, OPEN)
    assert ran == [("beat", 100.0)]
    assert timers.next_at(OPEN) == float("inf")

    poll.hasten(101.0)
    poll.hasten(102.0)
    beat.set(103.0)
    assert timers.next_at(OPEN) == 101.0
    beat.clear()
    timers.run_due(103.0, OPEN)
    assert ran == [("beat", 100.0), ("poll", 103.0)]


def test_a_timer_that_sets_itself_runs_once_in_a_pass() -> None:
    timers, ran = Timers(), list[float]()

    def again(now: float) -> None:
        ran.append(now)
        timer.set(now)

    timer = timers.timer(again, at=1.0)
    timers.run_due(1.0, OPEN)
    assert ran == [1.0]
    assert timers.next_at(OPEN) == 1.0


@pytest.mark.parametrize(
    ("needs", "due_at"), [(Needs.NOTHING, 1.0), (Needs.REDIS, 2.0), (Needs.BETWEEN_TURNS, 3.0)]
)
def test_a_timer_waits_for_its_gate(needs: Needs, due_at: float) -> None:
    timers, ran, gates = Timers(), list[float](), (float("-inf"), 2.0, 3.0)
    timers.timer(ran.append, needs, at=1.0)
    assert timers.next_at(gates) == due_at
    timers.run_due(due_at - 0.1, gates)
    assert ran == []
    timers.run_due(due_at, gates)
    assert ran == [due_at]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"workers": 0}, "--workers 0"),
        ({"workers": 1001}, "--workers 1001"),
        ({"queues": ()}, "--queues is empty"),
        ({"queues": ("a", "a")}, "names a queue twice"),
        ({"queues": ("a b",)}, "queue name 'a b'"),
        ({"jobs_per_child": 0}, "--jobs-per-child 0"),
        ({"grace_s": -1}, "--grace -1"),
        ({"nice": -1}, "--nice -1"),
        ({"max_files": 103}, "--max-files 103: with 4 workers write 104 or more"),
        ({"max_files": 2**40}, "--max-files 1099511627776: write"),
        ({"path": ("/no/such/folder",)}, "--path /no/such/folder"),
        ({"preload": ("a-b",)}, "--preload a-b"),
        ({"namespace": "a{b"}, "namespace 'a{b'"),
        ({"name": "a b"}, "master name 'a b'"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_with_its_name(
    settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        Config(url="redis://localhost", **settings)


@pytest.mark.parametrize(
    ("outcome", "decision", "fields"),
    [
        (Succeeded(b"r", "5"), "finish", {"preview": "5"}),
        (Raised("a.B", "m", "tb"), "fail", {"exc_type": "a.B", "exc_string": "tb"}),
        (
            TimedOut(3, killed=True),
            "fail",
            {"cause": "timed out after 3 s, killed as it did not stop"},
        ),
        (Crashed(signal=9), "fail", {"signal": 9, "cause": "crashed: SIGKILL", "output": b"tail"}),
        (Released("stop"), "put_back", {}),
        (Lost("its zygote died"), "lose", {"cause": "lost as its zygote died"}),
    ],
)
def test_a_settlement_records_what_the_attempt_came_to(
    outcome: Outcome, decision: str, fields: dict[str, object]
) -> None:
    claim = Claim("id", "7:n", 1, "q", 3, "f", b"", "pickle", 60, 0, 0, ())
    report = Report(outcome, Usage(1.5, 0.5, 1000), pid=42, output_tail=b"tail", output_bytes=4)
    made = settlement(Attempt(claim, 3), report)
    assert (made.id, made.token, made.worker, made.decision) == ("id", "7:n", 3, decision)
    recorded = dict(made.fields)
    assert fields.items() <= recorded.items()
    if decision != "put_back":
        assert recorded["pid"] == 42
        assert recorded["wall_s"] == "1.500000"


def test_a_retry_carries_its_delay_in_microseconds() -> None:
    claim = Claim("id", "7:n", 2, "q", 3, "f", b"", "pickle", 60, 1, 1, (1.0, 2.5))
    made = settlement(Attempt(claim, 3), Report(Raised("a.B", "m", "tb")))
    assert (made.decision, made.delay_us) == ("retry", 2_500_000)


def test_systemd_hears_ready_status_and_stopping(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        notifier = Notifier(address)
        notifier.ready()
        notifier.status("1/4 busy")
        notifier.status("1/4 busy")  # unchanged: not sent again
        notifier.stopping()
        heard = [systemd.recv(4096) for _ in range(3)]
    assert heard == [b"READY=1", b"STATUS=1/4 busy", b"STOPPING=1"]


def test_without_systemd_nothing_is_sent() -> None:
    Notifier("").ready()
    Notifier("/no/such/socket").ready()


def test_a_master_shows_its_name_and_state_from_the_moment_that_it_shows_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    instance = Instance("redis://h", "here", "name")

    (one,) = masters_here()
    assert (one.name, one.state, one.namespace, one.url) == (
        "name",
        "starting",
        "here",
        "redis://h",
    )
    assert [*masters_here(("redis://h", "here"))] != []
    assert [*masters_here(("redis://h", "other"))] == [*masters_here(("redis://i", "here"))] == []

    instance.leave()
    assert not [*masters_here()]


def test_who_had_a_lock_is_known_until_a_successor_says_otherwise_and_only_in_this_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    first = Instance("redis://h", "here", "name")
    assert first.predecessor is None
    dead = Holder(first.boot, str(os.getpid()))
    os.close(first.lock_fd)  # as by its death

    for _ in range(2):  # the first of these fails before it has the name in Redis
        failing = Instance("redis://h", "here", "name")
        assert failing.predecessor == dead
        failing.note_state("starting")
        failing.release()
    second = Instance("redis://h", "here", "name")
    second.succeed()
    second.note_state("idle")
    os.close(second.lock_fd)
    third = Instance("redis://h", "here", "name")
    assert third.predecessor == Holder(second.boot, str(os.getpid()))
    os.close(third.lock_fd)

    elsewhere = third.lock_path.read_text().replace(third.lock_id, f"{third.lock_id}9")
    third.lock_path.write_text(elsewhere)
    assert Instance("redis://h", "here", "name").predecessor is None


def test_a_lock_on_a_full_disk_ends_no_master(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    instance = Instance("redis://h", "full", "name")
    with open("/dev/full", "r+b", buffering=0) as full:
        os.dup2(full.fileno(), instance.lock_fd, inheritable=False)
    log = open_log(LogSettings(format="text", file=str(tmp_path / "log")))
    presence = Heartbeat(Config("redis://h"), instance, cast("RedisLink", None), log)
    for _ in range(2):
        presence.pulse("idle")
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert "WARNING state not shown on this host error='[Errno 28] No space left" in line
    instance.lock_path.unlink()
    instance.leave()
