"""The shop's web side: an order becomes a job, and its customer follows that."""

import hmac
import json
import os
import threading
import time

from rqd import Queue, use_redis
from rqd.exceptions import NoSuchJobError, ServerUnavailableError
from rqd.job import Job

import shop
from flask import Blueprint, Flask, Response, current_app, request, session

LOOK_EVERY_S = 0.5

orders = Queue("orders")
site = Blueprint("shop", __name__)


def create_app(**config):
    """Makes the application. RQD_URL None is the environment's RQD_URL.

    SHOP_PASSWORD is the password of operators; without it nobody can log in.
    """
    app = Flask(__name__)
    app.config.update(
        RQD_URL=None,
        SHOP_PASSWORD=os.environ.get("SHOP_PASSWORD"),
        SESSION_COOKIE_SAMESITE="Lax",
        CENTS={"tea": 450, "milk": 120, "cake": 390},
        MOST_STREAMS=8,  # each holds a thread of the server
        LONGEST_STREAM_S=300,
        PING_S=5,
    )
    app.config.update(config)
    use_redis(app.config["RQD_URL"])
    app.extensions["streams"] = threading.Semaphore(app.config["MOST_STREAMS"])
    app.register_blueprint(site)
    return app


def find(job_id):
    """Returns an order's job. Raises NoSuchJobError, also for jobs of other queues."""
    job = Job.fetch(job_id)
    if job.origin != orders.name:
        raise NoSuchJobError(f"job {job_id!r} is no order", job_id)
    return job


def look(job):
    """Returns what a customer sees of a job, as of its last answer from Redis."""
    status, progress = job.get_status(refresh=False), job.progress
    return {
        "id": job.id,
        "status": status,
        "fraction": progress.fraction if progress else 0,
        "message": progress.message if progress else "",
        "bill": job.return_value() if status == "finished" else None,
        "cause": job.cause,
    }


@site.post("/orders")
def order():
    """Enqueues an order, and says where to look at it."""
    wanted = request.get_json(silent=True)
    items = wanted.get("items") if isinstance(wanted, dict) else None
    if not (
        isinstance(items, list)
        and 1 <= len(items) <= 100
        and all(isinstance(item, str) for item in items)
    ):
        return {"error": 'send {"items": [..]}, with 1 to 100 names'}, 400
    job = orders.enqueue(shop.pack, items, result_ttl="1h")
    return look(job), 202, {"Location": f"/jobs/{job.id}"}


@site.get("/jobs/<job_id>")
def poll(job_id):
    """Shows an order with its bill, or the cause of its failure."""
    return look(find(job_id))


@site.get("/jobs/<job_id>/events")
def follow(job_id):
    """Streams an order's changes until its end; a stream that lasts too long ends before."""
    told = stream(find(job_id), current_app.config, current_app.extensions["streams"])
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return Response(told, mimetype="text/event-stream", headers=headers)


def stream(job, config, streams):
    """Yields the events of a job; a comment now and then shows whether somebody still reads."""
    if not streams.acquire(blocking=False):
        yield "retry: 10000\n\n"  # a browser comes again after so many milliseconds
        return
    try:
        yield from events(job, config)
    finally:
        streams.release()


def events(job, config):
    """Yields an event each time that a job looks different, and comments in between."""
    last = shown = None
    now = told_at = time.monotonic()
    end_at = now + config["LONGEST_STREAM_S"]
    while now < end_at:
        try:
            job.refresh()
            shown = look(job)
        except ServerUnavailableError:
            pass  # the order is not lost: the stream goes on as soon as Redis is back
        except NoSuchJobError:
            yield event("end", {"id": job.id, "status": "gone"})
            return
        has_ended = shown is not None and shown["status"].is_terminal
        if shown != last:
            last, told_at = shown, now
            yield event("end" if has_ended else "progress", shown)
        elif now - told_at >= config["PING_S"]:
            told_at = now
            yield ": here\n\n"
        if has_ended:
            return
        time.sleep(LOOK_EVERY_S)
        now = time.monotonic()


def event(name, data):
    """Returns an event as it is sent."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


@site.post("/login")
def log_in():
    """Lets an operator in to the dashboard."""
    password, given = current_app.config["SHOP_PASSWORD"], request.form.get("password", "")
    if not password or not hmac.compare_digest(given.encode(), password.encode()):
        return {"error": "wrong password"}, 403
    session["is_operator"] = True
    return "", 204


@site.errorhandler(NoSuchJobError)
def no_such_job(error):
    """Answers 404."""
    return {"error": f"there is no order {error.job_id}"}, 404


@site.errorhandler(ServerUnavailableError)
def redis_away(error):
    """Answers 503. The reason names a host, so that only the log gets it."""
    current_app.logger.error("redis: %s", error)
    return {"error": "try again in a moment"}, 503, {"Retry-After": "5"}
