"""The store for asyncio: the same scripts and arguments, over redis.asyncio.

A canceled `await` closes the connection of its command: the next command would read its answer.
redis-py does that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import redis
import redis.asyncio
from redis.asyncio import connection as awaiting
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import NoScriptError, ResponseError

from rqd.model.errors import ConfigurationError, RqdError
from rqd.model.names import is_job_id
from rqd.model.records import AttemptRecord, JobRecord, NewJob
from rqd.store.answers import reads_answers
from rqd.store.client import PlainClient
from rqd.store.enqueue_answers import check_ids, partly_enqueued, read_enqueued
from rqd.store.errors import UNREACHED, RedisGone, is_unreached, no_server, user_errors
from rqd.store.job_end import Step, block_slice_s, until_end
from rqd.store.messages import read_text
from rqd.store.queries import parse_attempt, result_of
from rqd.store.replies import AwaitingParser
from rqd.store.scripts import load_script
from rqd.store.store import STAGED_TTL_S, Store
from rqd.store.wire import enqueue_arguments, looks, sendings

T = TypeVar("T")

# Settings of a blocking connection that redis.asyncio has in a form of its own, or not at all.
_OTHERS = {
    "event_dispatcher",
    "maint_notifications_config",
    "parser_class",
    "retry",
    "retry_on_error",
}


_TRIES = 3


class _Clients:
    """The connections of an event loop, by their store. They end with the loop."""

    def __init__(self) -> None:
        self._by_store: dict[AsyncStore, Any] = {}
        self._end = self._close_at_end()

    async def begin(self) -> None:
        """Has the running loop close the connections where it ends its asynchronous generators.

        asyncio.run does so before it closes the loop: later nobody can, without a warning.
        """
        await anext(self._end)

    def of(self, store: AsyncStore) -> Any:
        """Returns the store's client, which opens its connections as they are needed."""
        client = self._by_store.get(store)
        if client is None:
            client = self._by_store[store] = store.make_client()
        return client

    async def close(self) -> None:
        """Closes all connections."""
        await self._end.aclose()

    async def _close_at_end(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            _clients.pop(asyncio.get_running_loop(), None)
            for client in self._by_store.values():
                await client.aclose()


# Module-level on purpose: a connection belongs to the loop in which it was made.
_clients: dict[asyncio.AbstractEventLoop, _Clients] = {}


async def _clients_here() -> _Clients:
    loop = asyncio.get_running_loop()
    if loop not in _clients:
        # The loop of another thread may come in between: neither the scan nor the pop minds.
        for closed in [other for other in list(_clients) if other.is_closed()]:
            _clients.pop(closed, None)
        _clients[loop] = _Clients()
        await _clients[loop].begin()
    return _clients[loop]


async def close_connections() -> None:
    """Closes the connections of the running loop, of all stores."""
    clients = _clients.get(asyncio.get_running_loop())
    if clients is not None:
        await clients.close()


@reads_answers
class AsyncStore:
    """Users' operations on jobs in the namespace of a blocking store, without blocking.

    Raises ConfigurationError for a store whose server may move.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._keys = store.keys
        self._url = store.redis.url if isinstance(store.redis, PlainClient) else ""
        pool = store.redis.connection_pool
        if "directory" in pool.connection_kwargs:
            raise ConfigurationError(
                "rqd.aio talks to one server, redis://, rediss:// or unix://; with Sentinel or a"
                " Cluster write: await asyncio.to_thread(queue.enqueue, ..)"
            )
        self._kind = _kind_of(pool.connection_class)
        self._max_connections = pool.max_connections
        self._settings = {
            name: value for name, value in pool.connection_kwargs.items() if name not in _OTHERS
        }
        # The timeout is kept here and not by redis-py's connections: before Python 3.12 their
        # asyncio.wait_for swallows a cancellation that comes just when they have sent.
        self._patience_s: float | None = self._settings.get("socket_timeout")
        self._settings["socket_timeout"] = None
        self._settings["parser_class"] = AwaitingParser
        self._slice_s = block_slice_s(self._patience_s)

    async def enqueue(self, jobs: Sequence[NewJob]) -> int:
        """Enqueues jobs as `Store.enqueue` does."""
        sent = sendings(jobs, self._store.request_id())
        if len(sent) > 1:
            check_ids(jobs)
            for args, looked_at in looks(sent):
                read_enqueued(await self._run("enqueue", *args), looked_at)
        done, now_us = 0, 0
        for request, portion in sent:
            try:
                now_us = await self._enqueue(portion, request)
            except (RqdError, redis.RedisError) as error:
                if not done:
                    raise
                unknown = len(portion) if is_unreached(error) else 0
                raise partly_enqueued(error, jobs, done, unknown) from error
            done += len(portion)
        return now_us

    async def _enqueue(self, jobs: Sequence[NewJob], request: str) -> int:
        args, staged = enqueue_arguments(jobs, request)
        for name, value in staged.items():
            with user_errors():
                await self._ask("SET", self._keys.staged(name), value, "EX", STAGED_TTL_S)
        return read_enqueued(await self._run("enqueue", *args), jobs)

    async def cancel(self, job_id: str) -> str:
        """Cancels a waiting job as `Store.cancel` does."""
        return read_text(await self._run("cancel", job_id, ""))

    async def job(self, job_id: str) -> JobRecord | None:
        """Returns the job, or None, as `Queries.job` does."""
        if not is_job_id(job_id):
            return None
        fields = await self._ask("HGETALL", self._keys.job(job_id))
        return JobRecord.parse(job_id, fields) if b"status" in fields else None

    async def payload(self, record: JobRecord) -> bytes:
        """Returns a job's payload, as `Queries.payload` does."""
        if record.payload or not record.payload_bytes:
            return record.payload
        return await self._ask("GET", self._keys.payload(record.id)) or b""

    async def attempts(self, job_id: str) -> list[AttemptRecord]:
        """Returns a job's attempts, latest first."""
        entries = await self._ask("XREVRANGE", self._keys.results(job_id), "+", "-")
        return list(filter(None, (parse_attempt(*entry) for entry in entries)))

    async def latest_attempt(self, job_id: str) -> AttemptRecord | None:
        """Returns the latest attempt that is over; None without one."""
        entries = await self._ask("XREVRANGE", self._keys.results(job_id), "+", "-", "COUNT", 1)
        return parse_attempt(*entries[0]) if entries else None

    async def result_bytes(self, job_id: str, attempt: AttemptRecord) -> bytes | None:
        """Returns a result's bytes, or None, as `Queries.result_bytes` does."""
        if "result" in attempt.fields:
            return attempt.fields["result"]
        asked = (("GET", self._keys.result(job_id)), ("HGET", self._keys.job(job_id), "result_of"))
        return result_of(attempt, *await self._carry_out(asked))

    async def wait_for_end(self, job_id: str, timeout_s: float) -> bool:
        """Waits for a job's end as `Queries.wait_for_end` does."""
        steps = until_end(self._keys, job_id, timeout_s, self._slice_s)
        try:
            step = next(steps)
            while True:
                try:
                    answer = await self._carry_out(step)
                except RedisGone as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as end:
            return bool(end.value)

    async def _carry_out(self, step: Step) -> list[Any]:
        if isinstance(step, float):
            await asyncio.sleep(step)
            return []
        if len(step) == 1:
            return [await self._ask(*step[0])]
        return await self._patiently(partial(self._transact, step))

    async def _transact(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        client = (await _clients_here()).of(self)
        async with client.pipeline(transaction=True) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            answers: list[Any] = await pipe.execute()
        return answers

    async def _run(self, name: str, *args: Any) -> Any:
        """Sends a script as `Store._ask` does: its errors say what the user can do."""
        script = load_script(name)
        with user_errors():
            try:
                return await self._ask("EVALSHA", script.sha, 1, self._keys.queues, *args)
            except NoScriptError:
                return await self._ask("EVAL", script.source, 1, self._keys.queues, *args)

    async def _ask(self, *command: Any) -> Any:
        client = (await _clients_here()).of(self)
        return await self._patiently(partial(client.execute_command, *command))

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Sends again after a timeout: each script and command here is safe to send twice."""
        for _ in range(_TRIES):
            try:
                async with asyncio.timeout(self._patience_s):
                    return await ask()
            except TimeoutError:
                continue
            except (*UNREACHED, ResponseError) as error:
                if not is_unreached(error):
                    raise
                raise no_server(error, self._url) from None
        late = redis.TimeoutError(f"no answer within {self._patience_s:g} s")
        raise no_server(late, self._url)

    def make_client(self) -> Any:  # redis-py types an answer as all that it could be
        """Makes a client for the running loop, whose connections live no longer than the loop."""
        pool = awaiting.ConnectionPool(
            connection_class=self._kind,
            max_connections=self._max_connections,
            retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), _TRIES - 1),
            retry_on_error=[redis.ConnectionError, redis.TimeoutError],
            **self._settings,
        )
        return redis.asyncio.Redis.from_pool(pool)


def _kind_of(blocking: type[Any]) -> type[awaiting.AbstractConnection]:
    if issubclass(blocking, redis.UnixDomainSocketConnection):
        return awaiting.UnixDomainSocketConnection
    if issubclass(blocking, redis.SSLConnection):
        return awaiting.SSLConnection
    return awaiting.Connection
