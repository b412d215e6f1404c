"""What a queue holds, and what is taken out of it."""

from copy import copy
from datetime import timedelta
from typing import Any

import pytest

from rqd import Job, Queue, Retry
from rqd.client.connection import Backend, use_redis
from rqd.exceptions import (
    ConfigurationError,
    DuplicateJobError,
    InvalidCallError,
    InvalidJobOperation,
)
from rqd.group import Group
from tests.client import work
from tests.client.performing import claim, perform


def test_making_a_queue_asks_redis_nothing_and_its_first_job_makes_it(backend: Backend) -> None:
    queue = Queue("low")
    assert Queue.all() == []
    assert queue.is_empty()
    assert queue.latency == 0

    queue.enqueue(work.multiply, 1)

    assert Queue.all() == [queue]
    assert not queue.is_empty()
    assert (queue.count, len(queue)) == (1, 1)
    assert 0 < queue.latency < 60


def test_a_queue_shows_its_jobs_next_first(backend: Backend) -> None:
    queue = Queue()
    jobs = [queue.enqueue(work.multiply, number) for number in range(5)]
    ids = [job.id for job in jobs]

    assert queue.jobs == jobs
    assert queue.job_ids == queue.get_job_ids() == ids
    assert queue.get_job_ids(1, 2) == ids[1:3]
    assert queue.get_job_ids(3) == ids[3:]
    assert queue.get_jobs(offset=4, length=9) == jobs[4:]
    assert queue.get_job_position(jobs[2]) == queue.get_job_position(ids[2]) == 2
    assert queue.get_job_position("nobody") is None
    (held,) = claim(backend)
    assert held.id == ids[0]
    assert queue.get_job_position(jobs[0]) is None


def test_empty_takes_out_what_waits_in_this_queue(backend: Backend) -> None:
    queue, other = Queue("low"), Queue("high")
    job = queue.enqueue(work.multiply, 1)
    queue.enqueue(work.multiply, 2)
    kept = other.enqueue(work.multiply, 3)

    assert queue.empty() == 2
    assert queue.empty() == 0

    assert not Job.exists(job.id)
    assert kept.is_queued


def test_remove_cancels_a_job_of_this_queue_only(backend: Backend) -> None:
    queue, other = Queue("low"), Queue("high")
    first, second = queue.enqueue(work.multiply, 1), queue.enqueue(work.multiply, 2)
    foreign = other.enqueue(work.multiply, 3)

    queue.remove(first)
    queue.remove(second.id)
    queue.remove(foreign)
    queue.remove("nobody")

    assert (first.is_canceled, second.is_canceled, foreign.is_queued) == (True, True, True)
    assert perform(backend, "high", "low") == 1


def test_delete_takes_the_queue_away_where_nothing_is_left_of_it(backend: Backend) -> None:
    queue, busy, kept = Queue("low"), Queue("high"), Queue("kept")
    job = queue.enqueue(work.multiply, 1)
    busy.enqueue(work.multiply, 1)
    busy.enqueue_in(timedelta(hours=1), work.multiply, 1)
    waiting = kept.enqueue(work.multiply, 1)

    queue.delete()
    busy.delete()
    kept.delete(delete_jobs=False)

    assert not Job.exists(job.id)
    assert waiting.is_canceled
    assert (busy.count, busy.scheduled_job_registry.count) == (0, 1)
    assert Queue.all() == [busy, kept]
    waiting.delete()
    kept.delete()
    assert Queue.all() == [busy]


def test_all_queues_have_the_serializer_that_is_asked_for(backend: Backend) -> None:
    Queue("low", serializer="json").enqueue(work.multiply, 1)

    (low,) = Queue.all(serializer="json")

    assert low.serializer == "json"
    assert [job.args for job in low.jobs] == [(1,)]
    with pytest.raises(ConfigurationError, match="job_class="):
        Queue.all(job_class=dict)


def test_a_created_job_is_in_redis_once_it_is_enqueued(backend: Backend) -> None:
    made = [
        Job.create(work.multiply, (2,), {"y": 3}, id="a", origin="low", timeout=5, meta={"n": 1}),
        Queue("low").create_job(work.multiply, (4,), retry=Retry(2), result_ttl="1h"),
    ]
    assert not Job.exists("a")
    made[0].meta["n"] = 2

    enqueued = [Queue("low").enqueue_job(job) for job in made]

    assert enqueued == made
    assert Queue("low").job_ids == ["a", made[1].id]
    found = Job.fetch("a")
    assert (found.args, found.kwargs, found.timeout, found.meta) == ((2,), {"y": 3}, 5, {"n": 2})
    assert (made[1].retries_left, Job.fetch(made[1].id).result_ttl) == (2, 3600)
    assert made[0].enqueued_at == found.enqueued_at
    with pytest.raises(DuplicateJobError):
        Queue("low").enqueue_job(made[0])
    perform(backend, "low")
    assert [job.return_value() for job in made] == [6, 4]


def test_who_would_run_a_job_now_that_waits_reads_how(backend: Backend) -> None:
    job = Queue().enqueue_in(timedelta(hours=1), work.multiply, 2)
    how = "cancel it and then requeue it"

    with pytest.raises(DuplicateJobError, match=f"job {job.id} waits or runs: .*{how}"):
        Queue().enqueue_job(job)
    with pytest.raises(InvalidJobOperation, match=f"is scheduled: .*{how}"):
        Queue().scheduled_job_registry.requeue(job)

    job.cancel()
    job.requeue()
    assert Queue().job_ids == [job.id]


def test_a_created_job_waits_for_others(backend: Backend) -> None:
    parent = Queue().enqueue(work.multiply, 2)
    child = Queue().create_job(work.multiply, (3,), depends_on=parent)

    Queue().enqueue_job(child)

    assert (child.get_status(refresh=False), child.get_status()) == ("deferred", "deferred")
    perform(backend)
    assert child.return_value() == 3


def test_an_ended_job_is_enqueued_again_by_its_handle(backend: Backend, redis_client: Any) -> None:
    job = Queue("low").enqueue(work.multiply, 2, y=3, job_id="a", meta={"n": 1})
    perform(backend, "low")

    pipe = redis_client.pipeline()
    Queue("high").enqueue_job(Job.fetch("a"), pipeline=pipe)
    assert job.is_finished
    pipe.execute()

    job.refresh()
    assert (job.origin, job.get_status(), job.meta, job.results()) == (
        "high",
        "queued",
        {"n": 1},
        [],
    )
    perform(backend, "high")
    assert job.return_value() == 6


def test_a_job_that_is_enqueued_again_has_all_its_retries(backend: Backend) -> None:
    job = Queue().enqueue(work.fail, "no such luck", retry=Retry(2, [0, 0]))
    perform(backend)
    assert Job.fetch(job.id).retries_left == 0

    again = Queue().enqueue_job(Job.fetch(job.id))

    assert (again.retries_left, Job.fetch(job.id).retries_left) == (2, 2)
    assert perform(backend) == 3


def test_a_signed_job_is_enqueued_again_under_our_own_signature(backend: Backend) -> None:
    use_redis(backend.url, signing_keys=["a" * 32])
    made = Queue().create_job(work.multiply, (2,), job_id="a", meta={"n": 1})

    Queue().enqueue_job(made)

    assert (Job.fetch("a").args, Job.fetch("a").meta) == ((2,), {"n": 1})


def test_a_created_job_has_one_id() -> None:
    with pytest.raises(TypeError, match="job_id"):
        Job.create(work.fail, id="a", job_id="b")


def test_a_created_job_without_a_timeout_gets_that_of_the_queue_it_is_put_on(
    backend: Backend,
) -> None:
    queue, plain = Queue("low", default_timeout=15), Queue("plain")

    for made, timeout in (
        (Job.create(work.fail), 15),
        (Job.create(work.fail, timeout=None), 15),
        (Job.create(work.fail, timeout=60), 60),
        (Job.create(work.fail, job_timeout="2m"), 120),
        (Job.create(work.fail, timeout=None, job_timeout="2m"), 120),
        (plain.create_job(work.fail), 180),
    ):
        assert queue.enqueue_job(made).timeout == Job.fetch(made.id).timeout == timeout
    made = Job.create(work.multiply, [1])
    queue.enqueue_job(made)
    perform(backend, "low")
    perform(backend, "low")
    assert plain.enqueue_job(Job.fetch(made.id)).timeout == 15  # it has one by now


class _OwnJob(Job[Any]):
    def shout(self) -> str:
        return self.id.upper()


def test_a_queue_returns_jobs_of_the_job_class_it_was_given(backend: Backend) -> None:
    own = Queue("low", job_class=_OwnJob)
    jobs = [
        own.enqueue(work.multiply, 1, job_id="a"),
        own.create_job(work.multiply, (1,), job_id="a"),
        own.fetch_job("a"),
        *own.jobs,
        *type("OwnQueue", (Queue,), {"job_class": _OwnJob})("low").jobs,
        Queue.all(job_class="tests.client.test_queue._OwnJob")[0].jobs[0],
    ]

    assert [job.shout() for job in jobs] == ["A"] * 6
    assert own.failed_job_registry.job_class is _OwnJob
    assert type(Queue("low").jobs[0]) is Job


def test_a_job_class_that_is_none_is_refused(backend: Backend) -> None:
    Queue(job_class=Job)
    for bad in ("shop.OwnJob", "tests.client.work.multiply", dict):
        with pytest.raises(ConfigurationError, match=r"write a subclass of rqd\.job"):
            Queue(job_class=bad)
    with pytest.raises(ConfigurationError, match=r"write a subclass of rqd\.job"):
        type("Own", (Queue,), {"job_class": dict})


def test_a_batch_is_put_into_a_group_by_its_name(backend: Backend) -> None:
    datas = [Queue.prepare_data(work.multiply, (number,)) for number in range(2)]

    jobs = Queue("low").enqueue_many(datas, group_id="letters")

    assert [job.group_id for job in jobs] == ["letters", "letters"]
    assert Group.fetch("letters").get_jobs() == jobs


def test_queues_are_in_the_order_of_their_names(backend: Backend) -> None:
    assert sorted([Queue("low"), Queue("high")]) == [Queue("high"), Queue("low")]


def test_an_option_that_a_queue_does_not_have_is_named(backend: Backend) -> None:
    with pytest.raises(InvalidCallError, match=r"Queue has no option failure_ttl=: .* its enqueue"):
        Queue("low", failure_ttl=600)


def test_the_function_of_a_later_call_may_be_passed_by_name(backend: Backend) -> None:
    job = Queue().enqueue_in(time_delta=timedelta(minutes=1), func=work.multiply, x=2)

    assert job.is_scheduled
    assert job.kwargs == {"x": 2}


def test_an_option_in_the_place_of_an_argument_is_refused(backend: Backend) -> None:
    enqueue_call: Any = Queue().enqueue_call
    create: Any = Job.create
    with pytest.raises(TypeError, match="positional arguments"):
        enqueue_call(work.multiply, (1,), None, 60, 500)
    with pytest.raises(TypeError, match="positional arguments"):
        create(work.multiply, (1,), None, backend, 500)
    assert Queue().is_empty()


def test_the_connection_of_a_queue_or_job_is_a_client_of_its_redis_too(backend: Backend) -> None:
    queue = Queue()
    job = queue.enqueue(work.multiply, 1)
    client: Any = job.connection

    assert queue.connection.redis is client.redis
    assert client.ping()
    assert client.incr("mine") == 1
    assert client.pipeline().incr("mine").get("mine").execute() == [2, b"2"]
    assert copy(queue.connection) == backend
    with pytest.raises(AttributeError, match="no attribute 'pinng'"):
        client.pinng()
