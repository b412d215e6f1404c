"""What stands in a master's control list may be anything; and what it answers is bounded."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rqd.daemon.control.answers import MOST_BYTES, Answers
from rqd.daemon.control.commands import workers_asked_for


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

    def attempt(self, call: Any, now: float) -> bool | None:
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
    answers = Answers(link, link)  # type: ignore[arg-type]  # a stand-in for both
    answers.give({"id": "r", "do": "dance"}, {"x": 1}, 0)
    answers.give(asking("r" * 101), {"x": 1}, 0)
    answers.give(asking(7), {"x": 1}, 0)
    assert answers.next_due() == float("inf")
    answers.give(asking(), {"x": 1}, 0)
    assert answers.next_due() == 0
    answers.send(0)
    assert link.written == [("r", {"x": 1})]


def test_an_answer_that_is_too_long_says_so(link: Link) -> None:
    answers = Answers(link, link)  # type: ignore[arg-type]  # a stand-in for both
    answers.give(asking(), {"stack": "x" * MOST_BYTES}, 0)
    answers.send(0)
    assert link.written == [("r", {"error": f"the answer has {MOST_BYTES + 13:,} bytes"})]


def test_answers_wait_while_redis_is_away_and_not_for_ever(link: Link) -> None:
    answers = Answers(link, link)  # type: ignore[arg-type]  # a stand-in for both
    link.state = "away"
    for number in range(150):
        answers.give(asking(f"r{number}"), {}, 0 if number < 100 else 30)
    answers.send(0)
    link.state = "there"
    answers.send(60)
    assert [request for request, _ in link.written] == [f"r{number}" for number in range(100, 150)]
    link.state = "refusing"
    answers.give(asking(), {}, 60)
    answers.send(60)
    assert answers.next_due() == float("inf")
