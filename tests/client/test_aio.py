"""`rqd.aio`: the same jobs, awaited; and what a canceled await leaves behind."""

import asyncio
import gc
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import pytest

import rqd.aio
from rqd import Retry, Unique
from rqd.aio import Job, Queue
from rqd.client.connection import Backend, _open
from rqd.exceptions import (
    ConfigurationError,
    DuplicateJobError,
    InvalidCallError,
    NoSuchJobError,
    ServerUnavailableError,
    SignatureError,
    WaitTimeoutError,
)
from rqd.job import JobStatus
from tests.client import work
from tests.client.performing import claim, perform, settle
from tests.relay import Relay
from tests.servers import RedisServer

T = TypeVar("T")
LARGE = 100_000


def run(story: Callable[[], Coroutine[Any, Any, T]], limit_s: float = 30) -> T:
    """In a loop of its own, as a program would; closed at its end, so that nothing is left open."""

    async def limited() -> T:
        try:
            async with asyncio.timeout(limit_s):
                return await story()
        finally:
            await rqd.aio.close()

    return asyncio.run(limited())


@asynccontextmanager
async def performing(backend: Backend) -> AsyncIterator[None]:
    """Runs what is there in a thread while the block waits."""
    task = asyncio.create_task(asyncio.to_thread(_perform_soon, backend))
    yield
    await task


def _perform_soon(backend: Backend) -> None:
    redis: Any = backend.store.redis
    while redis.info("clients")["blocked_clients"] == 0:
        pass
    perform(backend)


def test_of_a_repeated_jobs_large_results_the_latest_is_no_earlier_runs(backend: Backend) -> None:
    async def story() -> None:
        job, store = await Queue().enqueue(work.multiply, 1), backend.awaiting
        read = []
        for last in ("1", "2"):
            (held,) = claim(backend)
            settle(backend, held, "repeat", result=b"r" * LARGE + last.encode())
            read.append(await store.latest_attempt(job.id))
        first, second = filter(None, read)
        assert await store.result_bytes(job.id, second) == b"r" * LARGE + b"2"
        assert await store.result_bytes(job.id, first) is None

    run(story)


def test_a_job_is_enqueued_awaited_and_read(backend: Backend) -> None:
    async def story() -> None:
        job = await Queue("low").enqueue(work.multiply, 6, y=7, job_id="mine", meta={"a": 1})
        assert (job.id, job.handle.origin, job.handle.meta) == ("mine", "low", {"a": 1})
        assert await job.get_status() is JobStatus.QUEUED
        assert await job.return_value() is None
        assert await job.latest_result() is None
        with pytest.raises(WaitTimeoutError):
            await job.wait(0.05)
        perform(backend, "low")
        assert (await job.wait(5)).handle.get_status(refresh=False) is JobStatus.FINISHED
        assert await job.return_value() == 42
        again = await Job.fetch("mine")
        assert again == job
        result = await again.latest_result(5)
        assert result is not None
        assert result.attempt == 1

    run(story)


def test_many_and_later_ones_and_large_ones(backend: Backend) -> None:
    async def story() -> None:
        queue = Queue()
        datas = [Queue.prepare_data(work.echo, ["x" * size]) for size in (1, LARGE)]
        small, large = await queue.enqueue_many(datas)
        later = await queue.enqueue_in(timedelta(hours=1), work.multiply, 1)
        assert await queue.enqueue_many([]) == []
        assert later.handle.get_status(refresh=False) is JobStatus.SCHEDULED
        assert await later.get_status() is JobStatus.SCHEDULED
        perform(backend)
        assert await small.return_value() == (("x",), {})
        assert await large.return_value() == (("x" * LARGE,), {})

    run(story)


def test_a_wait_is_for_the_end_and_blocks_no_other_task(backend: Backend) -> None:
    async def story() -> None:
        job = await Queue().enqueue(work.multiply, 3, 2, retry=Retry(1))
        waits = [asyncio.create_task(job.wait(20)) for _ in range(3)]
        for _ in range(5):
            await asyncio.sleep(0)
        (held,) = claim(backend)
        settle(backend, held, "retry", cause="raised ValueError")
        assert not any(wait.done() for wait in waits)
        await asyncio.to_thread(perform, backend)
        settled_at = monotonic()
        assert await asyncio.gather(*waits) == [job] * 3
        assert monotonic() - settled_at < 1
        assert await job.return_value() == 6

    run(story)


def test_more_tasks_wait_than_redis_py_has_connections_by_default(backend: Backend) -> None:
    async def story() -> None:
        jobs = await asyncio.gather(*(Queue().enqueue(work.multiply, 3, n) for n in range(120)))
        waits = [asyncio.create_task(job.wait(20)) for job in jobs]
        redis: Any = backend.store.redis
        while redis.info("clients")["blocked_clients"] < 120 and not any(w.done() for w in waits):
            await asyncio.sleep(0)
        await asyncio.to_thread(perform, backend)

        assert await asyncio.gather(*waits) == jobs
        assert await jobs[7].return_value() == 21

    run(story)


def test_what_is_refused_is_refused_as_elsewhere(backend: Backend) -> None:
    async def story() -> None:
        queue = Queue()
        await queue.enqueue(work.multiply, 1, job_id="a", unique=Unique("key"))
        with pytest.raises(DuplicateJobError):
            await queue.enqueue(work.multiply, 1, job_id="a")
        existing = Unique("key", on_conflict="existing")
        assert (await queue.enqueue(work.multiply, 1, unique=existing)).id == "a"
        with pytest.raises(InvalidCallError, match="a lambda has no name"):
            await queue.enqueue(lambda: None)
        with pytest.raises(InvalidCallError, match="no wait_ options"):
            await queue.enqueue(work.multiply, 1, wait_replicas=1)
        with pytest.raises(NoSuchJobError):
            await Job.fetch("nobody")
        gone = await queue.enqueue(work.multiply, 1)
        gone.handle.delete()
        with pytest.raises(NoSuchJobError):
            await gone.wait(5)

    run(story)
    with pytest.raises(InvalidCallError, match="is_async"):
        Queue(is_async=False)
    for url in ("redis+sentinel://localhost:1/name", "redis+cluster://localhost:1"):
        with pytest.raises(ConfigurationError, match="one server"):
            run(lambda url=url: Queue(connection=url).enqueue(work.multiply, 1))  # type: ignore[misc]  # bound now


def test_results_are_signed_and_checked_there_too(redis_url: str) -> None:
    signing, other = (_open(redis_url, None, [letter * 32]) for letter in "ab")

    async def story() -> None:
        job = await Queue(connection=signing).enqueue(work.multiply, 3)
        (held,) = claim(signing)
        assert held.envelope is not None
        settle(signing, held, "finish", b"forged")
        with pytest.raises(SignatureError):
            await job.return_value()
        with pytest.raises(SignatureError):
            _ = (await Job.fetch(job.id, other)).handle.args

    run(story)


def test_a_canceled_await_leaves_no_connection_with_a_stale_answer(backend: Backend) -> None:
    dice = random.Random(7)
    redis: Any = backend.store.redis
    others = {client["id"] for client in redis.client_list()}  # of tests before, on this server

    def left() -> list[Any]:
        return [client for client in redis.client_list() if client["id"] not in others]

    async def story() -> None:
        queue = Queue()
        ended = await queue.enqueue(work.echo, "ended")
        perform(backend)
        waited = await queue.enqueue(work.echo, "waited")

        async def ask(number: int) -> None:
            assert (await Job.fetch(ended.id)).id == ended.id
            assert await ended.return_value() == (("ended",), {})
            job = await queue.enqueue(work.multiply, number, job_id=f"j{number}")
            assert (await job.get_status(), job.id) == (JobStatus.QUEUED, f"j{number}")

        for number in range(300):
            asking: Awaitable[Any] = ask(number) if number % 3 else waited.wait(30)
            task = asyncio.ensure_future(asking)
            await asyncio.sleep(dice.random() * 0.003)
            task.cancel()
            done = await asyncio.gather(task, return_exceptions=True)
            assert done[0] is None or isinstance(done[0], asyncio.CancelledError), done
        await ask(1000)
        # The loop closes what was canceled, and the server notices, when they come to it.
        give_up_at = time.monotonic() + 5
        while len(left()) >= 10:
            assert time.monotonic() < give_up_at, left()
            await asyncio.sleep(0.01)

    run(story)


def test_an_enqueue_whose_answer_is_lost_is_sent_again_and_makes_one_job(
    own_server: RedisServer, tmp_path: Path
) -> None:
    with Relay(tmp_path / "relay.sock", own_server.socket_path) as relay:
        queue = Queue(connection=f"{relay.url}?socket_timeout=0.3")

        async def story() -> None:
            await queue.enqueue(work.multiply, 1)
            relay.keep_back = b"the one"
            job = await queue.enqueue(work.echo, "the one")
            assert relay.is_kept.is_set()
            assert await job.get_status() is JobStatus.QUEUED

        run(story)
        relay.release.set()
        assert queue.blocking.count == 2


def test_each_event_loop_has_connections_of_its_own(backend: Backend) -> None:
    queue = Queue()
    for number in range(3):
        job = run(lambda number=number: queue.enqueue(work.multiply, number))  # type: ignore[misc]  # bound now
        perform(backend)
        assert run(job.return_value) == number


def test_connections_end_with_their_loop(backend: Backend) -> None:
    queue = Queue()
    before = _descriptors()
    for _ in range(100):
        asyncio.run(queue.enqueue(work.multiply, 1))

    assert _descriptors() == before
    assert queue.blocking.count == 100


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_those_of_loops_that_were_closed_by_hand_go_with_the_next_loop(backend: Backend) -> None:
    queue = Queue()
    before = _descriptors()
    for _ in range(20):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(queue.enqueue(work.multiply, 1))
        loop.close()
    asyncio.run(queue.enqueue(work.multiply, 1))

    assert _descriptors() == before


def test_a_loop_that_goes_on_after_close_opens_others(backend: Backend) -> None:
    async def story() -> None:
        queue = Queue()
        for _ in range(2):
            await queue.enqueue(work.multiply, 1)
            assert _descriptors() == before + 1
            await rqd.aio.close()
            await rqd.aio.close()

    before = _descriptors() + 3  # the loop's own
    run(story)
    assert _descriptors() == before - 3


def _descriptors() -> int:
    gc.collect()  # what other tests have left
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_wait_goes_on_when_the_server_comes_back(own_server: RedisServer) -> None:
    async def story() -> None:
        job = await Queue(connection=own_server.url).enqueue(work.multiply, 4, 2)
        waiting = asyncio.create_task(job.wait(20))
        await asyncio.sleep(0.1)
        await asyncio.to_thread(own_server.restart)
        await asyncio.to_thread(perform, job.handle.connection)
        assert await (await waiting).return_value() == 8

    run(story)


@pytest.mark.parametrize("size_bytes", [1, LARGE])
def test_a_job_that_a_full_server_does_not_take_is_one_clear_line(
    own_server: RedisServer, size_bytes: int
) -> None:
    """Also where the payload goes before the script."""
    own_server.command("CONFIG SET maxmemory 1")

    async def enqueue() -> None:
        await Queue("low", own_server.url).enqueue(work.echo, b"x" * size_bytes)

    with pytest.raises(ServerUnavailableError, match="accepts no writes"):
        run(enqueue)
    with pytest.raises(ServerUnavailableError, match="accepts no writes"):
        rqd.Queue("low", own_server.url).enqueue(work.echo, b"x" * size_bytes)
