"""A daemon whose server becomes something else lives on, and works when Redis is back."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
import redis

from rqd import Queue
from tests import jobs
from tests.daemons import StartDaemon
from tests.impostor import ANSWERS, Impostor
from tests.relay import Relay
from tests.servers import RedisServer
from tests.waiting import eventually

MEMORY_BYTES = 1.5 * 2**30


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_daemon_outlives_answers_that_are_none(
    answer: str, start_daemon: StartDaemon, own_server: RedisServer, tmp_path: Path
) -> None:
    path, server = tmp_path / "s", Path(own_server.url.removeprefix("unix://"))
    with Relay(path, server) as relay:
        daemon = start_daemon(url=relay.url)
        redis.Redis.from_url(own_server.url).client_kill_filter(_type="normal", skipme=True)
    with Impostor(path, answer) as impostor:
        eventually(lambda: impostor.heard > 1, timeout_s=20)
        assert daemon.running
        assert psutil.Process(daemon.pid).memory_info().rss < MEMORY_BYTES
    with Relay(path, server):
        job = Queue(connection=own_server.url).enqueue(jobs.echo, 1)
        job.latest_result(timeout=30)
        assert job.return_value() == 1
    assert "Traceback" not in daemon.log()


@pytest.mark.parametrize("answer", ["ok", "deep", "ten gigabytes", "a billion", "endless line"])
def test_a_daemon_obeys_while_answers_are_none(
    answer: str, start_daemon: StartDaemon, own_server: RedisServer, tmp_path: Path
) -> None:
    path, server = tmp_path / "s", Path(own_server.url.removeprefix("unix://"))
    with Relay(path, server) as relay:
        # Without an answer to its latest turn, which may have claimed a job, it waits so long.
        daemon = start_daemon("--grace", "1", url=relay.url)
        redis.Redis.from_url(own_server.url).client_kill_filter(_type="normal", skipme=True)
    with Impostor(path, answer) as impostor:
        eventually(lambda: impostor.heard > 1, timeout_s=20)
        daemon.stop(15)
