"""What user code gets from a server that is no Redis: one error, of one line, to catch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

import rqd.aio
from rqd import Job, Queue, Worker
from rqd.cron import register
from rqd.exceptions import NoSuchJobError, ServerUnavailableError
from rqd.store import replies
from rqd.store.connection import client_connection
from tests.client import work
from tests.impostor import ANSWERS, MOST_TIME, Impostor
from tests.servers import RedisServer

CALLS: list[Callable[[str], Any]] = [
    lambda url: Queue(connection=url).enqueue(work.echo, 1),
    lambda url: Queue(connection=url).enqueue_many([Queue.prepare_data(work.echo)] * 2),
    lambda url: Job.fetch("x", url).cancel(),
    lambda url: Queue(connection=url).get_job_ids(),
    lambda url: Queue(connection=url).finished_job_registry.get_job_ids(),
    lambda url: Worker.all(connection=url),
    lambda url: register(work.echo, interval=60, connection=url),
]


def awaited(url: str) -> None:
    async def story() -> None:
        try:
            job = await rqd.aio.Queue(connection=url).enqueue(work.echo, 1)
            await job.latest_result()
        finally:
            await rqd.aio.close()

    asyncio.run(story())


CALLS.append(awaited)


@pytest.mark.parametrize("answer", sorted(ANSWERS.keys() - MOST_TIME))
@pytest.mark.parametrize("call", CALLS)
def test_a_call_raises_an_error_of_one_line_or_none(
    call: Callable[[str], Any], answer: str, tmp_path: Path
) -> None:
    raised = None
    with Impostor(tmp_path / "s", answer) as impostor:
        try:
            call(f"{impostor.url}?socket_timeout=0.2")
        except Exception as error:  # noqa: BLE001 - whatever it is
            raised = error
    expected = ServerUnavailableError | NoSuchJobError | redis.ResponseError
    assert raised is None or isinstance(raised, expected), raised
    assert "\n" not in str(raised)
    if answer == "ten gigabytes":
        assert "a reply of 10,000,000,0" in str(raised)


def test_a_connection_that_ends_while_it_is_idle_is_made_again(
    own_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replies, "_PATIENCE_S", 0.0)
    client = client_connection(own_server.url)
    client.ping()
    redis.Redis.from_url(own_server.url).client_kill_filter(_type="normal", skipme=True)

    assert client.ping()
