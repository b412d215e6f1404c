"""depends_on: what users write, and what a job knows of those it waited for."""

from datetime import timedelta

import pytest

from rqd import Job, Queue, Unique, cancel_job, chain, get_current_job
from rqd.client.connection import Backend
from rqd.exceptions import DuplicateJobError, NoSuchJobError, SignatureError
from rqd.job import Dependency, JobStatus
from rqd.model.signing import Keyring
from tests.client import work
from tests.client.performing import claim, perform, settle


def total() -> int:
    job = get_current_job()
    assert job is not None
    assert job.dependency is not None
    assert job.dependency.id == job.dependency_ids[0]
    return sum(parent.return_value() or 0 for parent in job.fetch_dependencies())


@pytest.mark.parametrize("by", ["job", "id"])
def test_a_job_reads_what_its_parents_returned(backend: Backend, by: str) -> None:
    queue = Queue()
    parents = [queue.enqueue(work.multiply, 2, y=number) for number in (3, 4)]
    wanted = parents if by == "job" else [parent.id for parent in parents]
    job = queue.enqueue(total, depends_on=wanted)

    assert job.get_status(refresh=False) is JobStatus.DEFERRED
    assert job.is_deferred
    assert job.enqueued_at is None
    assert job.id in queue.deferred_job_registry
    assert parents[0].dependent_ids == [job.id]
    assert job.dependency_ids == [parent.id for parent in parents]
    perform(backend, "default")
    assert job.return_value() == 14
    assert parents[0].dependent_ids == []


def test_every_form_of_enqueue_takes_depends_on(backend: Backend) -> None:
    queue, other = Queue(), Queue("other")
    parent = queue.enqueue(work.echo)
    jobs = [
        other.enqueue(work.echo, depends_on=parent),
        other.enqueue_call(work.echo, depends_on=[parent.id]),
        other.enqueue_in(timedelta(0), work.echo, depends_on=(parent, parent)),
        work_later(other, parent),
        *other.enqueue_many([Queue.prepare_data(work.echo, depends_on=Dependency([parent]))]),
    ]
    assert {job.get_status() for job in jobs} == {JobStatus.DEFERRED}
    assert {tuple(job.dependency_ids) for job in jobs} == {(parent.id,)}
    perform(backend, "default")
    assert {job.get_status() for job in jobs} <= {JobStatus.QUEUED, JobStatus.SCHEDULED}
    assert queue.enqueue(work.echo, depends_on=[]).is_queued  # waits for none


def work_later(queue: Queue, parent: Job[object]) -> Job[object]:
    with queue.connection.store.redis.pipeline() as pipe:
        job: Job[object] = queue.enqueue(work.echo, depends_on=parent, pipeline=pipe)
        pipe.execute()
    return job


def test_a_batch_can_depend_on_itself_in_one_round_trip(backend: Backend) -> None:
    first = Queue.prepare_data(work.multiply, [2], {"y": 3})
    second = Queue.prepare_data(total, depends_on=first)
    third = Queue.prepare_data(total, depends_on=[second, "named"])
    named = Queue.prepare_data(work.multiply, [1], {"y": 1}, job_id="named")

    jobs = Queue().enqueue_many([first, named, second, third])
    assert [job.is_deferred for job in jobs] == [False, False, True, True]
    perform(backend, "default")
    assert [job.return_value() for job in jobs] == [6, 1, 6, 7]
    with pytest.raises(NoSuchJobError, match="stands later in the same batch"):
        Queue().enqueue_many(
            [Queue.prepare_data(work.echo, depends_on="next"), Queue.prepare_data(work.echo)]
        )


def test_what_one_dependency_of_several_asks_for_holds_for_all(backend: Backend) -> None:
    queue = Queue()
    first, second = queue.enqueue(work.fail, "no"), queue.enqueue(work.fail, "no")
    job = queue.enqueue(
        total,
        depends_on=[Dependency(first, allow_failure=True), Dependency(second.id, False, True)],
    )
    queue.enqueue(work.echo)
    for held in claim(backend, "default", count=2):
        settle(backend, held, "fail")
    assert queue.job_ids[0] == job.id


def test_cancel_and_delete_reach_the_dependents_if_asked(backend: Backend) -> None:
    queue = Queue()
    parent, other = queue.enqueue(work.echo), queue.enqueue(work.echo)
    child, grandchild = queue.enqueue_many(
        [
            Queue.prepare_data(work.echo, job_id="child", depends_on=other),
            Queue.prepare_data(work.echo, depends_on="child"),
        ]
    )
    job = queue.enqueue(work.echo, depends_on=parent)
    cancel_job(parent.id, enqueue_dependents=True)
    assert job.is_queued
    other.delete(delete_dependents=True)
    assert not any(Job.exists(one.id) for one in (other, child, grandchild))


def test_a_signature_binds_the_parents(backend: Backend) -> None:
    signing = Backend(backend.store, backend.url, Keyring(["a-key-of-enough-characters"]))
    queue = Queue(connection=signing)
    parent, stranger = queue.enqueue(work.echo), Queue().enqueue(work.echo)
    job = queue.enqueue(total, depends_on=parent)
    assert Job.fetch(job.id, signing).fetch_dependencies() == [parent]

    terms = job._record.terms.replace(parent.id, stranger.id)
    backend.store.redis.hset(backend.store.keys.job(job.id), "terms", terms)
    with pytest.raises(SignatureError, match="wrong signature"):
        Job.fetch(job.id, signing).fetch_dependencies()


def test_a_chain_runs_one_after_the_other(backend: Backend) -> None:
    other = Queue().enqueue(work.multiply, 1, y=5)
    calls = [
        Queue.prepare_data(work.multiply, [2], {"y": 3}),
        Queue.prepare_data(total, depends_on=other),
        Queue.prepare_data(total, depends_on=Dependency(other, allow_failure=True)),
    ]
    jobs = Queue().enqueue_many(chain(*calls))

    assert [job.get_status() for job in jobs] == ["queued", "deferred", "deferred"]
    assert jobs[2].dependency_ids == [other.id, jobs[1].id]
    perform(backend, "default")
    assert [job.return_value() for job in jobs] == [6, 11, 16]


def test_who_depends_on_a_job_that_is_left_out_is_told_of_the_other(backend: Backend) -> None:
    queue, existing = Queue(), Unique("sum", on_conflict="existing")
    first = Queue.prepare_data(work.multiply, [2], {"y": 3}, job_id="first", unique=existing)
    queue.enqueue_many([first])
    calls = chain(
        Queue.prepare_data(work.echo),
        Queue.prepare_data(work.multiply, [2], {"y": 3}, unique=existing),
        Queue.prepare_data(total, job_id="last"),
    )

    with pytest.raises(DuplicateJobError, match="is left out: job first has its") as told:
        queue.enqueue_many(calls)

    assert told.value.job_id == "first"
    assert queue.job_ids == ["first"]
    again, last = queue.enqueue_many(chain(first, Queue.prepare_data(total)))
    assert (again.id, last.dependency_ids) == ("first", ["first"])


def test_a_queue_in_the_callers_process_runs_a_chain_too(backend: Backend) -> None:
    queue = Queue(is_async=False)
    jobs = queue.enqueue_many(
        chain(Queue.prepare_data(work.multiply, [2], {"y": 3}), Queue.prepare_data(total))
    )
    assert [job.return_value() for job in jobs] == [6, 6]


def test_a_job_made_beforehand_waits_too_but_once_it_has_ended_not_again(backend: Backend) -> None:
    queue = Queue()
    parent = queue.enqueue(work.multiply, 2, y=3)
    job = queue.enqueue_job(queue.create_job(total, depends_on=parent))
    assert job.get_status(refresh=False) is JobStatus.DEFERRED
    perform(backend, "default")
    parent.delete()
    job.refresh()
    assert queue.enqueue_job(job).is_queued
