"""A master's connections to Redis, as the server, or one of them, is lost."""

from __future__ import annotations

from typing import Any

from rqd.daemon.redis_client import LOST_MARKER, RedisLink
from rqd.store.connection import RedisGone
from tests.place import Silent
from tests.unit.test_pool import Signalless


def test_an_answer_that_comes_too_late_is_not_taken_for_that_to_the_next_turn(
    redis_url: str,
) -> None:
    loop, silent = Signalless(), Silent()
    log: Any = silent
    link = RedisLink(redis_url, "rqd", loop, log)
    try:
        link.turns.ask(1.0, "ECHO", "late")
        link.failed(RedisGone[0]("no answer to a turn"), 1.5)
        link.turns.ask(2.0, "ECHO", "next")
        while not link.turns.has_answer(loop.wait(10.0)):
            pass
        assert link.turns.answer() == b"next"
    finally:
        link.close()
        loop.close()


def test_a_master_may_connect_as_often_as_it_must(redis_url: str) -> None:
    loop, silent = Signalless(), Silent()
    log: Any = silent
    link = RedisLink(redis_url, "rqd", loop, log)
    try:
        for number in range(150):  # redis-py's pool makes a hundred in all
            link.turns.ask(float(number), "PING")
            link.turns.close()
    finally:
        link.close()
        loop.close()


def test_a_marker_that_is_passed_on_wakes_another_master(redis_url: str) -> None:
    loop, silent = Signalless(), Silent()
    log: Any = silent
    link = RedisLink(redis_url, "rqd", loop, log)
    try:
        link.wake_listener.listen("m", ("low", "high"), 1.0)
        link.wake_listener.pass_on("high", 1.0)
        marker = None
        while marker is None:
            marker = link.wake_listener.read(loop.wait(10.0), 1.0)
        assert marker == ("high", "look")
        assert not link.wake_listener.is_listening
    finally:
        link.close()
        loop.close()


def test_a_wait_that_is_overdue_counts_as_a_marker_that_was_lost(redis_url: str) -> None:
    loop, silent = Signalless(), Silent()
    log: Any = silent
    link = RedisLink(redis_url, "rqd", loop, log)
    try:
        link.wake_listener.listen("m", (), 1.0)
        assert link.wake_listener.ignores_queues
        assert link.wake_listener.read(set(), 2.0) is None
        assert link.wake_listener.read(set(), 1e9) == LOST_MARKER
        assert not link.wake_listener.is_listening
    finally:
        link.close()
        loop.close()
