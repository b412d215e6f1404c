"""What a queue holds, and what is taken out of it."""

from rqd import Job, Queue
from rqd.connection import Backend
from tests.client import work
from tests.client.performing import claim, perform


def test_making_a_queue_asks_redis_nothing_and_its_first_job_makes_it(backend: Backend) -> None:
    queue = Queue("low")
    assert Queue.all() == []
    assert queue.is_empty()

    queue.enqueue(work.multiply, 1)

    assert Queue.all() == [queue]
    assert not queue.is_empty()
    assert (queue.count, len(queue)) == (1, 1)


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
