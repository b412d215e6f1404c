"""unique= of enqueue: what may be written, and what comes back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import redis

from rqd import Queue, Unique
from rqd.client.connection import Backend
from rqd.exceptions import ConfigurationError, DuplicateJobError, InvalidCallError
from tests.client import work
from tests.client.performing import perform


def test_a_key_is_refused_until_its_job_has_ended(backend: Backend) -> None:
    queue = Queue()
    first = queue.enqueue(work.multiply, 2, unique="report-42")

    with pytest.raises(DuplicateJobError, match=f"{first.id} has the unique key 'report-42'"):
        Queue("other").enqueue_in(timedelta(hours=1), work.multiply, 3, unique="report-42")

    perform(backend)
    assert queue.enqueue(work.multiply, 3, unique="report-42").get_status() == "queued"


def test_who_can_not_replace_is_told_why(backend: Backend) -> None:
    hour = Unique("k", until="1h")
    first = Queue().enqueue(work.multiply, 2, unique=hour)
    perform(backend)

    with pytest.raises(DuplicateJobError, match="wait for its end, or use Unique"):
        Queue().enqueue(work.multiply, 2, unique="k")
    with pytest.raises(DuplicateJobError, match="can't be replaced: it runs, has ended") as error:
        Queue().enqueue(work.multiply, 3, unique=Unique("k", on_conflict="replace"))
    assert error.value.job_id == first.id


def test_the_existing_job_comes_back_as_it_stands(backend: Backend) -> None:
    once = Unique("k", on_conflict="existing")
    datas = [Queue.prepare_data(work.multiply, [number], unique=once) for number in (2, 3)]
    first, second = Queue().enqueue_many([*datas])

    assert first == second
    assert (second.args, second.get_status(refresh=False)) == ((2,), "queued")


def test_unique_true_is_the_jobs_id(backend: Backend) -> None:
    Queue().enqueue(work.multiply, 2, job_id="a", unique=True)
    with pytest.raises(DuplicateJobError, match="'a' is still alive"):
        Queue().enqueue(work.multiply, 2, job_id="a", unique=True)
    with pytest.raises(InvalidCallError, match="unique=True needs job_id="):
        Queue().enqueue(work.multiply, 2, unique=True)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Unique(""),
        lambda: Unique("a\n"),
        lambda: Unique("k" * 257),
        lambda: Unique("k", until="end"),
        lambda: Unique("k", until=0),
        lambda: Unique("k", until=-1),
        lambda: Unique("k", on_conflict="ignore"),
        lambda: Queue().enqueue(work.multiply, 2, unique=3),
    ],
)
def test_what_is_no_unique_key_is_refused(backend: Backend, wrong: Any) -> None:
    with pytest.raises((ConfigurationError, InvalidCallError), match=r"write|must be"):
        wrong()


def test_on_a_pipeline_there_is_no_existing_job_to_return(backend: Backend, redis_url: str) -> None:
    once = Unique("k", on_conflict="existing")
    made = Queue().create_job(work.multiply, (2,), unique=once)
    with redis.Redis.from_url(redis_url) as client:
        pipe = client.pipeline()
        with pytest.raises(InvalidCallError, match="enqueue without pipeline="):
            Queue().enqueue(work.multiply, 2, unique=once, pipeline=pipe)
        with pytest.raises(InvalidCallError, match="enqueue without pipeline="):
            Queue().enqueue_job(made, pipeline=pipe)
