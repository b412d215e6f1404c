"""Which Redis the user's code talks to."""

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import redis
import redis.asyncio

import rqd.aio
from rqd import Job, Queue, Worker, use_redis
from rqd.client.connection import _connections, backend_for
from rqd.exceptions import ConfigurationError, ServerUnavailableError
from tests.client import work
from tests.client.performing import perform
from tests.servers import RedisServer


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing was said yet about which Redis to use."""
    for name in ("RQD_URL", "REDIS_URL", "RQD_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    before = _connections.default
    _connections.default = None
    yield
    _connections.default = before


def goes_to(server: RedisServer) -> bool:
    job = Queue().enqueue(work.multiply, 6, 7)
    assert perform(backend_for()) == 1
    with redis.Redis.from_url(server.url) as client:
        return bool(client.exists(f"{{{backend_for().namespace}}}:job:{job.id}"))


def test_a_url(server: RedisServer, redis_url: str) -> None:
    use_redis(redis_url)

    assert goes_to(server)


@pytest.mark.parametrize("name", ["RQD_URL", "REDIS_URL"])
def test_the_environment(
    server: RedisServer, redis_url: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, redis_url)
    monkeypatch.setenv("RQD_NAMESPACE", "billing")
    use_redis()

    assert goes_to(server)
    assert backend_for().namespace == "billing"


def test_the_environment_without_a_call(
    server: RedisServer, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RQD_URL", redis_url)

    assert goes_to(server)


def test_a_queue_made_before_goes_to_the_redis_that_was_said_last(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RQD_URL", "redis://localhost:1")  # where nobody answers
    of_a_module, awaiting = Queue("mails"), rqd.aio.Queue("mails")
    with pytest.raises(ServerUnavailableError):
        of_a_module.enqueue(work.multiply, 6)

    use_redis(redis_url, namespace="billing")
    job = of_a_module.enqueue(work.multiply, 6, on_success=work.multiply)
    asyncio.run(awaiting.enqueue(work.multiply, 7))

    assert of_a_module.count == Queue("mails").count == 2
    assert job.connection is of_a_module.connection is backend_for()


def test_a_queue_that_was_handed_a_connection_keeps_it(redis_url: str) -> None:
    queue = Queue("mails", connection=redis_url)

    use_redis("redis://localhost:1")

    assert queue.is_empty()


@pytest.mark.parametrize("decode", [True, False])
def test_a_client_of_the_users_own_which_is_read_and_not_used(
    server: RedisServer, redis_url: str, decode: bool
) -> None:
    theirs = redis.Redis.from_url(redis_url, decode_responses=decode)
    use_redis(theirs, namespace="mine")

    assert goes_to(server)
    assert backend_for().url.startswith(redis_url)
    assert backend_for().namespace == "mine"
    theirs.set("word", "é")
    assert theirs.get("word") == ("é" if decode else "é".encode())


def test_nothing_is_connected_before_the_first_use() -> None:
    use_redis("redis://localhost:1")
    Queue("low")
    Worker(["low"])

    with pytest.raises(redis.ConnectionError):
        Queue("low").enqueue(work.multiply, 1)


def test_a_server_that_is_not_there_or_lets_nobody_in_is_one_line_that_says_what_to_do(
    server: RedisServer, tmp_path: Path
) -> None:
    wrong = server.url.replace("//", "//nobody:geheim@")
    for url, kind, told in (
        ("redis://localhost:1", redis.ConnectionError, "no Redis at redis://localhost:1 "),
        (f"embedded:{tmp_path}", redis.ConnectionError, f"`rqd start --url embedded:{tmp_path}`"),
        (wrong, redis.AuthenticationError, "refused the password or user"),
    ):
        queue = Queue("low", url)
        for call in (partial(queue.enqueue, "tasks.f"), queue.get_job_ids):
            with pytest.raises(kind) as raised:
                call()
            assert isinstance(raised.value, ServerUnavailableError)
            assert told in str(raised.value)
            assert "geheim" not in str(raised.value)
            assert raised.value.__suppress_context__  # else redis-py's frames are shown


@pytest.mark.parametrize("url", ["http://h", "localhost", "redis://", ""])
def test_a_url_that_cannot_be_read_is_refused_at_once(url: str) -> None:
    if url:
        with pytest.raises(ConfigurationError, match="URL"):
            use_redis(url)
    with pytest.raises(ConfigurationError, match="URL"):
        Queue("low", connection=url)


def test_a_connection_can_be_handed_to_each(redis_url: str) -> None:
    theirs = redis.Redis.from_url(redis_url)
    job = Queue("low", connection=theirs).enqueue(work.multiply, 1)

    assert Job.fetch(job.id, connection=theirs) == job
    assert Job.fetch(job.id, connection=redis_url) == job
    assert Job.exists(job.id, theirs)
    assert Queue.all(theirs) == [Queue("low", theirs)]
    assert Queue("low", theirs).connection is Queue("high", theirs).connection


def test_one_url_is_one_pool_of_connections(own_server: RedisServer) -> None:
    # Of its own, as what earlier tests have started may still connect to the run's.
    job = Queue("low", own_server.url).enqueue(work.multiply, 1)
    with redis.Redis.from_url(own_server.url) as client:
        before = client.info("stats")["total_connections_received"]

        for _ in range(5):
            Job.fetch(job.id, own_server.url)

        assert client.info("stats")["total_connections_received"] == before


def test_a_workers_queues_are_named_once_and_bring_their_redis(redis_url: str) -> None:
    queue = Queue("low", redis_url)

    worker = Worker([queue, "high"], name="me")

    assert worker.queue_names() == ["low", "high"]
    assert worker.queues[1].connection is queue.connection
    with pytest.raises(ConfigurationError, match="name at least one queue"):
        Worker([])


@pytest.mark.parametrize(
    "given",
    [7, {}, b"redis://h", object(), Mock(), redis.asyncio.Redis(), redis.ConnectionPool()],
    ids=lambda given: type(given).__name__,
)
def test_what_is_neither_a_url_nor_a_client_is_refused_with_its_type(given: Any) -> None:
    kind = f"connection: a {type(given).__module__}.{type(given).__qualname__} is no connection"
    for use in (use_redis, partial(Queue, "low"), partial(rqd.aio.Queue, "low")):
        with pytest.raises(ConfigurationError, match=kind):
            use(given)


def test_a_queues_connection_is_taken_with_its_namespace_and_keys(redis_url: str) -> None:
    use_redis(redis_url, namespace="shop", signing_keys=["k" * 32])
    there = Queue().connection
    use_redis(redis_url)

    use_redis(there)

    assert Queue().connection is there
    with pytest.raises(ConfigurationError, match="has its own: leave out namespace="):
        use_redis(there, namespace="other")


def test_fakeredis_is_refused_with_what_to_use_instead() -> None:
    own: dict[str, Any] = {"__module__": "fakeredis._connection"}
    kind = type("FakeConnection", (redis.Connection,), own)
    client = redis.Redis(connection_pool=redis.ConnectionPool(connection_class=kind))

    with pytest.raises(ConfigurationError, match=r"fakeredis can.t .*embedded_server.*rqd_queue"):
        Queue("low", client)
