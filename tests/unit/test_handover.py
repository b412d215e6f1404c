"""What one master hands over to the next one in the same process."""

import ast
import inspect
import json
import os
import socket
import textwrap
from collections.abc import Iterator
from dataclasses import replace

import pytest

from rqd.daemon.config import Config
from rqd.daemon.instance import Instance
from rqd.daemon.processes.children import ChildrenState
from rqd.daemon.processes.forensics import Tail
from rqd.daemon.processes.news import News
from rqd.daemon.processes.worker import Child, Run, Worker
from rqd.daemon.processes.zygote_process import ZygoteProcess, ZygoteState
from rqd.daemon.processes.zygote_reloads import Reload
from rqd.daemon.processes.zygotes import ZygotesState
from rqd.daemon.reload import handover
from rqd.daemon.reload.handover import Handover
from rqd.daemon.zygote.frames import FORMAT, FrameReader, encode_frame
from rqd.model.errors import ConfigurationError
from rqd.model.outcome import (
    Crashed,
    Lost,
    Outcome,
    OutOfMemory,
    Raised,
    Released,
    Stopped,
    TimedOut,
)
from rqd.model.records import Claim, Envelope
from rqd.model.signing import Keyring

KEY = "a-key-that-is-long-enough"
CLAIM = Claim(
    id="7f3c",
    token="12:nonce",
    attempt=2,
    queue="low",
    worker=1,
    func_name="shop.send",
    payload=b"\x00payload",
    serializer="pickle",
    timeout_s=180.0,
    retries_left=1,
    retries_used=1,
    retry_intervals=(1.0, 2.5),
    losses=0,
    envelope=Envelope("id:signature", (b"low", b"\xff")),
)
VERDICTS: list[Outcome | None] = [
    *(None, Crashed(signal=9), Lost("its zygote died"), Released("stopped"), Stopped("me")),
    OutOfMemory(2**30, 2**29),
    *(Raised("rqd.FrameError", "no frames", "", ("Exception",)), TimedOut(3.0, killed=True)),
]


@pytest.fixture
def channel() -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    ours.setblocking(False)
    with ours, theirs:
        yield ours


def state(channel: socket.socket, *, is_trial: bool) -> Handover:
    """A master in the middle of everything."""
    half = FrameReader(1000)
    assert half.feed(encode_frame(30, b"result")[:-2]) == []
    tail = Tail()
    tail.feed(b"whole\nbegun")
    workers = [
        Worker(
            number,
            child=Child(
                40 + number, channel, 5, 0, reader=half, outbox=memoryview(b"left"), leave_by=7.5
            ),
            run=Run(CLAIM, number, 1.0, 9.0, verdict, news=News(b"0.5 half", (b"m", b""), 2.0)),
            tail=tail,
            last_error="ValueError",
        )
        for number, verdict in enumerate(VERDICTS, 1)
    ]
    workers.append(Worker(len(VERDICTS) + 1, run=Run(CLAIM, len(VERDICTS) + 1)))
    groups = ((1, {"folder": "/sys/fs/cgroup/rqd-1-2-1"}),)
    outputs, lives = ((1, 10), (2, 12)), ((1, 11), (2, 13))
    zygote = ZygoteState(
        30, 6, 7, 1000, half, (8, 9), outputs, lives, groups, 2, ((1, 15),), 14, tail, True
    )
    return Handover(
        format=FORMAT,
        version="0.1.0",
        is_trial=is_trial,
        request="r1",
        config=Config(url="redis://", keyring=Keyring([KEY]), queues=("high", "low")),
        instance={"boot": "b", "lock_fd": 4},
        embedded=None,
        dispatch={"claims_left": None},
        children=ChildrenState(
            ZygotesState(zygote, (zygote,), 2, ("tasks",), 0.5, Reload(("r0",), "done")),
            tuple(workers),
            ((1, 30), (2, 30)),
            ((3, 12.5),),
        ),
        obeyed="r1",
        is_suspended=False,
        worked_at=3.25,
        fds=(4, 5, 6),
    )


def written(told: Handover) -> bytes:
    with open(handover.write(told), "rb") as file:
        file.seek(0)
        return file.read()


def test_all_that_is_handed_over_is_there_again(channel: socket.socket) -> None:
    before = state(channel, is_trial=True)

    after = handover.read(written(before))

    assert after.config.keyring is not None
    assert after.config.keyring.secrets == (KEY,)
    assert replace(after.config, keyring=None) == replace(before.config, keyring=None)
    assert after.children.zygotes.reload == before.children.zygotes.reload
    assert after.children.parents == before.children.parents
    for ours, theirs in zip(before.children.workers, after.children.workers, strict=True):
        assert (theirs.tail, theirs.last_error) == (ours.tail, ours.last_error)
        assert ours.run is not None
        was_sent = ours.run.sent_at is not None
        assert theirs.run == (
            replace(ours.run, claim=replace(CLAIM, payload=None)) if was_sent else ours.run
        )
        if ours.child is not None:
            assert theirs.child is not None
            there: object = theirs.child.channel
            assert there is None, "a master that is only tried has none"
            assert bytes(theirs.child.outbox) == b"left"
            assert theirs.child.reader.feed(encode_frame(30, b"result")[-2:]) == [(30, [b"result"])]
            assert theirs.child.leave_by == 7.5
    assert after.children.workers[0].tail.take() == (b"whole\nbegun", 11, b"begun\n")


def test_a_socket_is_the_same_one_again(channel: socket.socket) -> None:
    before = state(channel, is_trial=False)
    after = handover.read(written(before))
    made = [worker.child.channel for worker in after.children.workers if worker.child is not None]
    assert {one.fileno() for one in made} == {channel.fileno()}
    for one in made:
        assert one.getblocking() is False
        one.detach()  # the fixture closes it


def test_it_is_received_once_and_the_environment_forgets_it(channel: socket.socket) -> None:
    fd = handover.write(state(channel, is_trial=True))
    environment = handover.environment_with(fd)
    assert handover.receive(environment) is not None
    assert handover.receive(environment) is None
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_what_cannot_be_gone_on_with_is_one_clear_error(channel: socket.socket) -> None:
    told = json.loads(written(state(channel, is_trial=True)))
    for change in (
        {"format": FORMAT + 1, "version": "9.9"},
        {"version": "9.9", "further": 1},
        {"version": "9.9", "obeyed": {"is": "Unheard"}},
    ):
        with pytest.raises(ConfigurationError, match=r"where 9.9 is \(.*\): restart the daemon"):
            handover.read(json.dumps(told | change).encode())


def test_what_has_no_form_there_is_refused_by_the_writer(channel: socket.socket) -> None:
    with pytest.raises(TypeError, match="set can't be handed over"):
        handover.write(replace(state(channel, is_trial=True), instance={"a": {1, 2}}))


@pytest.mark.parametrize("kind", [ZygoteProcess, Instance])
def test_what_is_taken_over_has_all_that_a_new_one_has(kind: type) -> None:
    def assigned(function: object) -> set[str]:
        source = inspect.getsource(function)  # type: ignore[arg-type]  # typed as object
        tree = ast.parse(textwrap.dedent(source))
        return {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
        }

    made = assigned(kind.__init__)  # type: ignore[misc]  # of this very class, no subclass
    taken_over = assigned(vars(kind)["take_over"].__func__)
    assert made - taken_over == set(), "descriptors among them belong into its `fds`, too"
