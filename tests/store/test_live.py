"""Masters are asked, and answer; who does not is known."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

from rqd.store.live import Replies, ask
from tests.store.driving import Driver

COMMAND = {"id": "r1", "do": "dance", "steps": 2}


@pytest.fixture
def masters(rqd: Driver) -> list[str]:
    for name in ("m", "n"):
        rqd.store.hello(name, "b", 15, {"workers": 1})
    return ["m", "n"]


def asked(rqd: Driver, masters: list[str], timeout_s: float = 0.05) -> Replies:
    return ask(rqd.store, rqd.views, COMMAND, masters, timeout_s)


def answer(rqd: Driver, master: str, told: Any) -> None:
    rqd.store.answer("r1", master, json.dumps(told), 60)


def test_a_master_gets_the_command_and_one_that_does_not_answer_is_told(
    rqd: Driver, masters: list[str]
) -> None:
    answer(rqd, "n", {"workers": 3})

    assert asked(rqd, [*masters, "gone"]) == {"m": None, "n": {"workers": 3}, "gone": None}
    (command,) = rqd.beat(master="m").commands
    assert command == {**COMMAND, "answer": True}
    assert rqd.redis.zrange(rqd.keys.wake_master("m"), 0, -1) == [b"command"]
    assert rqd.ttl_s(rqd.keys.answers("r1")) == rqd.left_of(60)


def test_who_asks_has_all_answers_as_they_come_and_does_not_wait_longer(
    rqd: Driver, masters: list[str]
) -> None:
    found: list[Replies] = []
    asking = threading.Thread(target=lambda: found.append(asked(rqd, masters, 10.0)))
    begun = time.monotonic()
    asking.start()
    other = Driver(rqd.url)
    for name in masters:
        answer(other, name, {"name": name})
        answer(other, name, {"name": "another's"})  # sent again
    asking.join(10)

    assert found == [{"m": {"name": "m"}, "n": {"name": "n"}}]
    assert time.monotonic() - begun < 5


def test_what_is_no_answer_is_passed_over(rqd: Driver, masters: list[str]) -> None:
    key = rqd.keys.answers("r1")
    rqd.redis.xadd(key, {"x": "y"})
    rqd.redis.xadd(key, {"master": "\xff", "answer": "{}"})
    for raw in ("no json", "[1]", "[" * 100_000, "null"):
        rqd.redis.xadd(key, {"master": "m", "answer": raw})
    answer(rqd, "n", {})

    assert asked(rqd, masters) == {"m": None, "n": {}}


def test_nobody_is_asked(rqd: Driver) -> None:
    assert asked(rqd, []) == {}
    assert rqd.names() == []
