"""Names of RQ's that only show or combine what is there: what each of them tells."""

from __future__ import annotations

from copy import copy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rqd import (
    Callback,
    Job,
    Queue,
    RateLimit,
    Repeat,
    Retry,
    SimpleWorker,
    Webhook,
    Worker,
    get_current_job,
)
from rqd.client.connection import Backend
from rqd.exceptions import (
    ConfigurationError,
    DuplicateJobError,
    InvalidCallError,
    SignatureError,
)
from rqd.group import Group
from rqd.job import Dependency
from rqd.model.signing import Keyring
from rqd.registry import FailedJobRegistry, FinishedJobRegistry, ScheduledJobRegistry
from rqd.results import Result
from rqd.store.messages import Beat
from rqd.worker import RandomWorker, RoundRobinWorker
from rqd.worker_pool import WorkerPool
from tests.client import work
from tests.client.performing import claim, perform, settle

HOOKS = [
    Webhook("http://shop.test/done", "finished", method="POST", headers={"X-A": "b"}, timeout=5),
    Webhook("http://shop.test/failed", "failed"),
]


def test_a_job_shows_its_callbacks_and_webhooks(backend: Backend) -> None:
    queue = Queue("low")
    made = queue.enqueue(
        work.multiply, 2, on_success=work.echo, on_failure=Callback(work.fail), webhooks=HOOKS
    )

    for job in (made, Job.fetch(made.id)):
        assert job.success_callback is work.echo
        assert job.failure_callback is work.fail
        assert job.stopped_callback is None
        assert job.webhooks == HOOKS
    plain = queue.enqueue(work.multiply, 2, on_stopped="builtins.print")
    assert (plain.success_callback, plain.stopped_callback) == (None, print)
    assert plain.webhooks == []


def test_a_prepared_call_shows_its_options(backend: Backend) -> None:
    data = Queue.prepare_data(work.multiply, (2,), on_success=work.echo, result_ttl=60)

    assert (data.on_success, data.on_failure, data.result_ttl) == (work.echo, None, 60)
    assert Queue("low").enqueue_many([copy(data)])[0].success_callback is data.on_success
    with pytest.raises(AttributeError, match="no colour"):
        data.colour  # noqa: B018 - the look raises


def test_callbacks_that_were_changed_in_redis_are_not_read(backend: Backend) -> None:
    backend = Backend(backend.store, backend.url, Keyring(["a-key-of-enough-characters"]))
    job = Queue("low", backend).enqueue(work.multiply, 2, on_success=work.echo, webhooks=HOOKS)
    assert job.success_callback is work.echo
    key = backend.store.keys.job(job.id)
    terms: Any = backend.redis.hget(key, "terms")
    backend.redis.hset(key, "terms", terms.replace(b"finished", b"stopped"))

    found = Job.fetch(job.id, backend)

    with pytest.raises(SignatureError):
        found.stopped_callback  # noqa: B018 - the look raises
    with pytest.raises(SignatureError):
        found.webhooks  # noqa: B018 - the look raises


def test_a_job_shows_its_further_options(backend: Backend) -> None:
    queue = Queue("low")
    parent = queue.enqueue(work.multiply, 2)
    patient = Dependency(parent, allow_failure=True)
    job = queue.enqueue(work.multiply, 2, y=3, ttl=60, depends_on=patient)
    limited = queue.enqueue(work.multiply, 2, rate_limit=RateLimit("api", concurrency=1))

    assert (job.allow_dependency_failures, parent.allow_dependency_failures) == (True, False)
    assert (job.get_ttl(), parent.get_ttl(), parent.get_ttl(5)) == (60, None, 5)
    assert (limited.has_rate_limit, job.has_rate_limit) == (True, False)
    assert job.get_call_string() == "tests.client.work.multiply(2, y=3)"


def test_perform_calls_the_function_here_and_leaves_the_job_as_it_is(backend: Backend) -> None:
    queue = Queue("low")
    assert queue.enqueue(work.multiply, 2, y=3).perform() == 6
    later = queue.enqueue(work.multiply_later, 2, 4)
    assert later.perform() == 8
    assert later.is_queued
    with pytest.raises(ValueError, match="no"):
        queue.enqueue(work.fail, "no").perform()


@pytest.mark.parametrize(("allow_failure", "is_met"), [(True, True), (False, False)])
def test_a_failed_parent_keeps_a_job_waiting_unless_it_allows_it(
    backend: Backend, allow_failure: bool, is_met: bool
) -> None:
    queue = Queue("low")
    parents: list[Job] = [queue.enqueue(work.multiply, 2), queue.enqueue(work.fail, "no")]
    job: Job = queue.enqueue(
        work.multiply, 1, depends_on=Dependency(parents, allow_failure=allow_failure)
    )
    assert not job.dependencies_are_met()

    perform(backend, "low")

    assert job.dependencies_are_met() is is_met


def test_a_retry_at_the_front_goes_before_the_jobs_that_wait(backend: Backend) -> None:
    queue = Queue("low")
    first = queue.enqueue(work.fail, "no", retry=Retry(1, enqueue_at_front=True))
    second = queue.enqueue(work.fail, "no", retry=Retry(1))
    third = queue.enqueue(work.multiply, 1)
    assert (first.enqueue_at_front_on_retry, second.enqueue_at_front_on_retry) == (True, False)

    SimpleWorker(queue).work(max_jobs=1)
    assert queue.job_ids == [first.id, second.id, third.id]
    SimpleWorker(queue).work(max_jobs=2)

    assert queue.job_ids == [third.id, second.id]
    first.refresh()
    assert first.number_of_retries == 1


def test_runs_that_a_job_asks_for_count_among_its_retries(backend: Backend) -> None:
    job = Queue("low").enqueue(work.multiply, 1, retry=Retry(3))
    (held,) = claim(backend, "low")
    settle(backend, held, "retry", run_again_for="asked")
    (held,) = claim(backend, "low")
    settle(backend, held, "retry")

    job.refresh()

    assert job.number_of_retries == 2


def test_intervals_are_looked_up_as_rq_does() -> None:
    assert [Repeat.get_interval(count, [5, 10]) for count in range(3)] == [5, 10, 10]
    assert [Retry.get_interval(count, [5, 10]) for count in range(3)] == [5, 10, 10]
    assert [Retry.get_interval(1, None), Retry.get_interval(1, 7)] == [0, 7]
    assert repr(Retry(2, [5, 10])) == "Retry(max=2, interval=[5, 10], enqueue_at_front=False)"
    assert repr(Retry(1, 0.5, True)) == "Retry(max=1, interval=0.5, enqueue_at_front=True)"


def test_a_made_job_is_scheduled_for_its_time(backend: Backend) -> None:
    queue, due = Queue("low", default_timeout=7), datetime.now(UTC) + timedelta(hours=1)
    job = queue.schedule_job(Job.create(work.multiply, (2,), id="a"), due)

    assert (job.is_scheduled, job.due_at, job.timeout) == (True, due, 7)
    registry = ScheduledJobRegistry(queue=queue)
    assert registry.get_expiration_time(job) == registry.get_scheduled_time("a") == due
    with pytest.raises(DuplicateJobError):
        queue.schedule_job(job, due, unique=True)
    with pytest.raises(DuplicateJobError):
        queue.enqueue_job(job)
    with pytest.raises(InvalidCallError, match="no option colour="):
        queue.schedule_job(job, due, colour="red")


def test_registries_of_one_kind_and_queue_are_equal(backend: Backend) -> None:
    queue = Queue("low")
    assert queue.failed_job_registry == FailedJobRegistry("low")
    assert len({queue.failed_job_registry, FailedJobRegistry(queue=queue)}) == 1
    assert queue.failed_job_registry != Queue("high").failed_job_registry
    others: list[Any] = [FinishedJobRegistry("low"), "low"]
    assert all(queue.failed_job_registry != other for other in others)


def test_a_result_tells_when_its_attempt_began_and_ended(backend: Backend) -> None:
    queue = Queue("low")
    job = queue.enqueue(work.fail, "no", retry=Retry(1))
    before = datetime.now(UTC)
    SimpleWorker(queue).work(max_jobs=1)
    (first,) = job.results()
    SimpleWorker(queue).work(max_jobs=1)
    second = job.latest_result()

    assert second is not None
    for result in (first, second):
        began, ended = result.execution_started_at, result.execution_ended_at
        assert began is not None
        assert before - timedelta(seconds=1) < began <= ended == result.created_at
    (held,) = claim(backend, queue.enqueue(work.multiply, 1).origin)
    settle(backend, held, "finish")
    (unmeasured,) = Job.fetch(held.id).results()
    assert unmeasured.execution_started_at is None


def test_small_names_of_rqs(backend: Backend) -> None:
    queue = Queue("low")
    assert queue.enqueue(work.multiply, 1).timeout == Queue.DEFAULT_TIMEOUT == 180
    assert Job("never-enqueued").get_position() is None
    group = Group.create(name="letters")
    group.enqueue_many(queue, [Queue.prepare_data(work.multiply, (1,))])
    group.cleanup()
    assert (repr(group), len(group.get_jobs())) == ("Group(id=letters)", 1)
    pool = WorkerPool("low", exception_handlers=[work.echo])
    assert pool.exception_handlers == [work.echo]
    assert pool.connection.namespace == backend.namespace


@pytest.mark.parametrize("wrong", [{"args": "text"}, {"args": 5}, {"kwargs": "text"}])
def test_arguments_that_are_no_list_or_dict_are_refused(
    backend: Backend, wrong: dict[str, Any]
) -> None:
    with pytest.raises(InvalidCallError, match="write a"):
        Job.create(work.echo, **wrong)


def test_errors_about_values_are_caught_as_rqs_type_errors() -> None:
    with pytest.raises(TypeError):
        Repeat(1, interval="soon")  # type: ignore[arg-type]  # what is refused
    assert issubclass(ConfigurationError, TypeError)


class _OwnJob(Job[Any]):
    """A subclass that only adds a method."""

    def shout(self) -> str:
        return self.id.upper()


def test_a_worker_of_your_code_is_told_by_its_name(backend: Backend) -> None:
    named = [Worker("low", name=name) for name in ("m", "m", "n")]
    assert len(set(named)) == 2
    assert named[0] == named[1] != named[2]
    unnamed = Worker("low")
    assert unnamed != Worker("low")
    assert len({unnamed, unnamed, Worker("low")}) == 2
    others: list[Any] = [None, "m"]
    assert all(one != other for one in (named[0], unnamed) for other in others)


def test_a_named_worker_tells_its_daemons_state_and_job(backend: Backend) -> None:
    worker = Worker("low", name="m", job_class=_OwnJob)
    worker.refresh()
    assert (worker.get_current_job_id(), worker.get_current_job()) == (None, None)
    assert (worker.state, Worker("low").get_state()) == ("starting", "starting")

    Queue("low").enqueue(work.multiply, 1, job_id="a")
    claim(backend, "low")
    row: dict[str, Any] = {"boot": "b", "state": "busy", "queues": "low", "workers": 1}
    backend.store.hello("m", "b", 60, row)
    backend.store.beat(Beat("m", "b", 10**7, 60, "", (), row, {1: {"state": "busy", "job": "a"}}))
    assert (worker.state, worker.get_current_job_id()) == ("busy", "a")
    found = worker.get_current_job()
    assert isinstance(found, _OwnJob)
    assert found.shout() == "A"


def test_workers_in_turn_and_at_random_have_rqs_names(backend: Backend) -> None:
    for kind in (RoundRobinWorker, RandomWorker):
        job = Queue("low").enqueue(work.multiply, 6, y=7)
        assert kind(["high", "low"]).work(burst=True)
        assert job.return_value() == 42


def test_results_have_rqs_ways_to_be_found(backend: Backend) -> None:
    job = Queue("low").enqueue(work.multiply, 6, y=7)
    assert (Result.fetch_latest(job), Result.count(job), Result.all(job)) == (None, 0, [])
    perform(backend, "low")
    latest = Result.fetch_latest(job, timeout=1)
    assert latest is not None
    assert (latest.return_value, Result.count(job)) == (42, 1)
    assert [one.execution_id for one in Result.all(job)] == [latest.execution_id]


def _own_id() -> str | None:
    job = get_current_job()
    return job.id if job is not None else None


def test_a_performed_job_is_the_current_job_of_its_call(backend: Backend) -> None:
    job = Job.create(_own_id, id="a", result_ttl=7)
    assert (job.perform(), get_current_job()) == ("a", None)
    assert job.get_result_ttl(default_ttl=5) == 7
    with pytest.raises(ValueError, match="no"):
        Job.create(work.fail, ("no",)).perform()
    assert get_current_job() is None
