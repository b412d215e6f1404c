"""The shop's web side: an order becomes a job, and its customer follows that."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Annotated, Any

import redis  # noqa: F401 - rqd would load it in the first request, which would wait for it
import rqd.aio
from fastapi.responses import JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field
from rqd import use_redis
from rqd.exceptions import NoSuchJobError, ServerUnavailableError
from rqd.job import JobStatus
from rqd.web import app as dashboard
from rqd.web.access import Basic

import shop
from fastapi import APIRouter, Depends, FastAPI, Request, Response

LOOK_EVERY_S = 0.5
LONGEST_STREAM_S = 300.0

log = logging.getLogger("uvicorn.error")
orders = rqd.aio.Queue("orders")
router = APIRouter()


class Order(BaseModel):
    """What a customer sends."""

    items: Annotated[list[str], Field(min_length=1, max_length=100)]


class Shown(BaseModel):
    """What a customer sees of an order."""

    id: str
    status: JobStatus
    fraction: float = 0
    message: str = ""
    bill: shop.Bill | None = None
    cause: str | None = None


async def find(job_id: str) -> rqd.aio.Job[Any]:
    """Returns an order's job. Raises NoSuchJobError, also for jobs of other queues."""
    job = await rqd.aio.Job.fetch(job_id)
    if job.handle.origin != orders.name:
        raise NoSuchJobError(f"job {job_id!r} is no order", job_id)
    return job


Found = Annotated[rqd.aio.Job[Any], Depends(find)]


async def look(job: rqd.aio.Job[Any]) -> Shown:
    """Returns what a job shows, as of its last answer from Redis."""
    shown = Shown(id=job.id, status=job.handle.get_status(refresh=False), cause=job.handle.cause)
    if progress := job.handle.progress:
        shown.fraction, shown.message = progress.fraction, progress.message
    if shown.status == "finished":
        shown.bill = await job.return_value()
    return shown


@router.post("/orders", status_code=202)
async def order(wanted: Order, response: Response) -> Shown:
    """Enqueues an order, and says where to look at it."""
    job = await orders.enqueue(shop.pack, wanted.items, result_ttl="1h")
    response.headers["location"] = f"/jobs/{job.id}"
    return await look(job)


@router.get("/jobs/{job_id}")
async def poll(job: Found) -> Shown:
    """Shows an order with its bill, or the cause of its failure."""
    return await look(job)


@router.get("/jobs/{job_id}/events", response_class=EventSourceResponse)
async def follow(job: Found, request: Request) -> AsyncIterator[ServerSentEvent]:
    """Streams an order's changes until its end; a stream that lasts too long ends before.

    A look is one command to Redis, and holds no connection between two looks.
    """
    last = shown = None
    end_at = monotonic() + request.app.state.longest_stream_s
    while monotonic() < end_at:
        try:
            await job.refresh()
            shown = await look(job)
        except ServerUnavailableError:
            pass  # the order is not lost: the stream goes on as soon as Redis is back
        except NoSuchJobError:
            yield ServerSentEvent(event="end", data={"id": job.id, "status": "gone"})
            return
        has_ended = shown is not None and shown.status.is_terminal
        if shown != last:
            last = shown
            yield ServerSentEvent(event="end" if has_ended else "progress", data=shown)
        if has_ended:
            return
        await asyncio.sleep(LOOK_EVERY_S)


async def no_such_job(_: Request, error: NoSuchJobError) -> JSONResponse:
    """Answers 404."""
    return JSONResponse({"error": f"there is no order {error.job_id}"}, 404)


async def redis_away(_: Request, error: ServerUnavailableError) -> JSONResponse:
    """Answers 503. The reason names a host, so that only the log gets it."""
    log.error("redis: %s", error)
    return JSONResponse({"error": "try again in a moment"}, 503, {"retry-after": "5"})


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Closes the connections to Redis at the end. Before their first use there are none."""
    yield
    await rqd.aio.close()


def create_app(redis_url: str | None = None, longest_stream_s: float = LONGEST_STREAM_S) -> FastAPI:
    """Makes the application. `redis_url` None is RQD_URL.

    SHOP_PASSWORD is the password of `operator` at /rqd; without it there is no dashboard.
    """
    use_redis(redis_url)
    app = FastAPI(title="shop", lifespan=lifespan)
    app.state.longest_stream_s = longest_stream_s
    app.include_router(router)
    app.add_exception_handler(NoSuchJobError, no_such_job)
    app.add_exception_handler(ServerUnavailableError, redis_away)
    if password := os.environ.get("SHOP_PASSWORD"):
        app.mount("/rqd", dashboard(redis_url, auth=Basic({"operator": password})))
    return app
