"""A job as its users see it, from the enqueue to the result."""

import multiprocessing
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import pytest

from rqd import Job, Queue, Retry, Worker, cancel_job, get_current_job, requeue_job
from rqd.client.connection import Backend, backend_for
from rqd.command import send_kill_horse_command, send_shutdown_command, send_stop_job_command
from rqd.exceptions import (
    ConfigurationError,
    DeserializationError,
    InvalidCallError,
    InvalidJobOperation,
    NoSuchJobError,
    RqdError,
)
from rqd.job import JobStatus
from tests.client import work
from tests.client.performing import claim, perform, settle
from tests.waiting import eventually


def test_a_job_tells_its_state_from_queued_to_finished(backend: Backend) -> None:
    job = Queue().enqueue(work.multiply, 20, 40)
    assert job.get_status() is JobStatus.QUEUED
    assert job.is_queued
    assert job.return_value() is None
    assert job.result is None
    assert job.get_position() == 0
    assert job.latest_result() is None
    assert job.results() == []
    assert job.exc_info is None

    (held,) = claim(backend)
    assert job.is_started
    assert (job.worker_name, job.attempt, job.get_position()) == ("m:1", 1, None)

    settle(backend, held, "finish", b"K*.")
    assert job.is_finished
    assert not job.is_failed
    assert job.return_value() == 42
    assert job.exc_info is None


def test_instants_are_aware_and_exact_to_the_microsecond_by_redis_clock(backend: Backend) -> None:
    before = now(backend)
    job = Queue().enqueue(work.multiply, 1)
    perform(backend)
    job.refresh()
    after = now(backend)

    instants = [job.created_at, job.enqueued_at, job.started_at, job.ended_at]
    assert instants[0] == instants[1]
    result = job.latest_result()
    assert result is not None
    assert result.created_at == job.ended_at
    known = [instant for instant in instants if instant is not None]
    assert len(known) == 4
    assert [before, *known, after] == sorted([before, *known, after])
    assert all(instant.utcoffset() == timedelta(0) for instant in known)
    raw = backend.store.redis.hget(backend.store.keys.job(job.id), "started_at")
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert (known[2] - epoch) // timedelta(microseconds=1) == int(str(raw, "ascii"))  # type: ignore[arg-type]  # bytes


def now(backend: Backend) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=backend.views.now_us())


def test_a_failed_job_has_its_traceback_and_cause(backend: Backend) -> None:
    job = Queue().enqueue(work.fail, "no such luck")
    perform(backend)

    assert job.is_failed
    assert job.return_value() is None
    assert job.cause == "raised ValueError: no such luck"
    assert job.exc_info is not None
    assert "in fail" in job.exc_info
    result = job.latest_result()
    assert result is not None
    assert (result.type, result.exc_string, result.attempt) == ("failed", job.exc_info, 1)
    assert result.details["exc_type"] == "builtins.ValueError"


def test_a_cause_stands_in_for_a_traceback_that_nobody_could_write(backend: Backend) -> None:
    job = Queue().enqueue(work.multiply, 1)
    (held,) = claim(backend)
    settle(backend, held, "fail", cause="crashed: SIGKILL")

    assert job.exc_info == "crashed: SIGKILL"


def test_results_are_the_attempts_latest_first(backend: Backend) -> None:
    job = Queue().enqueue(work.fail, "again", retry=Retry(2))

    perform(backend)

    assert [(result.type, result.attempt) for result in job.results()] == [
        ("failed", 3),
        ("retried", 2),
        ("retried", 1),
    ]
    job.refresh()
    assert (job.retries_left, job.attempt) == (0, 3)


def test_a_result_that_cannot_be_read_here_says_so(backend: Backend) -> None:
    job = Queue().enqueue(work.multiply, 1)
    (held,) = claim(backend)
    settle(backend, held, "finish", b"no pickle")

    with pytest.raises(DeserializationError, match=f"the result of job {job.id} can't be read"):
        job.return_value()


def test_a_call_that_cannot_be_read_here_says_so(backend: Backend) -> None:
    job = Queue().enqueue("nowhere.function", work.Unreadable())

    with pytest.raises(DeserializationError, match=f"the call of job {job.id} can't be read"):
        _ = job.args


# -- waiting for the end


def test_latest_result_waits_for_another_threads_settle_without_polling(backend: Backend) -> None:
    job = Queue().enqueue(work.multiply, 6, 7)
    found: list[Any] = []
    waiting = threading.Thread(target=lambda: found.append(job.latest_result(timeout=30)))
    waiting.start()
    other: Any = backend.store.redis
    eventually(lambda: other.info("clients")["blocked_clients"] == 1)

    settled_at = monotonic()
    perform(backend)
    waiting.join(5)

    assert monotonic() - settled_at < 1
    assert found[0].return_value == 42


def perform_at(url: str) -> None:
    """In another process."""
    backend = backend_for(url)
    redis: Any = backend.store.redis
    eventually(lambda: redis.info("clients")["blocked_clients"] == 1)
    perform(backend)


def test_latest_result_waits_for_another_processes_settle(backend: Backend) -> None:
    job = Queue().enqueue(work.multiply, 6, 7)
    worker = multiprocessing.get_context("spawn").Process(target=perform_at, args=(backend.url,))
    worker.start()

    result = job.latest_result(timeout=20)

    worker.join(10)
    assert worker.exitcode == 0
    assert result is not None
    assert result.return_value == 42


def test_latest_result_is_none_when_the_time_is_over(backend: Backend) -> None:
    job = Queue().enqueue(work.multiply, 1)
    started = monotonic()

    assert job.latest_result(timeout=0.05) is None
    assert monotonic() - started >= 0.05


def test_latest_result_returns_at_once_for_what_has_ended(backend: Backend) -> None:
    finished, canceled = Queue().enqueue(work.multiply, 5), Queue().enqueue(work.multiply, 1)
    canceled.cancel()
    perform(backend)
    started = monotonic()

    result = finished.latest_result(timeout=30)
    assert result is not None
    assert result.return_value == 5
    assert canceled.latest_result(timeout=30) is None
    assert monotonic() - started < 2


def test_result_ttl_0_is_still_read_by_who_waits(backend: Backend) -> None:
    job = Queue().enqueue(work.multiply, 5, result_ttl=0)
    perform(backend)

    assert job.return_value() == 5
    assert not Job.exists(job.id)


# -- finding


def test_a_job_is_found_by_its_id(backend: Backend) -> None:
    job = Queue("low").enqueue(work.multiply, 1)

    assert Job.fetch(job.id) == job
    assert Job.exists(job.id)
    assert Queue("low").fetch_job(job.id) == job
    assert Queue("high").fetch_job(job.id) is None
    assert Job.fetch_many([job.id, "nobody"]) == [job, None]
    assert repr(job) == f"<Job {job.id}: tests.client.work.multiply(1)>"
    assert len({job, Job.fetch(job.id)}) == 1


def test_ids_are_uuids_each_its_own(backend: Backend) -> None:
    import uuid

    found = {Queue().enqueue(work.multiply, 1).id for _ in range(50)}

    assert len(found) == 50
    assert {uuid.UUID(job_id).version for job_id in found} == {4}


GONE: dict[str, Callable[[Job[Any]], object]] = {
    "fetch": lambda job: Job.fetch(job.id),
    "refresh": lambda job: job.refresh(),
    "get_status": lambda job: job.get_status(),
    "cancel": lambda job: job.cancel(),
    "requeue": lambda job: job.requeue(),
    "save_meta": lambda job: job.save_meta(),
    "cancel_job": lambda job: cancel_job(job.id),
    "requeue_job": lambda job: requeue_job(job.id),
}


@pytest.mark.parametrize("act", GONE)
def test_a_job_that_is_gone_is_called_so(backend: Backend, act: str) -> None:
    job = Queue().enqueue(work.multiply, 1)
    job.delete()
    job.delete()

    with pytest.raises(NoSuchJobError, match=f"no job '{job.id}': it was deleted, or its time"):
        GONE[act](job)
    assert not Job.exists(job.id)


def test_a_text_that_is_no_jobs_id_finds_none(backend: Backend) -> None:
    job = Queue().enqueue(work.multiply, 1, job_id="a")
    assert Job.fetch_many(["a:results", "a", "a/b", "a"]) == [None, job, None, job]
    assert not Job.exists("a:results")
    assert Queue().fetch_job("no id\n") is None
    for act in (Job.fetch, cancel_job):
        with pytest.raises(NoSuchJobError, match="a:results"):
            act("a:results")


def test_what_is_no_text_is_no_id(backend: Backend) -> None:
    wrong: Any = None
    for act in (Job.fetch, Job.exists, Queue().fetch_job, cancel_job):
        with pytest.raises(ConfigurationError, match="a text, not None"):
            act(wrong)
    with pytest.raises(ConfigurationError, match="job id 'a:results'"):
        Queue().remove("a:results")


# -- operating


@pytest.mark.parametrize("act", ["cancel", "delete"])
def test_a_pipeline_in_rqs_place_is_not_taken_for_a_word_about_dependents(
    backend: Backend, act: str
) -> None:
    parent = Queue().enqueue(work.multiply, 1)
    child = Queue().enqueue(work.multiply, 2, depends_on=parent)

    with pytest.raises(TypeError):
        getattr(parent, act)(backend.store.redis.pipeline())

    assert (parent.is_queued, child.is_deferred) == (True, True)


def test_a_waiting_job_is_canceled_and_requeued(backend: Backend) -> None:
    job = Queue().enqueue(work.multiply, 3)
    job.cancel()
    job.cancel()
    assert job.is_canceled
    assert perform(backend) == 0

    assert job.requeue() is job
    perform(backend)
    assert job.return_value() == 3


def test_a_failed_job_is_requeued_at_the_front_if_told(backend: Backend) -> None:
    job = Queue().enqueue(work.fail, "x")
    perform(backend)
    Queue().enqueue(work.multiply, 1)

    job.requeue(at_front=True)
    assert job.get_position() == 0
    assert job.cause is None
    assert job.ended_at is None


@pytest.mark.parametrize("by", ["handle", "registry", "command"])
def test_a_requeued_job_has_not_started_until_it_starts_again(backend: Backend, by: str) -> None:
    job = Queue().enqueue(work.fail, "x")
    perform(backend)
    job.refresh()
    assert None not in (job.started_at, job.ended_at)

    if by == "handle":
        job.requeue()
    elif by == "registry":
        Queue().failed_job_registry.requeue(job)
    else:
        list(Queue().failed_job_registry.requeue_portions())
    job.refresh()

    assert (job.started_at, job.ended_at, job.was_put_back) == (None, None, False)
    stored = backend.store.redis.hgetall(backend.store.keys.job(job.id))
    assert not {b"started_at", b"ended_at"} & stored.keys()
    (held,) = claim(backend)
    job.refresh()
    assert job.started_at is not None
    assert (held.attempt, job.attempt) == (2, 2)  # what it has run before still counts


def test_a_job_of_an_id_is_read_when_it_is_looked_at(backend: Backend) -> None:
    Queue().enqueue(work.multiply, 3, job_id="a")

    by_name: Any = Job
    for job in (Job("a", connection=backend.redis), by_name(id="a", connection=backend)):
        assert (job.id, job.origin, job.get_status()) == ("a", "default", "queued")
    gone = Job("gone", connection=backend)
    assert gone.id == "gone"
    with pytest.raises(NoSuchJobError, match="no job 'gone'"):
        _ = gone.origin
    for no_id in ("a b", 5, None):
        with pytest.raises(ConfigurationError, match="may have letters"):
            by_name(no_id, connection=backend)


def test_a_worker_without_a_name_can_not_be_told_to_stop(backend: Backend) -> None:
    unnamed: Any = Worker("low").name
    for send in (send_shutdown_command, send_kill_horse_command):
        with pytest.raises(ConfigurationError, match=r"worker name None: .* rqd workers lists"):
            send(backend.redis, unnamed)
        with pytest.raises(RqdError, match="no master named 'nobody' is alive"):
            send(backend.redis, "nobody:1")


def test_by_id_as_by_handle(backend: Backend) -> None:
    job = Queue().enqueue(work.multiply, 1)

    cancel_job(job.get_id(), serializer="pickle")
    assert job.is_canceled
    assert requeue_job(job.id, serializer="json").is_queued


@pytest.mark.parametrize(
    ("act", "why"),
    [("cancel", "is started: only a waiting job"), ("requeue", "is started: only a failed")],
)
def test_what_the_state_does_not_allow_is_refused(backend: Backend, act: str, why: str) -> None:
    job = Queue().enqueue(work.multiply, 1)
    claim(backend)

    with pytest.raises(InvalidJobOperation, match=why):
        getattr(job, act)()

    assert job.is_started


def test_an_ended_job_is_neither_canceled_nor_requeued(backend: Backend) -> None:
    job = Queue().enqueue(work.multiply, 1)
    perform(backend)

    with pytest.raises(InvalidJobOperation, match="is finished: only a waiting job"):
        job.cancel()
    with pytest.raises(InvalidJobOperation, match="is finished: only a failed"):
        job.requeue()


# -- meta and the job within


def test_meta_is_kept_when_it_is_saved(backend: Backend) -> None:
    job = Queue().enqueue(work.multiply, 1, meta={"progress": 0})
    job.meta["progress"] = 50
    assert Job.fetch(job.id).meta == {"progress": 0}

    job.save_meta()

    assert Job.fetch(job.id).meta == {"progress": 50}
    job.meta["progress"] = 99
    assert job.get_meta() == {"progress": 50}


def test_meta_that_does_not_serialize_is_refused(backend: Backend) -> None:
    job = Queue().enqueue(work.multiply, 1)
    job.meta["here"] = threading.Lock()

    with pytest.raises(InvalidCallError, match=f"the meta of job {job.id} can't be serialized"):
        job.save_meta()


def test_the_current_job_is_none_outside_and_the_job_itself_inside(backend: Backend) -> None:
    assert get_current_job() is None
    job = Queue().enqueue(work.current_id)

    perform(backend)

    assert job.return_value() == job.id
    assert get_current_job() is None


class Labelled(Job[Any]):
    @property
    def label(self) -> str:
        return f"{self.origin}/{self.id}"


def test_a_class_with_members_of_its_own_is_what_its_fetches_return(backend: Backend) -> None:
    Queue("low").enqueue(work.multiply, 1, job_id="a")

    found, missing = Labelled.fetch_many(["a", "b"])

    assert found is not None
    assert (Labelled.fetch("a").label, found.label, missing) == ("low/a", "low/a", None)


def test_a_class_of_jobs_with_a_method_that_nobody_would_call_is_refused() -> None:
    def perform(self: Any) -> None: ...

    with pytest.raises(
        ConfigurationError, match=r"Own.perform\(\) would never be called: .*middleware="
    ):
        type("Own", (Job,), {"perform": perform})


def test_who_stops_a_job_that_is_not_there_hears_of_which(backend: Backend) -> None:
    with pytest.raises(NoSuchJobError, match="no job 'gone': it was deleted") as refused:
        send_stop_job_command(backend, "gone")
    assert refused.value.job_id == "gone"
