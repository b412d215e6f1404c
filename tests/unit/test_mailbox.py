"""What a child was given ahead: who has which job, whenever its master takes it back."""

from __future__ import annotations

import _socket
import fcntl
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rqd.daemon.control.commands import Stops
from rqd.daemon.control.stack_requests import StackRequests
from rqd.daemon.timers import OPEN, Timers
from rqd.daemon.workers import prefetch
from rqd.daemon.workers.attempt import HARD_KILL_AFTER_S, Attempt
from rqd.daemon.workers.mailbox import LONGEST_MESSAGE_BYTES, Mailbox
from rqd.daemon.workers.pool import Pool
from rqd.daemon.workers.reader import Ended
from rqd.daemon.workers.worker import Worker
from rqd.daemon.zygote import protocol
from rqd.daemon.zygote.child import _begins_behind
from rqd.daemon.zygote.job_source import JobSource
from rqd.daemon.zygote.protocol import FrameReader, encode_frame, mark_of
from rqd.model.outcome import (
    Crashed,
    Lost,
    Outcome,
    Raised,
    Released,
    Stopped,
    Succeeded,
    TimedOut,
)
from rqd.model.resources import ResourceLimits
from tests.fuzzing import fuzz
from tests.place import Box, Silent, claim_of, names
from tests.unit.test_prefetch import ALWAYS, held


@pytest.fixture
def box() -> Iterator[Box]:
    made = Box(ALWAYS)
    yield made
    made.close()


def test_a_child_goes_on_by_itself_and_all_its_answers_are_heard_together(box: Box) -> None:
    box.begin("a", "b", "c")
    for name in "abc":
        assert box.take() == name
        box.succeed(name)

    assert box.heard() == ["a", "b", "c"]
    assert held(box.workers) == []
    assert box.jobs_left == ALWAYS - 3
    assert box.worker.pace_s == pytest.approx(1 / 3)


def test_the_one_that_follows_runs_from_the_answer_before_it_on(box: Box) -> None:
    box.begin("a", "b")
    box.take()
    box.succeed("a")

    box.heard(at=2.0)

    assert box.worker.attempt is not None
    assert (box.worker.attempt.claim.id, box.worker.attempt.started_at) == ("b", 2.0)
    assert box.worker.attempt.deadline == pytest.approx(67)


def test_what_the_child_has_not_read_is_taken_back(box: Box) -> None:
    box.begin("a", "b", "c")
    box.take()

    assert names_of(box.worker.release_unstarted()) == ["b", "c"]

    assert box.take() == ""
    assert held(box.workers) == ["a"]
    assert box.jobs_left == ALWAYS - 1


def names_of(attempts: list[Attempt]) -> list[str]:
    return [attempt.claim.id for attempt in attempts]


def test_what_the_child_has_read_is_not_though_its_master_has_not_heard_of_it(box: Box) -> None:
    box.begin("a", "b", "c")
    box.take()
    box.succeed("a")
    box.take()

    assert names_of(box.worker.release_unstarted()) == ["c"]
    assert box.heard() == ["a"]
    assert held(box.workers) == ["b"]


def test_a_job_that_was_not_begun_is_begun_again_as_if_it_had_never_been_given(box: Box) -> None:
    box.begin("a")

    box.worker.recall()

    attempt = box.worker.attempt
    assert attempt is not None
    assert (attempt.started_at, attempt.deadline, attempt.is_held) == (None, None, True)
    box.start(3.0)
    assert (box.take(), attempt.started_at) == ("a", 3.0)


def test_the_child_may_take_one_between_two_that_are_taken_back(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.begin("a", "b", "c")
    monkeypatch.setattr(Mailbox, "take_back", lambda _self: {"7:a", "7:c"})

    box.worker.recall()

    assert held(box.workers) == ["b", "a", "c"]
    assert box.worker.attempt is not None
    assert box.worker.attempt.started_at is not None
    assert all(attempt.is_held for attempt in box.worker.prefetched)


def test_a_death_charges_only_the_job_that_was_taken(box: Box) -> None:
    box.begin("a", "b", "c")
    box.take()
    box.succeed("a")
    box.take()

    ended = box.read_last(box.exit(status=9), 0, 2.0)

    assert names(ended) == ["a", "b"]
    assert [type(report.outcome) for _, report in ended] == [Succeeded, Crashed]
    assert held(box.workers) == ["c"]
    box.fork(101)
    box.start(3.0)
    assert box.take() == "c"


def test_a_child_that_dies_before_it_took_its_job_charges_nothing(box: Box) -> None:
    box.begin("a", "b")

    assert box.read_last(box.exit(status=9), 0, 2.0) == []
    assert held(box.workers) == ["a", "b"]


def test_a_child_that_takes_no_more_jobs_leaves_the_others(box: Box) -> None:
    box.begin("a", "b")
    box.take()
    box.far.sendall(encode_frame(protocol.LAST, b"7:a"))
    box.succeed("a")

    assert box.heard() == ["a"]

    assert box.jobs_left == 0
    assert box.take() == ""
    assert held(box.workers) == ["b"]
    assert box.worker.attempt is not None
    assert box.worker.attempt.started_at is None


def test_a_child_gets_no_more_jobs_than_it_takes() -> None:
    box = Box(jobs_per_child=2)
    try:
        box.begin("a", "b", "c")
        assert [box.take(), box.take(), box.take()] == ["a", "b", ""]
        for name in "ab":
            box.succeed(name)
        assert box.heard() == ["a", "b"]
        assert box.worker.child is not None
        assert box.worker.child.leave_by is not None
    finally:
        box.close()


def test_what_came_too_late_was_not_begun(box: Box) -> None:
    box.begin("a", "b")
    box.take()
    box.succeed("a")
    box.take()
    box.far.sendall(encode_frame(protocol.TOO_LATE, b"7:b", *[b"0"] * protocol.USED_FIELDS))

    _, (attempt, report) = box.read(2.0)

    assert isinstance(report.outcome, Released)
    assert attempt.started_at is None


def test_what_came_too_late_has_left_a_mark_that_is_in_no_jobs_output(box: Box) -> None:
    box.begin("a", "b", "c")
    marks = [attempt.mark for attempt in box.worker.prefetched]
    box.take()
    box.succeed("a")
    box.far.sendall(encode_frame(protocol.TOO_LATE, b"7:b", *[b"0"] * protocol.USED_FIELDS))
    box.succeed("c")
    data = b"".join((b"of a", marks[0], marks[1], b"of c"))

    told = []
    for attempt, _ in box.read(2.0):
        told.append(box.worker.splitter.feed(data, attempt.mark))
        data = b""

    assert told == [b"of a", b"", b"of c"]


def test_a_child_that_waited_to_write_its_mark_may_be_too_late() -> None:
    read_fd, write_fd = os.pipe()
    inbox = JobSource(_socket.socket.__new__(_socket.socket), lambda: None)
    inbox.token = b"7:b"
    try:
        size = fcntl.fcntl(write_fd, fcntl.F_SETPIPE_SZ, 4096)
        os.write(write_fd, bytes(size))
        inbox.start_by = time.monotonic() + 0.05
        late = threading.Timer(0.2, os.read, (read_fd, size))
        late.start()

        assert not _begins_behind(inbox, write_fd)

        late.join()
        assert os.read(read_fd, size) == mark_of(b"7:b")
        inbox.start_by = time.monotonic() + 60
        assert _begins_behind(inbox, write_fd)
    finally:
        os.close(read_fd)
        os.close(write_fd)


def test_a_job_that_was_behind_no_other_is_never_too_late(box: Box) -> None:
    box.begin("a")
    box.take()
    box.far.sendall(encode_frame(protocol.TOO_LATE, b"7:a", *[b"0"] * protocol.USED_FIELDS))

    assert box.heard() == []
    assert box.worker.child is not None
    assert box.worker.child.is_broken


def test_a_child_that_is_let_go_leaves_what_it_has_not_begun(box: Box) -> None:
    box.begin("a", "b")

    box.worker.detach()

    assert box.take() == ""
    assert all(attempt.is_held for attempt in box.worker.held())


def test_a_child_hears_that_it_is_to_leave_though_another_process_has_its_masters_ends(
    box: Box,
) -> None:
    child = box.worker.child
    assert child is not None
    # A child that the zygote forked before it had passed them on has copies.
    ends = (child.channel, box.mailbox.near, box.mailbox.far)
    copies = [os.dup(end.fileno()) for end in ends]
    try:
        box.worker.detach()

        assert box.letters.recv(LONGEST_MESSAGE_BYTES, socket.MSG_DONTWAIT) == b""
        assert box.far.recv(LONGEST_MESSAGE_BYTES, socket.MSG_DONTWAIT) == b""
    finally:
        for fd in copies:
            os.close(fd)


def test_a_job_too_large_for_a_message_comes_by_the_channel_and_alone(box: Box) -> None:
    box.workers.assign(replace(claim_of("a"), payload=bytes(LONGEST_MESSAGE_BYTES)), now=1.0)
    box.begin("b")
    assert held(box.workers) == ["a", "b"]

    ((kind, _),) = FrameReader().feed(box.letters.recv(LONGEST_MESSAGE_BYTES))
    assert kind == protocol.LARGE
    ((kind, fields),) = FrameReader().feed(box.far.recv(2 * LONGEST_MESSAGE_BYTES))
    assert (kind, fields[0]) == (protocol.JOB, b"a")
    assert box.take() == ""

    box.worker.recall()
    assert box.worker.attempt is not None
    assert box.worker.attempt.started_at is not None


def test_a_job_by_the_channel_is_behind_no_other_one_whatever_was_before() -> None:
    master, channel = _socket.socketpair()
    post, letters = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    inbox = JobSource(channel, lambda: None)
    inbox.mailbox = letters
    rest = [b"1", b"q", b"f", b"call", b"pickle", b"60"]
    try:
        post.send(encode_frame(protocol.NEXT, b"a", b"7:a", b"12.5", *rest))
        assert inbox.next_job() == [b"a", b"7:a", *rest]
        assert inbox.start_by == 12.5

        post.send(encode_frame(protocol.LARGE, b"b", b"8:b"))
        master.send(encode_frame(protocol.JOB, b"b", b"8:b", *rest))

        assert inbox.next_job() == [b"b", b"8:b", *rest]
        assert (inbox.token, inbox.start_by) == (b"8:b", 0)
    finally:
        for end in (master, channel, post, letters):
            end.close()


def test_a_child_lets_its_master_go_on_before_it_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    post, letters = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    letters.setblocking(False)  # to sleep is an error
    inbox = JobSource(_socket.socket.__new__(_socket.socket), lambda: None)
    inbox.mailbox = letters
    rest = [b"1", b"q", b"f", b"call", b"pickle", b"60"]
    posted = encode_frame(protocol.NEXT, b"a", b"7:a", b"12.5", *rest)
    monkeypatch.setattr("rqd.daemon.zygote.job_source.sched_yield", lambda: post.send(posted))
    try:
        assert inbox.next_job() == [b"a", b"7:a", *rest]

        monkeypatch.setattr("rqd.daemon.zygote.job_source.sched_yield", post.close)
        assert inbox.next_job() is None
    finally:
        letters.close()


def test_a_job_by_the_channel_comes_behind_what_the_one_before_has_not_read(box: Box) -> None:
    box.begin("a")
    attempt = box.worker.attempt
    assert attempt is not None
    box.take()
    box.pool.answer_ask(attempt, {b"meta": bytes(1_000_000)})
    assert box.push()  # there is no room for all of it
    box.succeed("a")
    box.heard()

    box.workers.assign(replace(claim_of("b"), payload=bytes(LONGEST_MESSAGE_BYTES)), now=1.0)
    box.start(2.0)

    reader, told = FrameReader(), list[protocol.Frame]()
    while len(told) < 2:
        told += reader.feed(box.far.recv(2**20, socket.MSG_DONTWAIT))
        box.push()
    assert [(kind, fields[0]) for kind, fields in told] == [
        (protocol.RECORD, b"7:a"),
        (protocol.JOB, b"b"),
    ]


def test_nothing_goes_to_a_child_behind_what_may_have_to_be_ended(box: Box) -> None:
    box.begin("a")
    attempt = box.worker.attempt
    assert attempt is not None
    box.take()
    box.worker.stop(Stopped("ops"), 5.0, 1.0)

    box.begin("b")

    assert box.take() == ""
    assert held(box.workers) == ["a", "b"]


@pytest.mark.parametrize("is_stopped", [False, True])
def test_a_child_that_is_to_take_no_other_job_than_one_it_has_not_begun_leaves(
    box: Box, is_stopped: bool
) -> None:
    box.begin("a")
    attempt, child = box.worker.attempt, box.worker.child
    assert attempt is not None
    assert child is not None

    if is_stopped:
        box.worker.stop(TimedOut(1.0, killed=False, is_cpu=True), 9.0, 2.0)
    else:
        box.worker.retire_after_current(2.0)

    assert box.take() == ""
    assert box.is_told_to_leave()
    assert child.leave_by == 2.0 + HARD_KILL_AFTER_S
    assert box.reap(box.exit(), 0, 3.0) is None
    box.far = box.fork(101)
    box.begin()
    assert box.take() == "a"
    assert attempt.deadline == attempt.claim.timeout_s + 1.0 + HARD_KILL_AFTER_S


def test_a_job_that_has_no_room_in_the_mailbox_goes_by_the_channel(box: Box) -> None:
    # As where net.core.wmem_default is set low.
    box.mailbox.near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    claim = replace(claim_of("a"), payload=b"x" * 20_000)

    box.workers.assign(claim, now=1.0)
    box.start(1.0)

    assert box.take() == "a"  # that it is in the channel
    ((kind, fields),) = FrameReader().feed(box.far.recv(2**20, socket.MSG_DONTWAIT))
    assert (kind, fields[0], fields[5]) == (protocol.JOB, b"a", claim.payload)
    assert box.worker.attempt is not None
    box.workers.assign(claim_of("b"), now=1.0)
    box.start(1.0)
    assert box.take() == ""  # behind it there is none


@pytest.mark.parametrize("at", [0, 1])
def test_a_job_with_a_limit_runs_alone_in_its_process(box: Box, at: int) -> None:
    for number, name in enumerate("ab"):
        attempt = box.workers.assign(claim_of(name), now=1.0)
        attempt.limits = ResourceLimits(memory_bytes=1) if number == at else attempt.limits
    box.begin()

    assert [box.take(), box.take()] == ["a", ""]


def test_a_suspect_goes_to_no_child_behind_another_one(box: Box) -> None:
    box.workers.assign(claim_of("a"), now=1.0)
    box.workers.assign(claim_of("b", losses=2), now=1.0)
    box.begin()

    assert [box.take(), box.take()] == ["a", ""]


@pytest.fixture
def pool(box: Box) -> Pool:
    """Of a master without a zygote, whose only worker is the box's."""
    return box.pool


def began_behind(box: Box, *names: str) -> tuple[Attempt, Attempt]:
    """The child has answered for the first one, and runs the second one; nobody has heard of it."""
    box.begin(*names)
    box.take()
    box.succeed(names[0])
    box.take()
    first, second, *_ = box.worker.held()
    return first, second


def told(ended: list[Ended]) -> list[tuple[str, type[Outcome]]]:
    return [(one.attempt.claim.id, type(one.report.outcome)) for one in ended]


def test_a_kill_meets_the_job_that_was_begun_behind_another(box: Box, pool: Pool) -> None:
    _, second = began_behind(box, "a", "b", "c")

    pool.kill(second, Released("killed"), 2.0)

    assert second.killed_at == 2.0
    assert pool.ended_meanwhile
    assert told(pool.poll(set(), 2.0)) == [("a", Succeeded), ("c", Released)]


def test_a_kill_of_a_job_that_has_just_ended_meets_no_other(box: Box, pool: Pool) -> None:
    first, second = began_behind(box, "a", "b")

    pool.kill(first, Released("killed"), 2.0)

    assert (first.killed_at, second.killed_at) == (None, None)


def test_a_deadline_meets_no_job_that_was_begun_behind_its_own(
    box: Box, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = began_behind(box, "a", "b")
    monkeypatch.setattr(
        box.worker.child, "ask_for_stacks", lambda: pytest.fail("asked for its stack")
    )
    first.deadline = 1.9

    box.perform(2.0)

    assert (first.killed_at, second.killed_at) == (None, None)


def test_a_child_that_goes_on_without_an_answer_is_found_out_though_nothing_wakes_its_master(
    box: Box, pool: Pool
) -> None:
    box.begin("a", "b")
    box.take()
    box.take()
    first = box.worker.attempt
    assert first is not None
    first.deadline = 1.9

    box.perform(2.0)  # it can't be seen whose deadline that is
    box.perform(2.0)

    child = box.worker.child
    assert child is not None
    assert (child.is_broken, child.is_overdue) == (True, True)
    assert isinstance(first.verdict, Raised)
    box.perform(2.0)
    assert box.timers.next_at(OPEN) > 2.0  # until its kill is due again its master rests


def test_a_process_that_does_not_take_its_job_until_the_deadline_is_killed(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[int] = []
    monkeypatch.setattr(box.worker.child, "ask_for_kill", lambda: killed.append(100))
    box.begin("a")
    attempt = box.worker.attempt
    assert attempt is not None
    attempt.deadline, attempt.is_stack_asked = 1.9, True

    box.perform(2.0)

    assert killed == [100]
    assert box.read_last(box.exit(9), 0, 2.1) == []
    assert (attempt.started_at, attempt.verdict) == (None, None)  # it is not to blame


def test_what_is_released_leaves_those_that_run(box: Box, pool: Pool) -> None:
    began_behind(box, "a", "b", "c")

    ended = pool.release_unsent("paused", 2.0)

    assert told(ended) == [("a", Succeeded), ("c", Released)]
    (attempt,) = pool.workers.current_attempts()
    assert (attempt.claim.id, attempt.started_at) == ("b", 2.0)


def test_a_job_that_was_begun_behind_another_gets_its_time(box: Box, pool: Pool) -> None:
    _, second = began_behind(box, "a", "b")

    assert pool.extend("b", 7, 30.0, 2.0)

    assert second.deadline == 2.0 + 60 + 30 + HARD_KILL_AFTER_S
    ((kind, fields),) = FrameReader().feed(box.far.recv(65536))
    assert (kind, fields) == (protocol.EXTEND, [b"7:b", b"30.000000"])


def test_all_that_run_are_killed_at_an_operators_word(box: Box, pool: Pool) -> None:
    _, second = began_behind(box, "a", "b")

    Stops(pool, Silent()).kill(None, 2.0)  # type: ignore[arg-type]  # stand-in

    assert isinstance(second.verdict, Crashed)


def test_a_stop_of_a_job_that_has_just_ended_meets_no_other(box: Box, pool: Pool) -> None:
    began_behind(box, "a", "b")

    Stops(pool, Silent()).obey([{"token": "7:a"}], 2.0)  # type: ignore[arg-type]  # stand-in

    assert [attempt.verdict for attempt in pool.workers.current_attempts()] == [None]


def test_a_job_whose_lease_was_lost_is_killed_or_never_begins(box: Box, pool: Pool) -> None:
    _, second = began_behind(box, "a", "b", "c", "d")

    assert pool.lose({"7:b", "7:c"}, 2.0) == [second]

    assert second.killed_at == 2.0
    assert held(pool.workers) == ["b", "d"]
    assert box.take() == ""


def test_at_a_reload_no_job_begins_in_an_old_process(box: Box, pool: Pool) -> None:
    box.begin("a", "b")

    pool.slots.change_over(2.0)

    assert box.worker.child is None
    assert box.take() == ""
    assert held(pool.workers) == ["a", "b"]


def test_a_worker_that_is_taken_away_begins_nothing_more(box: Box, pool: Pool) -> None:
    box.begin("a", "b")
    box.take()

    pool.slots.retire_all(2.0)

    assert box.take() == ""
    assert held(pool.workers) == ["a", "b"]


def test_who_has_more_to_do_is_heard_when_a_turn_goes_and_not_before(box: Box, pool: Pool) -> None:
    box.begin("a", "b", "c")
    box.take()
    pool.channels.listen(box.worker, 1.0)
    box.succeed("a")
    box.take()

    assert told(pool.channels.read_ready(set(), 1.0)) == []
    assert told(pool.channels.read_batched(1.0)) == [("a", Succeeded)]
    assert held(pool.workers) == ["b", "c"]


def test_with_its_zygote_a_job_is_lost_and_not_those_behind_it(box: Box, pool: Pool) -> None:
    began_behind(box, "a", "b", "c")
    assert box.worker.child is not None

    ended = pool.forking._end_child(box.worker, box.worker.child, "its zygote died", 2.0)

    assert told(ended) == [("a", Succeeded), ("b", Lost)]
    assert held(pool.workers) == ["c"]


def test_nothing_is_put_behind_another_one_while_a_suspect_waits(box: Box) -> None:
    box.workers.by_number[2] = Worker(2)
    box.workers.assign(claim_of("suspect", worker=2, losses=2), now=1.0)

    box.begin("a", "b")

    assert [box.take(), box.take()] == ["a", ""]


def test_a_job_behind_another_one_is_to_begin_within_a_second_of_its_claim(box: Box) -> None:
    box.begin("a", "b")
    box.take()

    ((kind, fields),) = FrameReader().feed(box.letters.recv(LONGEST_MESSAGE_BYTES))

    assert (kind, float(fields[2])) == (protocol.NEXT, 2.0)


def test_what_a_job_prints_is_heard_at_once_again_when_it_is_the_last(box: Box) -> None:
    heard: list[Worker] = []
    channels = box.pool.channels
    box.begin("a", "b")
    box.take()
    channels._outputs = SimpleNamespace(watch_again=heard.append)  # type: ignore[assignment]  # all it asks
    channels.listen(box.worker, 1.0)
    states = [box.worker.is_quiet]

    box.succeed("a")
    box.take()
    box.heard()
    channels.listen(box.worker, 2.0)

    assert [*states, box.worker.is_quiet] == [True, False]
    assert heard == [box.worker]


def asks_for_stacks(box: Box) -> tuple[StackRequests, list[str], list[str]]:
    """With whose process was asked, and the errors that were told."""
    asked: list[str] = []
    errors: list[str] = []

    def pin(attempt: Attempt, now: float) -> bool:
        box.worker.recall()
        box.heard(now)
        return box.workers.holds(attempt)

    def ask_for_stacks() -> int:
        asked.extend(attempt.claim.id for attempt in box.workers.current_attempts())
        return 0

    box.worker.child.ask_for_stacks = ask_for_stacks  # type: ignore[union-attr, method-assign]  # a stand-in
    pool: Any = SimpleNamespace(workers=box.workers, stop_prefetch=pin)
    answers: Any = SimpleNamespace(give=lambda _command, told, _now: errors.append(told["error"]))
    return StackRequests(pool, answers, Timers()), asked, errors


def test_no_process_is_asked_for_the_stack_of_a_job_that_it_has_not_begun(box: Box) -> None:
    requests, asked, errors = asks_for_stacks(box)
    box.begin("a")

    requests.take({"job": "a", "fence": 7}, 2.0)
    assert asked == []

    box.start(2.01)
    box.take()
    requests._perform(2.02)
    assert (asked, errors) == (["a"], [])


def test_who_asks_for_the_stack_of_a_job_that_has_just_ended_gets_no_others(box: Box) -> None:
    requests, asked, errors = asks_for_stacks(box)
    box.begin("a", "b")
    box.take()
    box.succeed("a")
    box.take()

    requests.take({"job": "a", "fence": 7}, 2.0)

    assert (asked, errors) == ([], ["its attempt has just ended"])


STEPS_OF_A_CHILD = ["take", "answer", "hear", "recall", "post", "die"]
NONSENSE = b"\xff" * 20


def test_what_was_answered_before_nonsense_came_counts(box: Box) -> None:
    box.begin("a", "b")
    for name in "ab":
        box.take()
        if name == "a":
            box.succeed(name)
    box.far.sendall(NONSENSE)

    ((attempt, report),) = box.read(2.0)

    assert (attempt.claim.id, type(report.outcome)) == ("a", Succeeded)
    assert box.worker.attempt is not None
    assert box.worker.attempt.claim.id == "b"
    assert isinstance(box.worker.attempt.verdict, Raised)  # it has broken the channel


def test_no_job_is_left_with_a_process_that_has_broken_its_channel(box: Box) -> None:
    box.begin("a", "b", "c")
    box.take()
    box.far.sendall(NONSENSE)
    box.take()  # before its master sees that

    assert box.heard() == []
    assert (box.take(), box.jobs_left) == ("", 0)
    (_, first), (second, lost) = box.read_last(box.exit(9), 0, 2.0)

    assert isinstance(first.outcome, Raised)
    assert (second.claim.id, type(lost.outcome)) == ("b", Lost)
    assert held(box.workers) == ["c"]
    assert box.worker.attempt is not None
    assert box.worker.attempt.is_held


def test_a_child_that_goes_on_without_an_answer_is_to_be_killed(box: Box) -> None:
    box.begin("a", "b")
    box.take()
    box.take()

    box.worker.recall()
    assert box.heard(at=2.0) == []

    child, attempt = box.worker.child, box.worker.attempt
    assert child is not None
    assert attempt is not None
    assert (child.is_broken, child.leave_by) == (True, 2.0)
    assert isinstance(attempt.verdict, Raised)


LIES = [*STEPS_OF_A_CHILD, "nonsense"]


@fuzz(200)
@given(st.lists(st.sampled_from(LIES), max_size=40))
def test_whatever_a_child_does_no_job_is_lost_with_it(steps: list[str]) -> None:
    box, jobs = Box(ALWAYS), [f"j{number}" for number in range(6)]
    ended: list[str] = []
    name = ""
    try:
        box.begin(*jobs)
        for step in [*steps, "die"]:
            if step == "take":
                name = box.take() or name
            elif step == "answer" and name:
                box.succeed(name)
            elif step == "nonsense":
                box.far.sendall(NONSENSE)
            elif step == "hear":
                ended += box.heard()
            elif step == "die":
                ended += names(box.read_last(box.exit(9), 0, 2.0))
                assert all(attempt.is_held for attempt in box.worker.held())
                name, box.far = "", box.fork(100)
            else:
                box.master_does(step)
        assert sorted([*ended, *held(box.workers)]) == jobs
    finally:
        box.close()


def live(
    box: Box, steps: list[str], share: Callable[[], None]
) -> tuple[list[str], list[str], list[str]]:
    """A child and its master go through these steps; what was begun, answered and heard of."""
    begun: list[str] = []
    answered: list[str] = []
    ended: list[str] = []
    for step in [*steps, "hear"]:
        is_idle = len(begun) == len(answered)
        if step == "take" and is_idle and (name := box.take()):
            begun.append(name)
        elif step == "answer" and not is_idle:
            box.succeed(begun[-1])
            answered.append(begun[-1])
        elif step == "hear":
            ended += box.heard()
        elif step == "die":
            ended += names(box.read_last(box.exit(9), 0, 2.0))
            if not is_idle:
                answered.append(begun[-1])  # by its death
            box.far = box.fork(100)
        elif step == "share":
            share()
        else:
            box.master_does(step)
    return begun, answered, ended


@fuzz(200)
@given(st.lists(st.sampled_from(STEPS_OF_A_CHILD), max_size=40))
def test_whatever_happens_each_job_ends_once_and_is_begun_once_at_most(steps: list[str]) -> None:
    box, jobs = Box(ALWAYS), [f"j{number}" for number in range(6)]
    try:
        box.begin(*jobs)
        begun, answered, ended = live(box, steps, lambda: None)
        left = held(box.workers)
        assert sorted([*ended, *left]) == jobs
        assert ended == answered
        assert begun == jobs[: len(begun)]  # in their order
    finally:
        box.close()


@fuzz(200)
@given(
    st.lists(st.sampled_from([*STEPS_OF_A_CHILD, "last", "make last", "stop soon"]), max_size=40)
)
def test_whatever_has_happened_all_jobs_come_to_their_end(steps: list[str]) -> None:
    box, jobs = Box(ALWAYS), [f"j{number}" for number in range(6)]
    ended: list[str] = []
    child = HonestChild(box)
    try:
        box.begin(*jobs)
        for step in steps:
            if step in ("take", "answer", "last"):
                child.does(step)
            elif step == "hear":
                ended += box.heard()
            elif step == "die":
                ended += child.dies()
            elif (attempt := box.worker.attempt) is not None and step == "make last":
                box.worker.retire_after_current(2.0)
            elif attempt is not None and step == "stop soon":
                box.worker.stop(Stopped("ops"), 9.0, 2.0)
            else:
                box.master_does(step)
        for _ in range(3 * len(jobs)):
            child.does("answer")
            ended += box.heard()
            assert box.worker.child is not None
            if child.has_left or box.worker.child.leave_by is not None:
                ended += child.dies()
            box.master_does("post")
            child.does("take")
        assert sorted(ended) == jobs
    finally:
        box.close()


class HonestChild:
    """Does one job after the other, and leaves when it is told to, or has said so."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self.name = ""
        self.has_left = False

    def does(self, step: str) -> None:
        if self.has_left:
            return
        if step == "take" and not self.name:
            self.name = self.box.take()
            self.has_left = not self.name and self.box.is_told_to_leave()
        elif step != "take" and self.name:
            if step == "last":
                self.box.far.sendall(encode_frame(protocol.LAST, b"7:%b" % self.name.encode()))
            self.box.succeed(self.name)
            self.name, self.has_left = "", step == "last"

    def dies(self) -> list[str]:
        """What has ended by that; the next one is there."""
        ended = names(self.box.read_last(self.box.exit(9), 0, 2.0))
        self.name, self.has_left, self.box.far = "", False, self.box.fork(100)
        return ended


def test_who_has_nothing_takes_what_another_child_has_not_begun(box: Box) -> None:
    box.begin("a", "b", "c", "d")
    assert box.take() == "a"
    other = box.workers.by_number[2] = Worker(2)
    letters = box.letters
    box.fork(101, worker=2)

    for worker in prefetch.steal(box.workers, 1.02):
        box.start(1.02, worker)

    assert [attempt.claim.id for attempt in other.held()] == ["b", "c"]
    assert [box.take(), box.take(), box.take()] == ["b", "c", ""]
    box.letters = letters
    assert [box.take(), box.take()] == ["d", ""]
    assert box.jobs_left == ALWAYS - 2


def test_a_job_that_its_child_has_begun_unheard_is_not_moved(box: Box) -> None:
    box.begin("a", "b", "c", "d")
    assert [box.take(), box.take()] == ["a", "b"]
    other = box.workers.by_number[2] = Worker(2)

    prefetch.steal(box.workers, 1.02)

    assert names_of(box.worker.held()) == ["a", "b", "d"]
    assert names_of(other.held()) == ["c"]
    box.worker.drop(box.worker.prefetched[-1])
    box.workers.by_number[3] = Worker(3)
    assert prefetch.steal(box.workers, 1.02) == []  # only what was begun is left
    box.succeed("a")
    box.succeed("b")
    assert box.heard() == ["a", "b"]


@fuzz(200)
@given(st.lists(st.sampled_from([*STEPS_OF_A_CHILD, "share"]), max_size=40))
def test_whatever_is_moved_when_each_job_is_begun_once_at_most_and_none_is_lost(
    steps: list[str],
) -> None:
    box, jobs = Box(ALWAYS), [f"j{number}" for number in range(6)]
    other = box.workers.by_number[2] = Worker(2)
    moved: list[str] = []

    def share() -> None:
        prefetch.steal(box.workers, 2.0)
        moved.extend(names_of(other.held()))
        while other.attempt is not None:
            other.end_attempt(2.0)

    try:
        box.begin(*jobs)
        begun, answered, ended = live(box, steps, share)
        assert sorted([*ended, *held(box.workers), *moved]) == jobs
        assert ended == answered
        assert not {*begun} & {*moved}
        assert begun == sorted(begun)
    finally:
        box.close()
