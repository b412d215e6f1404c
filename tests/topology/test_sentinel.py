"""A service that sentinels watch: found, followed through failovers, and what goes wrong told."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import redis
from redis.sentinel import Sentinel

from rqd import Job, Queue
from rqd.client.connection import backend_for
from rqd.exceptions import ConfigurationError, NotDurableError, ServerUnavailableError
from rqd.store.connection import client_connection, daemon_connection, url_of
from tests import jobs
from tests.cli.running import rqd
from tests.daemons import StartDaemon
from tests.topology.networks import SERVICE, Watched, free_port, nodes, watch
from tests.waiting import eventually

FAILED_OVER_S = 25.0
EX_UNAVAILABLE = 69


def queue_on(url: str) -> Queue:
    return Queue(connection=backend_for(url))


def test_the_master_is_found_by_any_sentinel_that_answers(
    watched: Watched, start_daemon: StartDaemon
) -> None:
    first, second, _ = watched.sentinels
    first.server.kill()
    second.server.freeze()
    start_daemon(url=watched.url)

    result = queue_on(watched.url).enqueue(jobs.multiply, 6, 7).latest_result(timeout=10)

    assert result is not None
    assert result.return_value == 42
    second.server.thaw()


def test_a_users_sentinel_client_is_read(watched: Watched, start_daemon: StartDaemon) -> None:
    addresses = [("127.0.0.1", one.port) for one in watched.sentinels]
    theirs = Sentinel(addresses, socket_timeout=1).master_for(SERVICE)
    queue = Queue(connection=theirs)
    assert queue.connection.url == watched.url

    start_daemon(url=url_of(theirs))

    result = queue.enqueue(jobs.multiply, 6, 7).latest_result(timeout=10)
    assert result is not None
    assert result.return_value == 42
    with pytest.raises(ConfigurationError, match="pass master_for"):
        Queue(connection=Sentinel(addresses).slave_for(SERVICE))


def test_an_orderly_failover_is_followed_by_client_and_daemon(
    watched: Watched, start_daemon: StartDaemon
) -> None:
    daemon = start_daemon(url=watched.url)
    queue = queue_on(watched.url)
    assert queue.enqueue(jobs.multiply, 1, 1, wait_replicas=2).latest_result(timeout=10)

    watched.failover()

    result = queue.enqueue(jobs.multiply, 6, 7).latest_result(timeout=10)
    assert result is not None
    assert result.return_value == 42
    assert daemon.stop() == 0


class Producer(threading.Thread):
    """Enqueues without a pause; keeps what was acknowledged by a replica too."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.acknowledged: list[Job[Any]] = []
        self.enough = threading.Event()
        self._queue = queue_on(url)

    def run(self) -> None:
        while not self.enough.is_set():
            try:
                job = self._queue.enqueue(jobs.multiply, 6, 7, wait_replicas=1, result_ttl=-1)
            except (NotDurableError, redis.RedisError, ServerUnavailableError):
                continue  # nobody was told that it is there
            self.acknowledged.append(job)

    def has_made(self, count: int) -> bool:
        return len(self.acknowledged) >= count


def test_no_acknowledged_job_is_lost_when_the_master_is_killed_under_load(
    watched: Watched, start_daemon: StartDaemon
) -> None:
    start_daemon("--jobs-per-child", "50", url=watched.url, workers=2)
    producer = Producer(watched.url)
    producer.start()
    try:
        eventually(lambda: producer.has_made(200), 20.0, "200 jobs before the failover")
        old = watched.master
        old.server.kill()
        watched.await_failover(old, FAILED_OVER_S)
        before = len(producer.acknowledged)
        eventually(lambda: producer.has_made(before + 100), 20.0, "100 jobs after the failover")
    finally:
        producer.enough.set()
        producer.join()

    left = producer.acknowledged
    deadline = time.monotonic() + 30.0

    def unfinished() -> list[Job[Any]]:
        return [job for job in left if not job.is_finished]

    while left := unfinished():
        assert time.monotonic() < deadline, f"{len(left)} of the acknowledged jobs: {left[:3]}"


def demote(watched: Watched) -> None:
    """Another node is the master; connections to the old one stay open."""
    old = watched.master
    new = next(node for node in watched.nodes if node is not old)
    for sentinel in watched.sentinels:
        sentinel.admin.sentinel_remove(SERVICE)  # or they would put it right
    new.admin.replicaof("NO", "ONE")
    old.admin.replicaof("127.0.0.1", new.port)
    for sentinel in watched.sentinels:
        watch(sentinel.admin, new.port)


def test_a_daemon_leaves_a_master_that_became_a_replica(
    watched: Watched, start_daemon: StartDaemon
) -> None:
    daemon = start_daemon(url=watched.url)

    demote(watched)

    assert queue_on(watched.url).enqueue(jobs.multiply, 6, 7).latest_result(timeout=10)
    assert "redis is back" in daemon.log()


def test_readonly_makes_a_connection_ask_again(watched: Watched) -> None:
    connection: Any = daemon_connection(watched.url)
    connection.set("a", "old")
    demote(watched)

    with pytest.raises(redis.ConnectionError, match="no master"):
        connection.set("a", "new")
    assert connection.set("a", "new")
    assert watched.master.admin.get("a") == "new"


def test_the_loop_never_stands_still_for_long_while_sentinels_are_silent(
    watched: Watched,
) -> None:
    for node in [*watched.sentinels, *watched.nodes]:
        node.server.freeze()
    connection = daemon_connection(watched.url)
    longest_s = 0.0
    for _ in range(8):
        begun = time.monotonic()
        with pytest.raises(redis.RedisError):
            connection.ping()
        longest_s = max(longest_s, time.monotonic() - begun)
        connection.connection_pool.disconnect()

    for node in [*watched.sentinels, *watched.nodes]:
        node.server.thaw()
    assert longest_s < 0.6


def test_the_loop_never_stands_still_for_long_while_the_master_is_silent(
    watched: Watched,
) -> None:
    master = watched.master
    master.server.freeze()
    watched.sentinels[0].server.freeze()
    begun = time.monotonic()
    with pytest.raises(redis.RedisError):
        daemon_connection(watched.url.replace("://", "://:pw@")).ping()
    took_s = time.monotonic() - begun

    master.server.thaw()
    watched.sentinels[0].server.thaw()
    assert took_s < 0.6


def test_a_wrong_service_is_one_line(watched: Watched) -> None:
    for command in (["info"], ["start"], ["enqueue", "tasks.f"]):
        ran = rqd(*command, url=watched.url.replace(f"/{SERVICE}", "/jbos"))

        assert ran.status == EX_UNAVAILABLE, command
        assert "no service 'jbos' is known there" in ran.err, command
        assert ran.err.count("\n") == 1, command


@pytest.mark.parametrize("command", [["info"], ["start"], ["enqueue", "tasks.f"]])
def test_no_sentinel_there_is_one_line(command: list[str]) -> None:
    url = f"redis+sentinel://:secret@127.0.0.1:{free_port()},127.0.0.1:{free_port()}/jobs"

    begun = time.monotonic()
    ran = rqd(*command, url=url)

    assert ran.status == EX_UNAVAILABLE
    assert "no sentinel answers" in ran.err
    assert ran.err.count("is the URL right?") == 1
    assert "secret" not in ran.err
    assert ran.err.count("\n") == 1
    assert time.monotonic() - begun < 5.0


def test_a_sentinel_has_a_password_of_its_own() -> None:
    with nodes(1) as (master,), nodes(1, is_sentinel=True) as (sentinel,):
        watch(sentinel.admin, master.port)
        sentinel.admin.execute_command("SENTINEL", "SET", SERVICE, "auth-pass", "master-pw")
        sentinel.admin.execute_command("ACL", "SETUSER", "default", "resetpass", ">sentinel-pw")
        master.admin.config_set("requirepass", "master-pw")
        url = f"redis+sentinel://:master-pw@{sentinel.address}/{SERVICE}"

        right = client_connection(f"{url}?sentinel_password=sentinel-pw&db=3")
        assert right.set("a", "b")
        assert redis.Redis("127.0.0.1", master.port, password="master-pw", db=3).get("a") == b"b"
        with pytest.raises(ServerUnavailableError, match="no sentinel answers") as caught:
            client_connection(f"{url}?sentinel_password=wrong-pw").ping()
        assert "wrong-pw" not in str(caught.value)


def test_a_sentinel_that_is_wrong_does_not_keep_a_daemon_from_the_others() -> None:
    with nodes(1) as (master,), nodes(2, is_sentinel=True) as (wrong, right):
        watch(wrong.admin, free_port(), quorum=9)  # as one that slept through a failover
        watch(right.admin, master.port, quorum=9)
        url = f"redis+sentinel://{wrong.address},{right.address}/{SERVICE}"

        assert client_connection(url).ping()
        connection = daemon_connection(url)
        with pytest.raises(redis.ConnectionError):
            connection.ping()
        assert connection.ping()
