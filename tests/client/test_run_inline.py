"""Jobs in the caller's own process: `Queue(is_async=False)` and `SimpleWorker`."""

from __future__ import annotations

import inspect
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from redis.exceptions import ConnectionError  # noqa: A004 - as the store raises it

from rqd import Job, Queue, Retry, SimpleWorker, Worker, get_current_job, use_redis
from rqd.client.connection import Backend
from rqd.daemon import inline
from rqd.exceptions import ConfigurationError, InvalidCallError
from rqd.model.current import current
from rqd.store.messages import JobUpdate
from rqd.store.store import Store
from rqd.worker import DequeueStrategy
from tests.client import work
from tests.waiting import eventually


def test_a_synchronous_queue_runs_each_job_before_enqueue_returns(backend: Backend) -> None:
    queue = Queue(is_async=False)

    done = queue.enqueue(work.multiply, 6, y=7, meta={"by": "me"})
    later = queue.enqueue(work.multiply_later, 2, y=2)
    failed = queue.enqueue(work.fail, "no luck")
    current_ = queue.enqueue(work.current_id)
    many = queue.enqueue_many([Queue.prepare_data(work.multiply, (n,)) for n in (1, 2)])
    made = queue.enqueue_job(queue.create_job(work.multiply, (9,)))

    assert done.get_status(refresh=False) == "finished"
    assert (done.return_value(), later.return_value(), current_.result) == (42, 4, current_.id)
    assert ([job.result for job in many], made.result) == ([1, 2], 9)
    assert failed.is_failed
    assert failed.cause == "raised ValueError: no luck"
    assert failed.exc_info is not None
    first, *_, last = failed.exc_info.splitlines()
    assert (first, last) == ("Traceback (most recent call last):", "ValueError: no luck")
    assert "rqd/daemon" not in failed.exc_info
    assert (current().id, get_current_job()) == (None, None)
    assert backend.store.redis.keys("*:leases") == []
    assert len(backend.store.redis.keys("*turn:*")) == 1


def test_what_cannot_be_serialized_fails_in_the_test(backend: Backend) -> None:
    with pytest.raises(InvalidCallError, match="can't be serialized"):
        Queue(is_async=False).enqueue(work.echo, threading.Lock())

    job = Queue(is_async=False).enqueue(work.unpicklable)
    assert "can't be serialized" in str(job.cause)
    job = Queue(is_async=False).enqueue(work.echo, work.Unreadable())
    assert job.cause == "raised RuntimeError: not here"


def test_arguments_and_results_too_large_for_a_script_come_through(backend: Backend) -> None:
    large = "x" * 300_000

    assert Queue(is_async=False).enqueue(work.echo, large).result == ((large,), {})


def test_large_arguments_are_fetched_once_and_a_job_whose_are_gone_says_so(
    backend: Backend,
) -> None:
    def fetches() -> int:
        numbers = backend.store.redis.info("commandstats")
        return int(numbers.get("cmdstat_getrange", {"calls": 0})["calls"])

    before = fetches()
    kept, gone = (Queue().enqueue(work.echo, "x" * 300_000) for _ in range(2))
    backend.store.redis.delete(backend.store.keys.payload(gone.id))

    SimpleWorker(["default"]).work()

    assert kept.is_finished
    gone.refresh()
    assert str(gone.cause).endswith("DeserializationError: its payload is gone from Redis")
    assert fetches() - before == 2


def test_a_synchronous_job_is_retried_at_once_and_with_an_interval_is_scheduled(
    backend: Backend,
) -> None:
    queue = Queue(is_async=False)

    at_once = queue.enqueue(work.fail, "no luck", retry=Retry(2))
    later = queue.enqueue(work.fail, "no luck", retry=Retry(2, interval=60))
    scheduled = queue.enqueue_in(timedelta(hours=1), work.multiply, 1)

    assert (at_once.is_failed, len(at_once.results())) == (True, 3)
    assert (later.is_scheduled, later.retries_left) == (True, 1)
    assert scheduled.is_scheduled


def test_only_the_synchronous_job_runs_not_what_waits_before_it(backend: Backend) -> None:
    waiting = Queue().enqueue(work.multiply, 1)

    job = Queue(is_async=False).enqueue(work.multiply, 2)

    assert (job.is_finished, waiting.is_queued) == (True, True)
    assert Queue().job_ids == [waiting.id]


def test_a_job_that_enqueues_runs_in_the_same_redis_and_keeps_its_own_id(
    backend: Backend, redis_url: str
) -> None:
    use_redis("redis://localhost:1")  # the default is another one, where nobody answers
    queue = Queue("outer", connection=backend, is_async=False)

    job = queue.enqueue(work.enqueue_another)

    assert job.cause is None
    assert job.result == (job.id, 6, job.id)


def test_a_timeout_is_raised_in_the_job_and_the_callers_alarm_is_left_alone(
    backend: Backend,
) -> None:
    rung: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda signum, _frame: rung.append(signum))
    held = signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        job = Queue(is_async=False).enqueue(work.wait_for, 20, job_timeout=0.2)
        eventually(lambda: bool(rung), 5.0)
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *held)  # the time limit of this test

    assert job.cause == "timed out after 0.2 s"


def test_progress_and_meta_of_a_synchronous_job_are_there_after_it(backend: Backend) -> None:
    job = Queue(is_async=False).enqueue(work.tell_all, 30)

    assert job.is_finished
    assert job.progress is not None
    assert (job.progress.fraction, job.progress.message) == (1.0, "30 of 30")
    assert job.get_meta() == {"done": 30}


def test_an_update_that_redis_did_not_get_goes_with_the_next(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_updates(self: Store, updates: Sequence[JobUpdate]) -> int:
        if not work.FIRST_UPDATE.is_set():
            work.FIRST_UPDATE.set()
            raise ConnectionError
        return written(self, updates)

    written = Store.write_updates
    monkeypatch.setattr(Store, "write_updates", write_updates)
    work.FIRST_UPDATE.clear()

    job = Queue(is_async=False).enqueue(work.tell_in_two)

    assert job.is_finished
    assert job.progress is not None
    assert job.progress.message == "all"
    assert job.get_meta() == {"done": True}


def test_a_thread_runs_its_jobs_without_a_timeout(backend: Backend) -> None:
    found: list[Any] = []

    def run() -> None:
        found.append(Queue(is_async=False).enqueue(work.multiply, 6, 7, job_timeout=1).result)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10)

    assert found == [42]


def run_in_threads(function: Any) -> list[Any]:
    """Two synchronous jobs at the same time, to their end."""
    queue = Queue(is_async=False)
    with ThreadPoolExecutor(2) as threads:
        running = [threads.submit(queue.enqueue, function, job_id=one) for one in "ab"]
        return [one.result(20) for one in running]


def test_jobs_of_several_threads_know_each_of_itself(backend: Backend) -> None:
    jobs = run_in_threads(work.seen_beside_others)

    assert [job.result for job in jobs] == [["a", "a"], ["b", "b"]]
    assert [job.get_meta() for job in jobs] == [{"me": "a"}, {"me": "b"}]
    assert (current().id, get_current_job()) == (None, None)


def test_a_thread_that_a_job_starts_has_its_job_where_that_is_taken_along(
    backend: Backend,
) -> None:
    job = Queue(is_async=False).enqueue(work.seen_in_threads, job_id="a")

    assert job.result == [None, "a", "a"]


def test_jobs_of_several_threads_keep_their_leases(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inline, "_BEAT_S", 0.02)

    jobs = run_in_threads(work.wait_till_renewed)

    assert [(job.result, job.attempt, job.losses) for job in jobs] == [(True, 1, 0)] * 2


def test_a_row_that_had_expired_says_again_which_job_runs_since_when(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inline, "_BEAT_S", 0.02)

    rows: Any = Queue(is_async=False).enqueue(work.row_that_expired).result

    before, after = rows
    assert before[b"job"]
    before.pop(b"heartbeat", None)  # the first beat may come before the job looks, or after
    del after[b"heartbeat"]
    assert after == before


def test_an_exception_of_a_name_like_that_of_ctrl_c_is_the_jobs_alone(backend: Backend) -> None:
    job = Queue(is_async=False).enqueue(work.cut_short)

    assert job.cause == "raised tests.client.work.PowerInterrupt: off"


def test_ctrl_c_in_a_synchronous_job_is_the_callers_too(backend: Backend) -> None:
    queue = Queue(is_async=False)

    with pytest.raises(KeyboardInterrupt):
        queue.enqueue(work.interrupt, job_id="a")

    assert queue.failed_job_registry.get_job_ids() == ["a"]


def test_a_taken_job_whose_answer_was_lost_is_claimed_anew_uncharged(
    backend: Backend,
) -> None:
    job = Queue().enqueue(work.multiply, 2)
    request = backend.store.request_id()

    lost = backend.store.take(job.id, "m", 15_000_000, request)
    again = backend.store.take(job.id, "m", 15_000_000, request)

    assert lost is not None
    assert again is not None
    assert (again.attempt, again.fence > lost.fence, job.is_started) == (1, True, True)
    assert backend.store.take(job.id, "m", 15_000_000, backend.store.request_id()) is None
    assert Queue().is_empty()


def test_a_simple_worker_runs_queues_in_order_and_returns_when_they_are_empty(
    backend: Backend,
) -> None:
    jobs = [Queue(name).enqueue(work.current_name) for name in ("low", "high", "low")]

    assert SimpleWorker(["high", "low"], name="me").work(max_jobs=1)
    assert [job.is_finished for job in jobs] == [False, True, False]
    assert SimpleWorker([Queue("high"), Queue("low")], name="me").work(burst=True)

    assert [job.is_finished for job in jobs] == [True] * 3
    assert jobs[0].result == ("me:1", ["me:1"])
    assert jobs[0].worker_name == "me:1"
    assert not SimpleWorker("low").work()
    assert Worker.all() == []
    with pytest.raises(ConfigurationError, match="until its queues are empty"):
        SimpleWorker("low").work(burst=False)


def test_a_simple_worker_takes_queues_in_turn_if_it_is_told(backend: Backend) -> None:
    for name, job_id in (("low", "l1"), ("low", "l2"), ("high", "h1"), ("high", "h2")):
        Queue(name).enqueue(work.multiply, 1, job_id=job_id)
    work.told.clear()

    worker = SimpleWorker(["high", "low"], middleware=[work.note_call])
    worker.work(dequeue_strategy="round_robin", max_idle_time=5)

    assert work.told == ["h1", "l1", "h2", "l2"]
    assert not SimpleWorker("low").work(dequeue_strategy=DequeueStrategy.RANDOM)
    with pytest.raises(ConfigurationError, match="dequeue_strategy 'best': write default, round_"):
        SimpleWorker("low").work(dequeue_strategy="best")


def test_a_simple_worker_has_exception_handlers_and_middleware(backend: Backend) -> None:
    work.told.clear()
    Queue().enqueue(work.fail, "no luck", job_id="a")

    SimpleWorker(Queue(), exception_handlers=[work.note_error], middleware=[work.note_call]).work()

    assert work.told == ["a", "a: no luck"]


def test_a_handler_that_is_a_method_of_an_instance_is_refused_by_its_name(backend: Backend) -> None:
    kinds: list[Any] = [SimpleWorker, Worker]
    for kind in kinds:
        with pytest.raises(ConfigurationError, match=r"Greeter.*is no function of a module"):
            kind("low", exception_handlers=[work.Greeter("hi").greet])


def test_works_arguments_stand_in_rqs_order(backend: Backend) -> None:
    order = list(inspect.signature(Worker.work).parameters)

    assert order == list(inspect.signature(SimpleWorker.work).parameters)
    assert order[:4] == ["self", "burst", "logging_level", "date_format"]
    Queue("low").enqueue(work.multiply, 1, job_id="a")
    assert SimpleWorker("low").work(True, "WARNING", "%H:%M", "%(message)s", 1, None, False)


def test_a_simple_worker_says_that_it_returns_where_rqs_would_stay(
    backend: Backend, capfd: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        Queue("low").enqueue(work.multiply, 1)

    SimpleWorker("low").work(max_jobs=1)
    SimpleWorker("low").work(burst=True)
    assert capfd.readouterr() == ("", "")
    SimpleWorker(["low", "high"]).work(logging_level="CRITICAL", max_jobs=1)

    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("rqd: work() returns when its queues are empty, unlike RQ's: ")
    assert "rqd start --queues low,high, or" in err


def test_options_of_rqs_workers_are_taken_if_they_mean_nothing_here(backend: Backend) -> None:
    SimpleWorker("low", serializer="json", log_job_description=False).work(with_scheduler=True)
    Worker("low", maintenance_interval=600, job_class=None)
    for name, why in (
        ("default_result_ttl", "write result_ttl= at the enqueue"),
        ("job_class", "write a subclass of rqd.job.Job"),
        ("connection_class", "write connection="),
        ("disable_default_exception_handler", "a failure is recorded whatever"),
        ("colour", "there is no such option"),
    ):
        kinds: list[Any] = [SimpleWorker, Worker]
        for kind in kinds:
            with pytest.raises(ConfigurationError, match=f"{name}=.*: .*{why}"):
                kind("low", **{name: "x"})
    Worker("low", disable_default_exception_handler=False, job_class=Job, queue_class="rqd.Queue")
    with pytest.raises(ConfigurationError, match=r"queue_class=.*write a subclass of rqd\."):
        Worker.all(queue_class=dict)
    with pytest.raises(ConfigurationError, match="default_result_ttl=: "):
        Worker("low", default_result_ttl=0)


class _OwnQueue(Queue):
    def shout(self) -> str:
        return self.name.upper()


def test_a_workers_queues_given_by_name_are_of_its_queue_class(backend: Backend) -> None:
    kinds: list[Any] = [SimpleWorker, Worker]
    for kind in kinds:
        made = [
            kind("low", queue_class=_OwnQueue),
            kind(["low"], queue_class="tests.client.test_run_inline._OwnQueue"),
            type("Own", (kind,), {"queue_class": _OwnQueue})("low"),
        ]

        assert [worker.queues[0].shout() for worker in made] == ["LOW"] * 3
        assert {worker.queue_class for worker in made} == {_OwnQueue}
        assert made[0].connection.namespace == backend.namespace
        assert kind("low").queue_class is Queue
        with pytest.raises(ConfigurationError, match=r"queue_class='shop\.Q': write a subclass"):
            kind("low", queue_class="shop.Q")


def test_a_worker_class_with_a_method_that_nobody_would_call_is_refused() -> None:
    kinds: list[type[Any]] = [SimpleWorker, Worker]
    for kind in kinds:
        with pytest.raises(
            ConfigurationError, match=r"Own.perform_job\(\) would never be called.*"
        ):
            type("Own", (kind,), {"perform_job": print})
        type("Own", (kind,), {"queue_names": print, "greet": print, "job_class": Job})
        with pytest.raises(ConfigurationError, match=r"job_class=.*: write a subclass of"):
            type("Own", (kind,), {"job_class": dict})
        for name in ("connection_class", "death_penalty_class"):
            with pytest.raises(ConfigurationError, match=f"Own.{name} would never be read: "):
                type("Own", (kind,), {name: type("Other", (), {})})
        for name in ("handle_exception", "handle_job_retry", "kill_horse", "reorder_queues"):
            with pytest.raises(ConfigurationError, match=rf"Own.{name}\(\) would never be"):
                type("Own", (kind,), {name: print})
        with pytest.raises(ConfigurationError, match=r"Own.execute_job\(\) would never be called"):
            type("Own", (type("Mixin", (), {"execute_job": print}), kind), {})
