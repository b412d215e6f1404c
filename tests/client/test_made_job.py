"""Jobs that were made and not enqueued: their status, what can be set, and `save`."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rqd import Job, Queue, Retry
from rqd.client.connection import Backend
from rqd.exceptions import (
    DuplicateJobError,
    InvalidCallError,
    InvalidJobOperation,
    NoSuchJobError,
    SignatureError,
)
from rqd.job import JobStatus
from rqd.model.errors import RqdError
from rqd.model.signing import Keyring
from rqd.store.connection import client_connection
from rqd.store.store import SAVED_TTL_S
from tests.client import work
from tests.client.performing import claim, perform

BIG = "x" * 100_000


class Own(Job[Any]):
    """A subclass that only adds methods."""

    def page(self) -> int:
        return int(self.meta["page"])


def test_a_made_job_is_created_and_keeps_the_call_as_it_was_made(backend: Backend) -> None:
    given: dict[str, Any] = {}
    job = Job.create(work.echo, (given,))

    assert job.get_status(refresh=False) is JobStatus.CREATED
    assert job.args[0] is given
    assert (job.func, job.origin, job.enqueued_at) == (work.echo, "", None)
    assert job.created_at is not None
    assert abs(job.created_at - datetime.now(UTC)) < timedelta(minutes=1)
    with pytest.raises(NoSuchJobError):
        job.refresh()


@pytest.mark.parametrize("argument", ["small", BIG])
def test_a_saved_job_waits_nowhere_and_runs_once_it_is_enqueued(
    backend: Backend, argument: str
) -> None:
    queue = Queue("low", default_timeout=7)
    made = Job.create(work.echo, (argument,), id="a", meta={"page": 3}, retry=Retry(2))
    made.save()
    made.save()

    found = Own.fetch("a")
    assert (found.get_status(), found.page(), found.args) == (JobStatus.CREATED, 3, (argument,))
    assert (found.retries_left, found.get_position()) == (2, None)
    assert (queue.count, Queue.all()) == (0, [])
    assert 0 < backend.store.redis.ttl(backend.store.keys.job("a")) <= SAVED_TTL_S
    for act in (found.cancel, found.requeue):
        with pytest.raises(InvalidJobOperation, match="is created"):
            act()

    queue.enqueue_job(found)
    assert (found.get_status(), queue.job_ids) == (JobStatus.QUEUED, ["a"])
    perform(backend, "low")
    assert Job.fetch("a").is_finished


def test_a_saved_job_can_be_changed_and_deleted(backend: Backend) -> None:
    made = Job.create(work.echo, id="a")
    made.description, made.timeout, made.ttl = "an echo", "1h", 60
    made.result_ttl, made.failure_ttl, made.origin = 5, -1, "low"
    made.retries_left, made.retry_intervals = 3, [1, 2]
    made.repeats_left, made.repeat_intervals = 2, [4]
    made.enqueue_at_front_on_retry = True
    made.meta["page"] = 1
    made.save()

    made.repeats_left = made.retries_left = made.retry_intervals = None
    made.enqueue_at_front_on_retry, made.meta = False, {}
    made.refresh()
    assert (made.description, made.timeout, made.ttl) == ("an echo", 3600, 60)
    assert (made.result_ttl, made.failure_ttl, made.origin) == (5, -1, "low")
    assert (made.retries_left, made.retry_intervals) == (3, [1, 2])
    assert (made.repeats_left, made.repeat_intervals) == (2, [4])
    assert (made.enqueue_at_front_on_retry, made.meta) == (True, {"page": 1})

    made.meta = {"page": 2}
    made.save_meta()
    assert Job.fetch("a").meta == {"page": 2}
    made.delete()
    assert not Job.exists("a")
    assert backend.store.redis.exists(backend.store.keys.job("a")) == 0


def test_what_was_set_holds_for_the_job_that_is_enqueued(backend: Backend) -> None:
    queue = Queue("low", default_timeout=7)
    made = [Job.create(work.echo, id=name) for name in "abc"]
    made[0].timeout, made[1].description = 60, "an echo"
    made[2].timeout = 60
    made[2].timeout = None
    assert [queue.enqueue_job(job).timeout for job in made] == [60, 7, 7]
    assert [queue.create_job(work.echo).timeout] == [7]

    with pytest.raises(InvalidJobOperation, match="job a is queued: timeout can be set until"):
        made[0].timeout = 5


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("timeout", 0),
        ("ttl", "soon"),
        ("retries_left", -1),
        ("retry_intervals", "soon"),
        ("repeats_left", -1),
        ("repeat_intervals", [1]),
        ("origin", "{}"),
    ],
)
def test_a_wrong_value_is_refused_and_changes_nothing(
    backend: Backend, name: str, wrong: Any
) -> None:
    made = Job.create(work.echo)
    before = getattr(made, name)
    with pytest.raises(ValueError, match=r"."):
        setattr(made, name, wrong)
    assert getattr(made, name) == before


@pytest.mark.parametrize("ended", [False, True])
def test_saving_never_replaces_a_job_that_was_enqueued(backend: Backend, ended: bool) -> None:
    Queue("low").enqueue(work.multiply, 1, job_id="a")
    if ended:
        perform(backend, "low")
    with pytest.raises(DuplicateJobError, match="job a is not saved: a job of this id is"):
        Job.create(work.multiply, (2,), id="a").save()
    assert Job.fetch("a").args == (1,)


def test_a_job_waits_for_a_saved_parent_however_long_that_takes(backend: Backend) -> None:
    parent = Job.create(work.multiply, (1,), id="parent")
    parent.save()
    child = Queue("low").enqueue(work.multiply, 2, depends_on=parent)
    assert child.get_status() is JobStatus.DEFERRED
    assert backend.store.redis.ttl(backend.store.keys.job("parent")) == -1
    parent.save()
    assert backend.store.redis.ttl(backend.store.keys.job("parent")) == -1

    Queue("low").enqueue_job(parent)
    perform(backend, "low")
    assert child.is_finished

    gone = Job.create(work.multiply, (1,), id="gone")
    gone.save()
    child = Queue("low").enqueue(work.multiply, 2, depends_on=gone)
    gone.delete()
    assert child.get_status() is JobStatus.CANCELED


def test_a_saved_job_is_signed_and_checked(backend: Backend) -> None:
    signing = Backend(backend.store, backend.url, Keyring(["a-key-of-enough-characters"]))
    made = Job.create(work.multiply, (2,), id="a", connection=signing, meta={"page": 1})
    made.timeout = 60
    assert (made.args, made.meta) == ((2,), {"page": 1})
    made.save()
    found = Job.fetch("a", signing)
    found.timeout = 50
    found.save()
    assert Job.fetch("a", signing).args == (2,)
    Queue("low", connection=signing).enqueue_job(found)
    assert (Job.fetch("a", signing).args, found.timeout) == ((2,), 50)

    Job.create(work.multiply, (2,), id="b").save()
    foreign = Job.fetch("b", signing)
    with pytest.raises(SignatureError):
        foreign.timeout = 60
    with pytest.raises(SignatureError):
        foreign.save()


def test_a_save_that_is_sent_twice_changes_nothing(backend: Backend) -> None:
    made = Job.create(work.echo, (BIG,), id="a")
    new, store = made.renewed("", False, 180), backend.store
    assert [store.save(new, "once"), store.save(new, "once")] == ["", "created"]
    created_at = Job.fetch("a").created_at
    made.save()
    assert Job.fetch("a").created_at == created_at
    assert Job.fetch("a").args == (BIG,)


def test_a_saved_job_is_nothing_to_claim(backend: Backend) -> None:
    Job.create(work.echo, id="a", origin="low").save()
    assert list(claim(backend, "low")) == []
    with client_connection(backend.url) as client:
        assert client.zcard("{rqd}:leases") == 0
    assert issubclass(InvalidCallError, RqdError)
