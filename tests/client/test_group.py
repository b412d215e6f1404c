"""Group: what users write to put jobs together, look at them and wait for them."""

from __future__ import annotations

import pytest

from rqd import Job, Queue, chain
from rqd.client.connection import Backend
from rqd.client.options import EnqueueData
from rqd.exceptions import (
    InvalidCallError,
    NoSuchGroupError,
    NoSuchJobError,
    SignatureError,
)
from rqd.group import Group
from rqd.job import Dependency
from rqd.model.errors import ConfigurationError
from rqd.model.signing import Keyring
from rqd.store.store import Store
from tests.client import work
from tests.client.performing import perform


def total(group: str) -> int:
    return sum(job.return_value() or 0 for job in Group.fetch(group).get_jobs())


def calls(*numbers: int) -> list[EnqueueData]:
    return [Queue.prepare_data(work.multiply, [2], {"y": number}) for number in numbers]


def test_a_groups_jobs_run_and_are_looked_at_together(backend: Backend) -> None:
    group = Group.create()
    jobs = group.enqueue_many(Queue(), calls(1, 2))
    jobs += group.enqueue_many(Queue("other"), [Queue.prepare_data(work.fail, ["no"])])

    assert [job.group_id for job in jobs] == [group.name] * 3
    assert Group.fetch(group.name) == group
    assert Group.all() == [group]
    assert group.get_jobs() == jobs
    assert (group.counts().total, group.counts().open) == (3, 3)
    perform(backend, "default", "other")
    counts = group.counts()
    assert (counts.finished, counts.failed, counts.is_done) == (2, 1, True)
    assert [job.return_value() for job in group.get_jobs()] == [2, 4, None]

    group.delete_job(jobs[0].id)
    assert group.get_jobs() == jobs[1:]
    assert not Job.exists(jobs[0].id)
    with pytest.raises(NoSuchJobError, match="has no job 'none'"):
        group.delete_job("none")


def test_then_runs_when_all_have_ended(backend: Backend) -> None:
    group = Group(name="nightly")
    first = group.enqueue_many(Queue(), calls(1))
    then = Queue.prepare_data(total, ["nightly"])
    *jobs, last = group.enqueue_many(Queue(), calls(2, 3), then=then)
    other = Queue("other").enqueue(total, "nightly", depends_on=group)

    assert (last.is_deferred, last.group_id, last.dependency_ids) == (True, None, [])
    assert (last.dependency, last.fetch_dependencies()) == (None, [])
    assert group.get_jobs() == first + jobs
    perform(backend, "default", "other")
    assert (last.return_value(), other.return_value()) == (12, 12)


def test_then_may_wait_for_others_too_and_needs_no_group(backend: Backend) -> None:
    parent = Queue().enqueue(work.fail, "no")
    then = Queue.prepare_data(
        work.echo, [1], depends_on=Dependency(parent, allow_failure=True), job_id="then"
    )
    group = Group(name="g")
    *_, last = group.enqueue_many(Queue(), chain(*calls(1, 2)), then=then)
    assert last.dependency_ids == [parent.id]
    perform(backend, "default")
    assert last.return_value() == ((1,), {})
    empty = Group(name="empty").enqueue_many(Queue(), [], then=Queue.prepare_data(work.echo))
    assert [job.is_queued for job in empty] == [True]


def test_what_a_group_cannot_do_is_said(backend: Backend) -> None:
    with pytest.raises(NoSuchGroupError, match="no group 'none'"):
        Group.fetch("none")
    with pytest.raises(ConfigurationError, match="group name 'a b'"):
        Group(name="a b")
    with pytest.raises(InvalidCallError, match="accepts calls of Queue"):
        Group().enqueue_many(Queue(), [work.echo])  # type: ignore[list-item]  # what is tried
    elsewhere = Backend(Store(backend.store.redis, "elsewhere"), backend.url)
    with pytest.raises(InvalidCallError, match="is in namespace 'rqd'"):
        Group(name="g").enqueue_many(Queue(connection=elsewhere), [])
    with pytest.raises(NoSuchJobError, match="waits for group 'none', which has no jobs"):
        Queue().enqueue(work.echo, depends_on=Group(name="none"))
    wants = Queue.prepare_data(work.echo, depends_on=Group(name="g"))
    with pytest.raises(InvalidCallError, match="can't wait for its own group"):
        Group(name="g").enqueue_many(Queue(), [wants])
    assert not Group.exists("none")


def test_a_signature_binds_the_group(backend: Backend) -> None:
    signing = Backend(backend.store, backend.url, Keyring(["a-key-of-enough-characters"]))
    group = Group(signing, "g")
    (job,) = group.enqueue_many(Queue(connection=signing), calls(1))
    assert Job.fetch(job.id, signing).args == (2,)
    terms = '{"group":{"name":"h"}}'
    backend.store.redis.hset(backend.store.keys.job(job.id), "terms", terms)
    with pytest.raises(SignatureError, match="wrong signature"):
        _ = Job.fetch(job.id, signing).args


def test_a_queue_can_put_jobs_in_a_group_by_its_name(backend: Backend) -> None:
    jobs = Queue().enqueue_many(calls(1, 2), group_id="g")
    assert Group.fetch("g").get_jobs() == jobs
