"""A master's connections to Redis, as the server, or one of them, is lost."""

from __future__ import annotations

from typing import Any

from rqd.daemon.redis_client import RedisLink
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
