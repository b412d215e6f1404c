"""What stands in a master's control list may be anything; and what it answers is bounded."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rqd.daemon.config import Config, LogSettings
from rqd.daemon.control.authentication import Authentication
from rqd.daemon.control.commands import Commands, workers_asked_for
from rqd.daemon.control.replies import MOST_BYTES, Replies
from rqd.daemon.log.log import open_log
from rqd.daemon.timers import OPEN, Timers
from rqd.model.signing import Keyring
from rqd.store.messages import BeatAnswer
from tests.fuzzing import fuzz

if TYPE_CHECKING:
    from rqd.daemon.instance import Instance


@pytest.mark.parametrize(
    ("command", "asked"),
    [
        ({"by": 2}, 6),
        ({"by": -3}, 1),
        ({"by": -4}, None),
        ({"by": 996}, 1000),
        ({"by": 997}, None),
        ({"to": 1}, 1),
        ({"to": 1000, "by": 1}, 1000),
        ({"to": 0}, None),
        ({"to": 1001}, None),
        ({"to": True}, None),
        ({"by": "2"}, None),
        ({"by": 2.0}, None),
        ({"by": 10**400}, None),
        ({}, None),
    ],
)
def test_a_scale_asks_for_a_number_of_workers_that_can_be(
    command: dict[str, Any], asked: int | None
) -> None:
    assert workers_asked_for(command, 4) == asked


class Link:
    """In place of a connection to Redis: there, away, or refusing what is asked of it."""

    def __init__(self) -> None:
        self.state = "there"
        self.retry_at = 0.0
        self.store = self
        self.name = "m"
        self.written: list[tuple[str, Any]] = []

    def answer(self, request: str, master: str, answer: str, ttl_s: int) -> bool:
        assert (master, ttl_s) == ("m", 60)
        self.written.append((request, json.loads(answer)))
        return True

    def try_call(self, call: Any, now: float) -> bool | None:
        if self.state == "there":
            return bool(call())
        self.retry_at = now + 1 if self.state == "away" else 0.0
        return None


@pytest.fixture
def link() -> Link:
    return Link()


def asking(request: Any = "r") -> dict[str, Any]:
    return {"id": request, "do": "dance", "answer": True}


def test_only_who_asks_for_an_answer_gets_one(link: Link) -> None:
    timers = Timers()
    answers = Replies(link, link, timers)  # type: ignore[arg-type]  # a stand-in for both
    answers.give({"id": "r", "do": "dance"}, {"x": 1}, 0)
    answers.give(asking("r" * 101), {"x": 1}, 0)
    answers.give(asking(7), {"x": 1}, 0)
    assert timers.next_at(OPEN) == float("inf")
    answers.give(asking(), {"x": 1}, 0)
    assert timers.next_at(OPEN) == 0
    answers.send(0)
    assert link.written == [("r", {"x": 1})]


def test_an_answer_that_is_too_long_says_so(link: Link) -> None:
    answers = Replies(link, link, Timers())  # type: ignore[arg-type]  # a stand-in for both
    answers.give(asking(), {"stack": "x" * MOST_BYTES}, 0)
    answers.send(0)
    assert link.written == [("r", {"error": f"the answer has {MOST_BYTES + 13:,} bytes"})]


def test_answers_wait_while_redis_is_away_and_not_for_ever(link: Link) -> None:
    timers = Timers()
    answers = Replies(link, link, timers)  # type: ignore[arg-type]  # a stand-in for both
    link.state = "away"
    for number in range(150):
        answers.give(asking(f"r{number}"), {}, 0 if number < 100 else 30)
    answers.send(0)
    link.state = "there"
    answers.send(60)
    assert [request for request, _ in link.written] == [f"r{number}" for number in range(100, 150)]
    link.state = "refusing"
    answers.give(asking(), {}, 60)
    timers.run_due(60, OPEN)
    assert timers.next_at(OPEN) == float("inf")


class Standing:
    """In place of all that a command may reach; it notes what was asked of it."""

    is_stopping = False

    def __init__(self) -> None:
        self.reached: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name == "standing":
            return lambda: {"state": "idle", "busy": 0, "workers": 4}
        if name in ("runs", "held", "stop_all_prefetch"):
            return lambda *_: []
        if name == "workers":
            return self
        return lambda *_, **_more: self.reached.append(name)


def commands_of(there: Any, keyring: Keyring | None) -> Commands:
    link: Any = Link()
    config = Config("redis://h", keyring=keyring, require_signed=keyring is not None)
    return Commands(
        there,
        there,
        Replies(link, link, Timers()),
        Authentication(config, cast("Instance", SimpleNamespace(name="m", boot="b"))),
        there,
        open_log(LogSettings(format="json", file="/dev/null")),
    )


DEEP = [b"[" * depth + b"]" * depth for depth in (300, 600, *range(900, 1000, 3), 100_000)]
VALUES = st.one_of(
    st.sampled_from([b"NaN", b"1e999", b"-1e999", b"9" * 5000, b"true", b'"\\ud800"', b'"\xff"']),
    st.sampled_from(DEEP),
    st.integers().map(lambda number: b"%d" % number),
    st.text(max_size=20).map(lambda text: json.dumps(text).encode()),
)
COMMANDS = "stop reload pause resume scale kill_jobs stop_job stack extend follow dance"
DO = st.sampled_from(COMMANDS.split()).map(lambda do: b'"%s"' % do.encode())
NAMES = "id do answer now to by worker job fence seconds first token grace_s signature signed_at"
FIELDS = st.fixed_dictionaries(
    {b"id": st.one_of(st.just(b'"r"'), VALUES), b"do": st.one_of(DO, VALUES)},
    optional={name.encode(): VALUES for name in NAMES.split()[2:]},
)


def line_of(fields: dict[bytes, bytes]) -> bytes:
    return b"{%s}" % b",".join(b'"%s":%s' % field for field in fields.items())


LINES = st.one_of(FIELDS.map(line_of), st.binary(max_size=200), VALUES)


@pytest.mark.parametrize("keyring", [None, Keyring(["a-key-of-enough-characters"])], ids=str)
def test_no_line_of_a_control_list_ends_a_master(keyring: Keyring | None) -> None:
    @fuzz(300)
    @given(lines=st.lists(LINES, max_size=5), cut=st.integers(0, 10))
    def obeys(lines: list[bytes], cut: int) -> None:
        there = Standing()
        commands = commands_of(there, keyring)
        torn = [line[cut:] if number % 2 else line for number, line in enumerate(lines)]
        told = [b"1", [], [*torn, b'{"id":"last","do":"pause"}'], [], b"", 0, 0, b"", [], b""]
        answer = BeatAnswer.parse(told)
        commands.obey(answer.commands, answer.now_us, 1.0)
        assert commands.obeyed == "last"
        assert ("pause" in there.reached) is (keyring is None)

    obeys()
