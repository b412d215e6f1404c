"""A bridge that is killed anywhere loses nothing and runs nothing twice."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from rqd.bridge.bridge import Bridge
from rqd.client.connection import Backend
from rqd.store.bridge import RqSide
from rqd.testing import crash_points
from tests.bridge.conftest import Events
from tests.bridge.old_jobs import multiply
from tests.cli.running import ROOT, rqd
from tests.daemons import StartDaemon
from tests.lacking import needs_rq
from tests.processes import bound_to_pytest
from tests.servers import RedisServer
from tests.waiting import eventually

rq = needs_rq()
EX_USAGE, EX_UNAVAILABLE = 64, 69
OPEN = "{rqd}:bridge:rq"


@contextmanager
def running_bridge(log_path: Path, url: str, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """`rqd bridge rq -q default` in a process of its own, killed at the end of the block."""
    env = {**os.environ, "RQD_URL": url}
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "rqd", "bridge", "rq", "-q", "default", *options],
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            preexec_fn=bound_to_pytest(),
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def drain(url: str) -> None:
    """The life of a bridge: it takes turns until all is done."""
    bridge = Bridge(Backend(None, url), ["default"], Events())
    eventually(lambda: (bridge.turn(), not bridge.has_work())[1], 15)


@pytest.mark.timeout(300)
def test_a_bridge_killed_before_any_of_its_lines_loses_and_doubles_nothing(
    redis_url: str, redis_client: redis.Redis, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    start_daemon(limit_s=300)
    queue = rq.Queue(connection=redis_client)
    number, now = itertools.count(), list[Any]()
    history = tmp_path / "ran"

    def prepare() -> None:
        history.write_text("")
        good = queue.enqueue(
            "tests.bridge.old_jobs.append", str(history), job_id=f"a{next(number)}"
        )
        bad = queue.enqueue("tests.bridge.old_jobs.always_fail", str(history))
        refused = queue.enqueue(multiply, 1, 1, repeat=rq.Repeat(times=1))
        now[:] = [good, bad, refused]

    def state() -> Any:
        seen = [(job.get_status().value, len(job.results())) for job in now]
        return seen, history.read_text(), redis_client.hlen(OPEN), len(queue)

    also: list[Callable[..., Any]] = [
        Bridge.turn,
        Bridge._advance,
        Bridge._send,
        Bridge._show,
        Bridge._refuse,
    ]
    also += [RqSide.take, RqSide.write]

    assert crash_points(drain, redis_url, prepare=prepare, state=state, also=also) == []
    assert state()[0] == [("finished", 1), ("failed", 1), ("failed", 1)]
    assert state()[1:] == ("xx", 0, 0)


def test_killed_again_and_again_it_serves_all_jobs_once(
    redis_url: str, redis_client: redis.Redis, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    start_daemon(workers=2)
    history = tmp_path / "ran"
    data = rq.Queue.prepare_data("tests.bridge.old_jobs.append", [str(history)])
    queue = rq.Queue(connection=redis_client)
    log = tmp_path / "bridge.log"
    several = []
    for life in range(3):
        more = [rq.Queue.prepare_data(data.func, data.args) for _ in range(100)]
        several += queue.enqueue_many(more)
        with running_bridge(log, redis_url, "--poll", "0.01"):
            wait_for_runs(history, 100 * life + 30, log)

    ended = rqd("bridge", "rq", "-q", "default", "--burst", "--poll", "0.02", url=redis_url)

    assert ended.status == 0, ended.err
    assert runs(history) == 300
    assert {job.get_status().value for job in several} == {"finished"}
    assert len(queue.finished_job_registry) == 300
    assert not redis_client.exists(OPEN)


def wait_for_runs(history: Path, at_least: int, log: Path) -> None:
    eventually(lambda: runs(history) >= at_least, 20, log.read_text)


def runs(history: Path) -> int:
    return history.stat().st_size if history.exists() else 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_in_order_and_the_log_counts(
    redis_url: str, redis_client: redis.Redis, tmp_path: Path, number: signal.Signals
) -> None:
    log = tmp_path / "bridge.log"
    with running_bridge(log, redis_url, "--log-format", "text") as process:
        rq.Queue(connection=redis_client).enqueue(multiply, 1, 1)
        eventually(lambda: redis_client.exists("{rqd}:queue:default"), 20, log.read_text)
        process.send_signal(number)
        assert process.wait(10) == 0

    first, last = log.read_text().splitlines()
    assert "INFO bridge serves RQ queues=default url=unix://" in first
    assert last.endswith("INFO bridge has stopped taken=1 refused=0 ended=0")
    assert redis_client.hlen(OPEN) == 1  # for the next bridge


def test_redis_goes_away_and_comes_back_and_so_does_the_bridge(
    own_server: RedisServer, tmp_path: Path
) -> None:
    log = tmp_path / "bridge.log"
    with running_bridge(log, own_server.url, "--log-format", "text") as process:
        eventually(lambda: "bridge serves RQ" in log.read_text(), 20)
        own_server.kill()
        eventually(lambda: "WARNING redis is gone, the bridge" in log.read_text(), 30)
        own_server.start()
        with redis.Redis.from_url(own_server.url) as client:
            rq.Queue(connection=client).enqueue(multiply, 1, 1)
            eventually(lambda: client.exists("{rqd}:queue:default"), 30, log.read_text)
        eventually(lambda: "INFO redis is back for the bridge" in log.read_text(), 5)
        own_server.kill()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0

    assert log.read_text().count("redis is gone") <= 2


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("rq",), EX_USAGE, "--queues"),
        (("rq", "-q", "a,b,a"), EX_USAGE, "names a queue twice"),
        (("rq", "-q", "a b"), EX_USAGE, "queue name 'a b'"),
        (("rq", "-q", "a", "--poll", "0"), EX_USAGE, "--poll"),
        (("celery", "-q", "a"), EX_USAGE, "celery"),
        (("rq", "-q", "a", "--url", "redis+cluster://localhost:1"), EX_USAGE, "Cluster"),
        (("rq", "-q", "a", "--url", "unix:///no/such.sock"), EX_UNAVAILABLE, "no/such.sock"),
    ],
)
def test_mistakes_of_an_operator_are_a_line_with_what_to_do(
    arguments: tuple[str, ...], status: int, said: str
) -> None:
    ran = rqd("bridge", *arguments)

    assert ran.status == status, ran.err
    assert said in ran.err


def test_a_key_of_somebody_else_in_the_way_is_named(
    redis_url: str, redis_client: redis.Redis
) -> None:
    redis_client.set(OPEN, "no hash")

    ran = rqd("bridge", "rq", "-q", "default", "--burst", url=redis_url)

    assert ran.status == EX_USAGE
    assert "holds something else" in ran.err
