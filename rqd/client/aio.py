"""rqd for asyncio: `await` forms of enqueue, fetch, wait and return_value.

The same jobs, options, scripts and signatures as in `rqd.Queue` and `rqd.Job`; only the way to
Redis is redis.asyncio's. Connections are kept for each event loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Iterable
from datetime import datetime, timedelta
from typing import Any, Generic, overload

import rqd.client.job
import rqd.client.queue
from rqd.client.connection import Connection, backend_for
from rqd.client.enqueue import delay_us_of, due_us_of
from rqd.client.job_facts import R
from rqd.client.options import PLAINLY, EnqueueData, Sending, split_call
from rqd.client.records import no_such_job
from rqd.client.results import Result
from rqd.model.errors import InvalidCallError, WaitTimeoutError
from rqd.model.records import JobStatus
from rqd.store.aio import close_connections

__all__ = ["Job", "Queue", "close"]


class Job(Generic[R]):
    """A handle on one job, for `await`.

    `handle` is the blocking handle, as of the last answer. Its attributes ask Redis nothing; its
    methods would block the loop.
    """

    def __init__(self, handle: rqd.client.job.Job[R]) -> None:
        self.handle = handle
        self._backend = handle.connection

    @classmethod
    async def fetch(cls, job_id: str, connection: Connection = None) -> Job[Any]:
        """Returns the job of this id. Raises NoSuchJobError if there is none."""
        backend = backend_for(connection)
        record = await backend.awaiting.job(job_id)
        if record is None:
            raise no_such_job(job_id)
        return Job(rqd.client.job.Job(record, backend))

    @property
    def id(self) -> str:
        """The job's id."""
        return self.handle.id

    async def refresh(self) -> None:
        """Reads the job from Redis again. Raises NoSuchJobError if it is gone."""
        record = await self._backend.awaiting.job(self.id)
        if record is None:
            raise no_such_job(self.id)
        self.handle.show(record)

    async def get_status(self) -> JobStatus:
        """Returns the job's state, asked of Redis now. Raises NoSuchJobError if it is gone."""
        await self.refresh()
        return self.handle.get_status(refresh=False)

    async def wait(self, timeout: float | None = None) -> Job[R]:
        """Waits for the job's end, and returns the job as it ended, like `rqd.Job.wait`.

        A canceled wait leaves nothing behind.
        """
        store = self._backend.awaiting
        limit_s = math.inf if timeout is None else timeout
        if not await store.wait_for_end(self.id, limit_s):
            raise WaitTimeoutError(f"job {self.id} has not ended within {timeout:g} s")
        latest = await store.latest_attempt(self.id)
        self.handle.show_end(await store.job(self.id), latest)
        return self

    async def latest_result(self, timeout: float = 0) -> Result | None:
        """Returns the latest attempt's result; None if there is none yet.

        With a `timeout` in seconds, waits that long for the job's end first.
        """
        store = self._backend.awaiting
        if timeout > 0:
            await store.wait_for_end(self.id, timeout)
        attempt = await store.latest_attempt(self.id)
        if attempt is None:
            return None
        return self.handle.result_of(attempt)

    async def return_value(self) -> R | None:
        """Returns the job's return value, asked of Redis now; None before its end, or if it failed.

        Raises as `Result.return_value`.
        """
        result = await self.latest_result()
        if result is None or result.type is not Result.Type.SUCCESSFUL:
            return None
        data = await self._backend.awaiting.result_bytes(self.id, result.record)
        return None if data is None else result.read(data)

    def __repr__(self) -> str:
        return repr(self.handle)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)


class Queue:
    """A named queue, for `await`. Raises InvalidCallError for `is_async=False` and `wait_` options.

    It has all other options of `rqd.Queue`.
    """

    def __init__(
        self, name: str = "default", connection: Connection = None, **options: Any
    ) -> None:
        self.blocking = rqd.client.queue.Queue(name, connection, **options)
        if not self.blocking.is_async or self.blocking.durability:
            raise InvalidCallError("a queue of rqd.aio has no is_async=False and no wait_ options")
        self.name = self.blocking.name

    @overload
    async def enqueue(
        self, f: Callable[..., Coroutine[Any, Any, R]], *args: Any, **kwargs: Any
    ) -> Job[R]: ...
    @overload
    async def enqueue(self, f: Callable[..., R], *args: Any, **kwargs: Any) -> Job[R]: ...
    @overload
    async def enqueue(self, f: str, *args: Any, **kwargs: Any) -> Job[Any]: ...
    async def enqueue(self, f: Any, *args: Any, **kwargs: Any) -> Job[Any]:
        """Puts a call on the queue and returns its job, like `rqd.Queue.enqueue`.

        A canceled call may have enqueued the job: with a `job_id` you can look.
        """
        data, sending = split_call(f, args, kwargs)
        return (await self._enqueue([data], sending))[0]

    async def enqueue_many(self, job_datas: Iterable[EnqueueData]) -> list[Job[Any]]:
        """Puts calls, made by `prepare_data`, on the queue, like `rqd.Queue.enqueue_many`."""
        datas = list(job_datas)
        return await self._enqueue(datas) if datas else []

    @overload
    async def enqueue_at(
        self, at: datetime, f: Callable[..., Coroutine[Any, Any, R]], *args: Any, **kwargs: Any
    ) -> Job[R]: ...
    @overload
    async def enqueue_at(
        self, at: datetime, f: Callable[..., R], *args: Any, **kwargs: Any
    ) -> Job[R]: ...
    @overload
    async def enqueue_at(self, at: datetime, f: str, *args: Any, **kwargs: Any) -> Job[Any]: ...
    async def enqueue_at(self, at: datetime, f: Any, *args: Any, **kwargs: Any) -> Job[Any]:
        """Puts a call on the queue at a time, like `rqd.Queue.enqueue_at`."""
        data, sending = split_call(f, args, kwargs)
        return (await self._enqueue([data], sending, due_us=due_us_of(at)))[0]

    @overload
    async def enqueue_in(
        self, delay: timedelta, f: Callable[..., Coroutine[Any, Any, R]], *args: Any, **kwargs: Any
    ) -> Job[R]: ...
    @overload
    async def enqueue_in(
        self, delay: timedelta, f: Callable[..., R], *args: Any, **kwargs: Any
    ) -> Job[R]: ...
    @overload
    async def enqueue_in(self, delay: timedelta, f: str, *args: Any, **kwargs: Any) -> Job[Any]: ...
    async def enqueue_in(self, delay: timedelta, f: Any, *args: Any, **kwargs: Any) -> Job[Any]:
        """Puts a call on the queue after a delay, like `rqd.Queue.enqueue_in`."""
        data, sending = split_call(f, args, kwargs)
        return (await self._enqueue([data], sending, delay_us=delay_us_of(delay)))[0]

    prepare_data = staticmethod(rqd.client.queue.Queue.prepare_data)

    async def _enqueue(
        self,
        datas: list[EnqueueData],
        sending: Sending = PLAINLY,
        due_us: int | None = None,
        delay_us: int | None = None,
    ) -> list[Job[Any]]:
        if sending.waits or sending.pipeline is not None:
            raise InvalidCallError("rqd.aio's enqueue has no pipeline= and no wait_ options")
        queue, backend = self.blocking, self.blocking.connection
        drafts = queue.drafts(datas, due_us, delay_us)
        now_us = await backend.awaiting.enqueue(drafts)
        return [
            await Job.fetch(draft.holder_id, backend)
            if draft.holder_id
            else Job(queue.handle(draft, now_us))
            for draft in drafts
        ]

    def __repr__(self) -> str:
        return f"rqd.aio.{self.blocking!r}"


async def close() -> None:
    """Closes this event loop's connections; `asyncio.run` does it at its end by itself."""
    await close_connections()
