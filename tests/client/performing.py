"""A worker of a few lines, in place of a daemon: claims, calls and settles by hand."""

import asyncio
import inspect
import pickle
import traceback
from typing import Any

from rqd.callbacks import callback_arguments
from rqd.client.connection import Backend
from rqd.model.call import decode_call
from rqd.model.current import current
from rqd.model.records import Claim
from rqd.store.messages import Settlement, Turn


def claim(backend: Backend, *queues: str, count: int = 1) -> list[Claim]:
    """Claims up to `count` jobs of these queues."""
    store = backend.store
    workers = tuple(range(1, count + 1))
    turn = Turn(store.request_id(), "m", 15_000_000, (), workers, queues or ("default",))
    return list(store.turn(turn).claims)


def settle(backend: Backend, held: Claim, decision: str, result: bytes = b"", **fields: Any) -> str:
    """Records an attempt's end; returns the verdict."""
    one = Settlement(
        held.id, held.token, held.worker, decision, fields=tuple(fields.items()), result=result
    )
    (verdict,) = backend.store.turn(
        Turn(backend.store.request_id(), "m", 15_000_000, (one,))
    ).verdicts
    return verdict


def perform(backend: Backend, *queues: str) -> int:
    """Runs what the queues hold; returns how many jobs that were."""
    done = 0
    while claims := claim(backend, *queues):
        for held in claims:
            perform_one(backend, held)
            done += 1
    return done


def perform_one(backend: Backend, held: Claim) -> None:
    payload = held.payload or backend.store.fetch_payload(held.id, 1 << 30)
    current().enter(held.id, held.queue, held.attempt, held.fence)
    try:
        function, args, kwargs = decode_call(payload, held.serializer)
        if '"callback"' in held.terms:
            args = (*callback_arguments(held.terms), *args)
        value = function(*args, **kwargs)
        if inspect.iscoroutine(value):
            value = asyncio.run(value)
    except Exception as error:  # noqa: BLE001 - whatever a job raises is its outcome
        settle(
            backend,
            held,
            "retry" if held.retries_left else "fail",
            cause=f"raised {type(error).__name__}: {error}",
            exc_type=f"{type(error).__module__}.{type(error).__qualname__}",
            exc_message=str(error),
            exc_string=traceback.format_exc(),
        )
    else:
        settle(backend, held, "finish", pickle.dumps(value), preview=repr(value), pid=7)
    finally:
        current().leave()
