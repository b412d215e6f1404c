"""Queue.enqueue and its relatives: what goes on a queue, and what is refused."""

import functools
import pickle
import sys
import types
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import redis

from rqd import Job, Queue, Repeat, Retry, use_redis
from rqd.client.connection import Backend
from rqd.exceptions import (
    ConfigurationError,
    DuplicateJobError,
    InvalidCallError,
    InvalidNameError,
    NoSuchJobError,
    PayloadTooLargeError,
    RetryLater,
)
from rqd.job import Dependency
from tests.client import work
from tests.client.performing import claim, perform


@pytest.mark.parametrize(
    ("function", "args", "name", "value"),
    [
        (work.multiply, (20, 40), "tests.client.work.multiply", 800),
        ("tests.client.work.multiply", (20, 40), "tests.client.work.multiply", 800),
        (work.multiply_later, (2, 3), "tests.client.work.multiply_later", 6),
        (work.Greeter("hi").greet, ("you",), "tests.client.work.Greeter.greet", "hi you"),
        (work.Greeter.hello, ("you",), "tests.client.work.Greeter.hello", "hello you"),
        (work.Greeter.shout, ("you",), "tests.client.work.Greeter.shout", "YOU"),
        (work.Greeter("hi"), ("you",), "tests.client.work.Greeter.__call__", "hi, you"),
        (functools.partial(work.multiply, y=5), (2,), "functools.partial.__call__", 10),
        (len, ([1, 2],), "builtins.len", 2),
        (work.decorated, (3,), "tests.client.work.decorated", "aaa"),
    ],
)
def test_a_call_of_any_kind_runs_as_it_was_enqueued(
    backend: Backend, function: Any, args: tuple[Any, ...], name: str, value: Any
) -> None:
    job = Queue().enqueue(function, *args)

    assert job.func_name == name
    assert job.description.startswith(f"{name}(")
    assert perform(backend) == 1
    assert job.return_value() == value


def test_any_picklable_arguments_arrive(backend: Backend) -> None:
    when = datetime(2026, 1, 2, tzinfo=UTC)
    job = Queue().enqueue(work.echo, {1, 2}, b"\x00\xff", when, word="é", none=None)

    assert (job.args, job.kwargs) == (({1, 2}, b"\x00\xff", when), {"word": "é", "none": None})
    perform(backend)
    assert job.return_value() == (job.args, job.kwargs)


def test_a_large_call_and_result_arrive(backend: Backend) -> None:
    big = b"x" * 1_000_000
    job = Queue().enqueue(work.echo, big)

    perform(backend)

    assert Job.fetch(job.id).args == (big,)
    assert job.return_value() == ((big,), {})


def test_every_option_reaches_the_job(backend: Backend) -> None:
    job = Queue("low").enqueue(
        work.multiply,
        2,
        job_id="my-id_1",
        job_timeout="1h",
        result_ttl=60,
        failure_ttl="2d",
        ttl="30m",
        description="two by itself",
        meta={"by": "me"},
        retry=Retry(max=3, interval=[1, 2.5]),
        y=3,
    )

    for found in (job, Job.fetch("my-id_1")):
        assert (found.id, found.origin, found.description) == ("my-id_1", "low", "two by itself")
        assert (found.timeout, found.result_ttl, found.failure_ttl) == (3600, 60, 172_800)
        assert (found.ttl, found.meta) == (1800, {"by": "me"})
        assert (found.retries_left, found.retry_intervals) == (3, [1, 2.5])
        assert (found.args, found.kwargs) == ((2,), {"y": 3})
        assert found.func is work.multiply


def test_defaults_are_rqs(backend: Backend) -> None:
    job = Job.fetch(Queue().enqueue(work.multiply, 1).id)

    assert job.origin == "default"
    assert (job.timeout, job.result_ttl, job.failure_ttl) == (180, 500, 31_536_000)
    assert (job.ttl, job.meta, job.retries_left) == (None, {}, 0)


def test_minus_one_is_no_limit(backend: Backend) -> None:
    job = Queue(default_timeout=-1).enqueue(work.multiply, 1, result_ttl=-1, ttl=-1)

    assert (job.timeout, job.result_ttl, job.ttl) == (-1, -1, None)


def test_the_job_that_is_handed_back_equals_the_one_in_redis(backend: Backend) -> None:
    jobs = [
        Queue().enqueue(work.multiply, 1, meta={"a": 1}, retry=Retry(2), job_timeout=0.5),
        Queue().enqueue(work.echo, "x" * 100_000),
        Queue().enqueue_in(timedelta(hours=1), work.multiply, 1),
        Queue().enqueue_at(datetime(2040, 1, 1, tzinfo=UTC), work.multiply, 1),
    ]

    for job in jobs:
        handed = {name: getattr(job._record, name) for name in job._record.__slots__}
        there = Job.fetch(job.id)._record
        stored = {name: getattr(there, name) for name in there.__slots__}
        for record in (handed, stored):
            record.pop("payload")
        assert handed == stored
        assert job.args == Job.fetch(job.id).args


def test_at_front_goes_first(backend: Backend) -> None:
    queue = Queue()
    second, first = queue.enqueue(work.multiply, 1), queue.enqueue(work.multiply, 2, at_front=True)

    assert queue.job_ids == [first.id, second.id]


def test_enqueue_call_takes_the_call_apart_from_the_options(backend: Backend) -> None:
    job = Queue().enqueue_call(
        work.echo, args=(1,), kwargs={"timeout": 2}, timeout="1m", result_ttl=5, job_id="a"
    )

    assert (job.args, job.kwargs, job.timeout, job.id) == ((1,), {"timeout": 2}, 60, "a")


def test_args_and_kwargs_leave_the_names_of_options_to_the_function(backend: Backend) -> None:
    job = Queue().enqueue(work.echo, args=(1,), kwargs={"ttl": 2}, job_id="a")

    assert (job.args, job.kwargs, job.ttl) == ((1,), {"ttl": 2}, None)


def test_enqueue_at_and_in_wait_for_their_time(backend: Backend) -> None:
    queue = Queue()
    when = datetime(2040, 6, 1, 12, 30, 0, 123_457, tzinfo=timezone(timedelta(hours=2)))

    at = queue.enqueue_at(when, work.multiply, 2, y=3)
    soon = queue.enqueue_in(timedelta(seconds=0.000_001), work.multiply, 5, job_id="soon")

    assert queue.job_ids == []
    assert at.is_scheduled
    due_us = backend.store.redis.zscore(backend.store.keys.scheduled, at.id)
    assert due_us == (when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    perform(backend)
    assert soon.return_value() == 5
    assert at.get_status() == "scheduled"


def test_a_naive_time_is_local_time(backend: Backend) -> None:
    naive = datetime(2040, 6, 1, 12)  # noqa: DTZ001 - what is tried here

    job = Queue().enqueue_at(naive, work.multiply, 1)

    due_us = backend.store.redis.zscore(backend.store.keys.scheduled, job.id)
    assert due_us == naive.timestamp() * 1e6


def test_a_time_that_is_over_is_now(backend: Backend) -> None:
    zone = ZoneInfo("America/New_York")
    past = Queue().enqueue_at(datetime(1969, 6, 1, tzinfo=zone), work.multiply, 3)
    negative = Queue().enqueue_in(timedelta(days=-1), work.multiply, 3)

    perform(backend)

    assert (past.return_value(), negative.return_value()) == (3, 3)


def test_the_first_time_there_is_was_over_long_ago(backend: Backend) -> None:
    local = datetime.min  # noqa: DTZ901 - what is tried here
    first = [local, local.replace(tzinfo=UTC)]
    jobs = [Queue().enqueue_at(when, work.multiply, 3) for when in first]

    perform(backend)

    assert [job.return_value() for job in jobs] == [3, 3]


def test_a_time_too_far_off_to_be_stored_is_refused_with_the_last_one(backend: Backend) -> None:
    queue = Queue()
    for year in (2255, 9999):
        never = datetime(year, 1, 2, tzinfo=UTC)
        with pytest.raises(InvalidCallError, match=r"enqueue_at\(.*: write a time before 2255"):
            queue.enqueue_at(never, work.multiply, 1)
    for too_long in (timedelta.max, timedelta(days=36_501)):
        with pytest.raises(InvalidCallError, match=r"enqueue_in\(.*: write 36,500 days at most"):
            queue.enqueue_in(too_long, work.multiply, 1)

    last = queue.enqueue_at(datetime(2254, 12, 30, tzinfo=UTC), work.multiply, 1)
    longest = queue.enqueue_in(timedelta(days=36_500), work.multiply, 1)

    assert (last.get_status(), longest.get_status()) == ("scheduled", "scheduled")


def test_a_number_of_runs_has_a_bound_that_is_named(backend: Backend) -> None:
    most = 10**9
    job = Queue().enqueue(work.fail, "no", retry=Retry(max=most), repeat=Repeat(times=most))

    (held,) = claim(backend)

    assert (held.retries_left, job.repeats_left) == (most, most)
    tries: list[Callable[[], object]] = [
        lambda: Retry(max=most + 1),
        lambda: Retry(max=sys.maxsize),
        lambda: Retry(max=3, on={"timeout": most + 1}),
        lambda: Repeat(times=10**400),
        lambda: RetryLater(max=most + 1),
    ]
    for make in tries:
        with pytest.raises(ConfigurationError, match=r"write [01] to 1,000,000,000"):
            make()
    with pytest.raises(ConfigurationError, match="write less than 8,388,608G"):
        Queue().enqueue(work.fail, "no", max_memory="8388608G")


# -- one round trip


def commands(backend: Backend, act: Callable[[], object]) -> dict[str, int]:
    """How often each command was called meanwhile, those within scripts included."""
    Queue("warm").enqueue(work.multiply, 1)
    before = seen(backend)
    act()
    after = seen(backend)
    return {name: calls - before.get(name, 0) for name, calls in after.items()}


def seen(backend: Backend) -> dict[str, int]:
    stats: Any = backend.store.redis.info("commandstats")
    return {name.removeprefix("cmdstat_"): told["calls"] for name, told in stats.items()}


def round_trips(backend: Backend, act: Callable[[], object]) -> int:
    """How many times the client sent something and waited, as the server saw it."""
    Queue("warm").enqueue(work.multiply, 1)
    redis_: Any = backend.store.redis
    before = redis_.info("stats")["total_reads_processed"]
    act()
    return int(redis_.info("stats")["total_reads_processed"]) - int(before) - 1


def test_an_enqueue_is_one_script_and_one_round_trip(backend: Backend) -> None:
    assert commands(backend, lambda: Queue().enqueue(work.multiply, 1))["evalsha"] == 1
    assert round_trips(backend, lambda: Queue().enqueue(work.multiply, 1)) == 1


def test_enqueue_many_is_one_script_however_many(backend: Backend) -> None:
    datas = [Queue.prepare_data(work.multiply, (number,)) for number in range(200)]

    called = commands(backend, lambda: Queue().enqueue_many(datas))

    assert called["evalsha"] == 1
    assert Queue().count == 200


def test_enqueue_many_keeps_the_order_and_each_jobs_options(backend: Backend) -> None:
    jobs = Queue().enqueue_many(
        [
            Queue.prepare_data(work.multiply, (1,), {"y": 2}, timeout=5, job_id="a"),
            Queue.prepare_data("tests.client.work.multiply", (3,), meta={"b": 1}),
            Queue.prepare_data(work.multiply, (5,), at_front=True),
        ]
    )

    assert Queue().job_ids == [jobs[2].id, "a", jobs[1].id]
    assert (jobs[0].timeout, jobs[1].meta, jobs[0].kwargs) == (5, {"b": 1}, {"y": 2})
    perform(backend)
    assert [job.return_value() for job in jobs] == [2, 3, 5]
    assert Queue().enqueue_many([]) == []


def test_one_refused_call_refuses_all_of_enqueue_many(backend: Backend) -> None:
    Queue().enqueue(work.multiply, 1, job_id="alive")
    for bad, error in (
        (Queue.prepare_data(lambda: 1), InvalidCallError),
        (Queue.prepare_data(work.multiply, job_id="alive"), DuplicateJobError),
    ):
        with pytest.raises(error):
            Queue().enqueue_many([Queue.prepare_data(work.multiply, (1,)), bad])

    assert Queue().job_ids == ["alive"]


def test_a_pipeline_of_the_users_carries_the_enqueue_along(
    backend: Backend, redis_client: redis.Redis
) -> None:
    big = "x" * 100_000
    with redis_client.pipeline(transaction=True) as pipe:
        pipe.set("order", "1")
        job = Queue().enqueue(work.echo, big, pipeline=pipe)
        many = Queue().enqueue_many([Queue.prepare_data(work.multiply, (2,))], pipeline=pipe)
        called = Queue().enqueue_call(work.multiply, (3,), pipeline=pipe)
        assert Queue().is_empty()
        assert job.created_at is None
        pipe.execute()

    assert Queue().job_ids == [job.id, many[0].id, called.id]
    assert redis_client.get("order") == b"1"
    perform(backend)
    assert job.return_value() == ((big,), {})
    job.refresh()
    assert job.created_at is not None


def test_a_pipeline_that_decodes_carries_bytes_all_the_same(backend: Backend) -> None:
    with redis.Redis.from_url(backend.url, decode_responses=True) as theirs:
        pipe = theirs.pipeline()
        job = Queue().enqueue(work.echo, b"\xff\x00", pipeline=pipe)
        pipe.execute()

    assert Job.fetch(job.id).args == (b"\xff\x00",)


@pytest.mark.parametrize("is_changed", [False, True])
def test_an_enqueue_on_a_watching_pipeline_waits_for_its_transaction(
    backend: Backend, redis_client: redis.Redis, is_changed: bool
) -> None:
    with redis_client.pipeline() as pipe:
        pipe.watch("order")
        for _ in range(2):  # the second one finds multi() called
            Queue().enqueue(work.echo, "x" * 100_000, pipeline=pipe)
        assert Queue().is_empty()
        assert not redis_client.keys("*staged*")
        if is_changed:
            redis_client.set("order", "changed")
            with pytest.raises(redis.WatchError):
                pipe.execute()
        else:
            pipe.execute()

    assert Queue().count == (0 if is_changed else 2)


@pytest.mark.parametrize("is_transaction", [False, True])
@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"job_id": "alive"}, r"DUPLICATE job alive .*: a job with this id is still alive"),
        ({"unique": "key"}, r"DUPLICATE job .*: job alive has the unique key key"),
        ({"depends_on": "nobody"}, r"ORPHAN job .* nobody, and there is no such job"),
        ({"job_id": "awaited", "depends_on": "alive"}, r"DUPLICATE job awaited .*wait for this id"),
    ],
)
def test_what_is_refused_on_a_pipeline_raises_at_its_execute(
    backend: Backend,
    redis_client: redis.Redis,
    is_transaction: bool,
    options: dict[str, Any],
    told: str,
) -> None:
    queue = Queue()
    queue.enqueue(work.echo, job_id="alive", unique="key")
    queue.enqueue(work.echo, job_id="awaited")
    queue.enqueue(work.echo, job_id="awaiting", depends_on="awaited")
    queue.connection.store.cancel("awaited")

    def carry_out(**how: Any) -> Any:
        with redis_client.pipeline(transaction=is_transaction) as pipe:
            queue.enqueue(work.echo, pipeline=pipe, **options)
            fine = queue.enqueue(work.echo, pipeline=pipe)
            return fine.id, pipe.execute(**how)

    with pytest.raises(redis.ResponseError, match=told):
        carry_out()
    fine, (refused, *_) = carry_out(raise_on_error=False)
    assert isinstance(refused, redis.ResponseError)
    assert fine in queue.job_ids


def test_a_payload_that_got_lost_on_a_pipeline_raises_at_its_execute(
    backend: Backend, redis_client: redis.Redis
) -> None:
    with redis_client.pipeline() as pipe:
        Queue().enqueue(work.echo, "x" * 100_000, pipeline=pipe)
        del pipe.command_stack[0]
        with pytest.raises(redis.ResponseError, match=r"UNSTAGED job .* payload"):
            pipe.execute()


def test_an_id_that_a_batch_has_twice_is_refused_before_anything_is_sent(
    backend: Backend, redis_client: redis.Redis
) -> None:
    datas = [Queue.prepare_data(work.echo, job_id=job_id) for job_id in ("a", "b", "a")]
    with redis_client.pipeline() as pipe:
        with pytest.raises(DuplicateJobError, match="'a'") as told:
            Queue().enqueue_many(datas, pipeline=pipe)
        assert not pipe.command_stack

    assert told.value.job_id == "a"
    with pytest.raises(DuplicateJobError, match="'a'"):
        Queue().enqueue_many(datas)
    assert Queue().is_empty()


# -- refusals


def of_main(name: str) -> Any:
    module = types.ModuleType("__main__")
    exec(f"def {name}(): pass", module.__dict__)
    return getattr(module, name)


def nested() -> Any:
    def inside() -> None: ...

    return inside


ANYTHING: Any = 7
REFUSALS: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: Queue().enqueue(lambda: 1), InvalidCallError, "a lambda has no name"),
    (lambda: Queue().enqueue(nested()), InvalidCallError, "inside is defined inside a function"),
    (lambda: Queue().enqueue(of_main("f")), InvalidCallError, "f is in __main__: move it"),
    (lambda: Queue().enqueue("nodots"), InvalidCallError, "'nodots' is no dotted name"),
    (lambda: Queue().enqueue(ANYTHING), InvalidCallError, "7 is not callable"),
    (lambda: Queue().enqueue(work.echo, sys), InvalidCallError, "arguments of tests.client.work"),
    (lambda: Queue().enqueue(work.echo, meta={"a": sys}), InvalidCallError, "meta can't be"),
    (lambda: Queue().enqueue(work.echo, job_id="a b"), ConfigurationError, "job id 'a b'"),
    (lambda: Queue().enqueue(work.echo, job_id=""), ConfigurationError, "job id ''"),
    (lambda: Queue().enqueue(work.echo, job_id=7), ConfigurationError, "job id 7"),
    (lambda: Queue().enqueue(work.echo, ttl="soon"), ConfigurationError, "ttl 'soon' is no dur"),
    (lambda: Queue().enqueue(work.echo, ttl=0), ConfigurationError, "ttl 0 would let the job"),
    (lambda: Queue().enqueue(work.echo, job_timeout=0), ConfigurationError, "job_timeout 0 would"),
    (lambda: Queue().enqueue(work.echo, result_ttl=-5), ConfigurationError, "result_ttl -5"),
    (lambda: Queue().enqueue(work.echo, result_ttl="9" * 20), ConfigurationError, "result_ttl '9"),
    (lambda: Queue().enqueue(work.echo, retry=3), InvalidCallError, r"retry=3: write retry=Retry"),
    (lambda: Queue().enqueue(work.echo, depends_on=7), InvalidCallError, "depends_on=7: write a"),
    (lambda: Queue().enqueue(work.echo, depends_on="a b"), ConfigurationError, "job id 'a b'"),
    (lambda: Queue().enqueue(work.echo, depends_on="a"), NoSuchJobError, "depends on 'a', and"),
    (lambda: Dependency([]), InvalidCallError, "a Dependency names no job"),
    (lambda: Dependency("a", on_failure="run"), InvalidCallError, "'run': write 'wait' or 'c"),  # type: ignore[arg-type]  # what is tried here
    (lambda: Dependency("a", True, False, "cancel"), InvalidCallError, "can't have on_failure="),
    (
        lambda: Queue().enqueue(work.echo, depends_on=[f"a{number}" for number in range(1001)]),
        InvalidCallError,
        "depend on 1,000 jobs, not on 1,001",
    ),
    (lambda: Queue().enqueue(work.echo, repeat=3), InvalidCallError, r"write repeat=Repeat\("),
    (lambda: Queue().enqueue_at(ANYTHING, work.echo), InvalidCallError, r"enqueue_at\(7, "),
    (lambda: Queue().enqueue_in(ANYTHING, work.echo), InvalidCallError, r"enqueue_in\(7, "),
    (lambda: Queue().enqueue(work.echo, 1, args=(2,)), InvalidCallError, "either in place or as"),
    (lambda: Queue().enqueue(work.echo, args=(2,), y=1), InvalidCallError, "either in place or as"),
    (lambda: Queue().enqueue_call(work.echo, colour=1), InvalidCallError, "no option colour="),
    (lambda: Queue.prepare_data(work.echo, colour=1), InvalidCallError, "no option colour="),
    (lambda: Queue(""), InvalidNameError, "queue name ''"),
    (lambda: Queue("a b"), InvalidNameError, "queue name 'a b'"),
    (lambda: Queue("a{b}"), InvalidNameError, "queue name"),
    (lambda: Queue("mail:failed"), InvalidNameError, "queue name 'mail:failed' ends as"),
    (lambda: Queue(default_timeout=0), ConfigurationError, "default_timeout 0 would"),
    (lambda: Queue(default_timeout="x"), ConfigurationError, "default_timeout 'x'"),
    (lambda: Queue(serializer="yaml"), ConfigurationError, "serializer 'yaml'"),
    (lambda: Queue(payload_limit_bytes=0), ConfigurationError, "payload_limit_bytes 0"),
    (lambda: Queue(payload_limit_bytes=2**30), ConfigurationError, "payload_limit_bytes 10737"),
]


@pytest.mark.parametrize(("act", "error", "why"), REFUSALS, ids=[why for *_, why in REFUSALS])
def test_what_cannot_be_is_refused_and_nothing_is_written(
    backend: Backend, act: Callable[[], object], error: type[Exception], why: str
) -> None:
    with pytest.raises(error, match=why) as caught:
        act()

    assert "\n" not in str(caught.value)
    assert backend.store.redis.dbsize() == 0


def test_an_option_given_as_none_is_the_default(backend: Backend) -> None:
    job = Queue().enqueue(
        work.echo, depends_on=None, on_success=None, at_front=None, ttl=None, retry=None, x=None
    )

    assert job.kwargs == {"x": None}


def test_the_payload_limit_is_a_setting(backend: Backend) -> None:
    with pytest.raises(PayloadTooLargeError, match="the limit is 1,000"):
        Queue(payload_limit_bytes=1000).enqueue(work.echo, "x" * 1000)
    Queue(payload_limit_bytes=10_000).enqueue(work.echo, "x" * 1000)

    assert Queue().count == 1


def test_the_id_of_a_live_job_is_refused_the_one_of_an_ended_job_is_reused(
    backend: Backend,
) -> None:
    queue = Queue()
    queue.enqueue(work.multiply, 1, job_id="a")
    with pytest.raises(DuplicateJobError, match="'a' is still alive"):
        queue.enqueue(work.multiply, 2, job_id="a")
    perform(backend)

    again = queue.enqueue(work.multiply, 3, job_id="a")

    assert again.return_value() is None
    perform(backend)
    assert again.return_value() == 3


@pytest.mark.parametrize("serializer", ["json", "tests.unit.callables.Reversing"])
def test_another_serializer_is_used_for_call_meta_and_result(
    backend: Backend, serializer: str
) -> None:
    queue = Queue(serializer=serializer)
    job = queue.enqueue(work.echo, [1, "é"], meta={"a": 1})

    (held,) = claim(backend)
    assert held.serializer == serializer
    assert held.payload is not None
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads(held.payload)
    found = Job.fetch(job.id)
    assert (found.args, found.meta) == (([1, "é"],), {"a": 1})


def test_two_names_of_the_queue_are_the_same_queue(backend: Backend) -> None:
    assert Queue("a") == Queue("a") != Queue("b")
    assert len({Queue("a"), Queue("a")}) == 1
    assert repr(Queue("a")) == "Queue('a')"
    assert bool(Queue("a"))


def test_a_namespace_of_its_own_is_another_world(backend: Backend) -> None:
    Queue().enqueue(work.multiply, 1)

    use_redis(backend.url, namespace="billing")

    assert Queue().is_empty()
    assert Queue.all() == []


def test_a_job_of_a_higher_priority_comes_first(backend: Backend) -> None:
    queue = Queue()
    late, early = queue.enqueue(work.multiply, 1), queue.enqueue(work.multiply, 1, priority=1)
    (many,) = queue.enqueue_many([Queue.prepare_data(work.multiply, [1], priority=-4095)])
    assert queue.job_ids == [early.id, late.id, many.id]


@pytest.mark.parametrize("priority", [4096, -4096, 1.5, True, "high"])
def test_a_priority_that_is_none_is_refused(backend: Backend, priority: object) -> None:
    with pytest.raises(InvalidCallError, match="write a whole number, -4095 to 4095"):
        Queue().enqueue(work.multiply, 1, priority=priority)
