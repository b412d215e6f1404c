"""Waiting for a job's end: what may happen meanwhile."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from redis import Redis

import rqd
from rqd import Job, Queue, Retry, current_fence
from rqd.client.connection import Backend
from rqd.exceptions import (
    ConfigurationError,
    InvalidCallError,
    InvalidJobOperation,
    NoSuchJobError,
    ServerUnavailableError,
    WaitTimeoutError,
)
from rqd.job import JobStatus
from rqd.store.connection import RedisError
from tests.client import work
from tests.client.performing import claim, perform, settle
from tests.servers import RedisServer
from tests.waiting import eventually

# A pool of redis-py 8 has a hundred connections by default.
MANY = 120


@contextmanager
def waiting_for(job: Job[Any], found: list[Any]) -> Iterator[None]:
    """Another thread waits for the job when the block begins, and has ended after it."""

    def wait() -> None:
        try:
            found.append(job.wait(30))
        except Exception as error:  # noqa: BLE001 - the test looks at it
            found.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    redis: Any = job._backend.store.redis
    eventually(lambda: redis.info("clients")["blocked_clients"] == 1)
    yield
    thread.join(10)
    assert found, "it still waits"


def test_a_wait_ends_with_the_job_and_not_with_its_first_attempt(backend: Backend) -> None:
    job, found = Queue().enqueue(work.multiply, 3, 2, retry=Retry(1)), list[Any]()
    with waiting_for(job, found):
        (held,) = claim(backend)
        settle(backend, held, "retry", cause="raised ValueError")
        (held,) = claim(backend)
        settle(backend, held, "put_back")
        assert found == []
        perform(backend)

    assert found == [job]
    assert (job.get_status(refresh=False), job.return_value()) == (JobStatus.FINISHED, 6)
    assert job.wait() is job


ENDS: dict[str, Callable[[Job[Any]], None]] = {
    "cancel": lambda job: job.cancel(),
    "delete": lambda job: job.delete(),
}


@pytest.mark.parametrize("act", ENDS)
def test_a_wait_ends_when_nobody_will_run_the_job_any_more(backend: Backend, act: str) -> None:
    job, found = Queue().enqueue(work.multiply, 3), list[Any]()
    with waiting_for(job, found):
        ENDS[act](Job.fetch(job.id))

    if act == "cancel":
        assert found[0].is_canceled
    else:
        assert isinstance(found[0], NoSuchJobError)


def test_a_job_that_leaves_no_record_still_ends_its_wait(backend: Backend) -> None:
    good = Queue().enqueue(work.multiply, 3, result_ttl=0)
    bad = Queue().enqueue(work.fail, "no such luck", failure_ttl=0)
    perform(backend)

    assert good.wait(1).get_status(refresh=False) is JobStatus.FINISHED
    assert bad.wait(1).get_status(refresh=False) is JobStatus.FAILED
    assert bad.cause == "raised ValueError: no such luck"


def test_a_wait_that_takes_too_long_says_so(backend: Backend) -> None:
    job = Queue().enqueue(work.multiply, 3)

    with pytest.raises(WaitTimeoutError, match=f"job {job.id} has not ended within 0.05 s"):
        job.wait(0.05)
    with pytest.raises(TimeoutError):
        job.wait(0)


def test_a_wait_goes_on_when_the_server_comes_back(own_server: RedisServer) -> None:
    job, found = Queue(connection=own_server.url).enqueue(work.multiply, 4, 2), list[Any]()
    with waiting_for(job, found):
        own_server.restart()
        perform(job._backend)

    assert found[0].return_value() == 8


def test_a_server_that_was_never_there_is_not_waited_for(own_server: RedisServer) -> None:
    job = Queue(connection=own_server.url).enqueue(work.multiply, 4)
    own_server.kill()

    with pytest.raises(RedisError, match="connect"):
        job.wait(30)


def test_more_threads_wait_than_redis_py_has_connections_by_default(backend: Backend) -> None:
    job = Queue().enqueue(work.multiply, 3, 2)
    redis: Any = backend.store.redis
    with ThreadPoolExecutor(MANY) as threads:
        waits = [threads.submit(job.wait, 30) for _ in range(MANY)]
        eventually(lambda: redis.info("clients")["blocked_clients"] == MANY or any_done(waits), 20)
        assert not any_done(waits)
        perform(backend)

        assert [wait.result() for wait in waits] == [job] * MANY


def test_a_url_may_limit_the_connections(redis_url: str) -> None:
    limited = Queue(connection=f"{redis_url}?max_connections=1")
    job = limited.enqueue(work.multiply, 3, 2)
    with ThreadPoolExecutor(1) as threads:
        wait = threads.submit(job.wait, 1)
        eventually(lambda: Redis.from_url(redis_url).info("clients")["blocked_clients"] == 1)
        with pytest.raises(ServerUnavailableError, match="Too many connections"):
            job.refresh()
        with pytest.raises(WaitTimeoutError):
            wait.result()


def any_done(waits: list[Future[Any]]) -> bool:
    return any(wait.done() for wait in waits)


def test_only_a_job_itself_tells_its_progress(backend: Backend) -> None:
    job = Queue().enqueue(work.multiply, 1)

    with pytest.raises(InvalidJobOperation, match="itself can report its progress"):
        job.set_progress(0.5)
    rqd.progress(0.5, "nobody hears it")
    for share in (40, -1, float("nan"), "half"):
        with pytest.raises(InvalidCallError, match="write a share from 0 to 1"):
            rqd.progress(share)  # type: ignore[arg-type]  # what is tried here
    for seconds in (0, -1, "soon"):
        with pytest.raises(ConfigurationError):
            rqd.extend_timeout(seconds)


def test_the_fence_is_the_claims_and_is_known_only_in_a_job(backend: Backend) -> None:
    first, second = (Queue().enqueue(work.fence) for _ in range(2))
    perform(backend)

    assert first.return_value() == Job.fetch(first.id)._record.fence
    assert first.return_value() < second.return_value()  # type: ignore[operator]  # both are there
    with pytest.raises(InvalidJobOperation, match="no job runs here"):
        current_fence()
