"""What the client's tests put on queues."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any

import rqd
from rqd import Queue, Worker, get_current_job, progress
from rqd.decorators import job
from tests.waiting import eventually


def multiply(x: int, y: int = 1) -> int:
    return x * y


async def multiply_later(x: int, y: int = 1) -> int:
    return x * y


def echo(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


def fail(message: str) -> None:
    raise ValueError(message)


def current_id() -> str | None:
    found = get_current_job()
    return found.id if found else None


def wait_for(seconds: float) -> None:
    threading.Event().wait(seconds)


def tell_all(count: int) -> None:
    found = get_current_job()
    assert found is not None
    for done in range(1, count + 1):
        found.meta["done"] = done
        found.save_meta()
        progress(done / count, f"{done} of {count}")


FIRST_UPDATE = threading.Event()  # it came to the master's side of a synchronous job


def tell_in_two() -> None:
    found = get_current_job()
    assert found is not None
    progress(1.0, "all")
    assert FIRST_UPDATE.wait(10)
    found.meta["done"] = True
    found.save_meta()


def crash() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def enqueue_more(count: int) -> None:
    for number in range(count):
        Queue("low").enqueue(multiply, number)


def unpicklable() -> Any:
    return threading.Lock()


class PowerInterrupt(Exception):
    pass


def cut_short() -> None:
    raise PowerInterrupt("off")


def interrupt() -> None:
    raise KeyboardInterrupt


def enqueue_another() -> Any:
    before = current_id()
    inner = Queue("inner", is_async=False).enqueue(multiply, 2, 3)
    return before, inner.result, current_id()


def current_name() -> Any:
    found = get_current_job()
    assert found is not None
    return found.worker_name, [worker.name for worker in Worker.all() if worker.state == "busy"]


def seen_in_threads() -> Any:
    """The current job in a thread of its own: as it is, with the context, and by asyncio."""
    along = copy_context()
    with ThreadPoolExecutor(1) as thread:
        found = [thread.submit(run, current_id).result() for run in (lambda f: f(), along.run)]
    return [*found, asyncio.run(asyncio.to_thread(current_id))]


MEET = threading.Barrier(2)


def seen_beside_others() -> Any:
    """What it knows of itself while others run in the same process, and once they have ended."""
    found = []
    for _ in range(2):
        here = get_current_job()
        assert here is not None
        here.meta["me"] = here.id
        here.save_meta()
        MEET.wait(10)
        found.append(current_id())
    return found


def row_that_expired() -> list[dict[bytes, bytes]]:
    """Its worker's row as it was, and as the next heartbeat writes it anew."""
    found = get_current_job()
    assert found is not None
    redis: Any = found.connection.redis
    row = f"{{rqd}}:worker:{found.worker_name}"
    before = redis.hgetall(row)
    redis.delete(row)
    eventually(lambda: redis.exists(row) == 1)
    return [before, redis.hgetall(row)]


def wait_till_renewed() -> bool:
    """Waits until its lease lasts longer than it did, twice."""
    found = get_current_job()
    assert found is not None
    redis, job_id = found.connection.redis, found.id

    def lease() -> float:
        return redis.zscore("{rqd}:leases", job_id) or 0.0

    def is_renewed(before: float) -> bool:
        return lease() > before

    for _ in range(2):
        MEET.wait(10)
        eventually(partial(is_renewed, lease()))
    return True


told: list[str] = []


def note_error(job: Any, _kind: Any, error: BaseException, _traceback: Any) -> None:
    told.append(f"{job.id}: {error}")


def note_call(job: Any, call: Callable[[], Any]) -> Any:
    told.append(job.id)
    return call()


class Greeter:
    def __init__(self, word: str) -> None:
        self.word = word

    def __call__(self, name: str) -> str:
        return f"{self.word}, {name}"

    def greet(self, name: str) -> str:
        return f"{self.word} {name}"

    @classmethod
    def hello(cls, name: str) -> str:
        return cls("hello").greet(name)

    @staticmethod
    def shout(name: str) -> str:
        return name.upper()


class Unreadable:
    """Goes onto a queue, and can't be read back."""

    def __reduce__(self) -> Any:
        return (_refuse, ())


def _refuse() -> None:
    raise RuntimeError("not here")


@job("emails", timeout="5m", result_ttl=60, meta={"by": "decorator"})
def decorated(x: int, *, word: str = "a") -> str:
    return word * x


@job("emails")
def decorated_with_an_id(job_id: str) -> str:
    return job_id


@job("emails")
async def decorated_later(x: int) -> int:
    return x


def fence() -> int:
    return rqd.current_fence()
