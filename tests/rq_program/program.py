"""A program written for RQ. Moved to rqd it has `rqd` for `rq` in its imports, and nothing else.

Each function below uses what its docstring names, as RQ's documentation shows it, and checks what
it gets. Printed is what was covered. It runs on RQ 3.0, too.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import rq
import rq.job as job_module
import tasks
from redis import Redis
from rq import (
    Callback,
    Queue,
    RateLimit,
    Repeat,
    Retry,
    SimpleWorker,
    Webhook,
    Worker,
    cancel_job,
    requeue_job,
)
from rq.command import send_shutdown_command, send_stop_job_command
from rq.cron import CronScheduler
from rq.decorators import job as job_decorator
from rq.exceptions import DuplicateJobError, InvalidJobOperation, NoSuchJobError
from rq.group import Group
from rq.job import Dependency, Job, JobStatus
from rq.registry import (
    CanceledJobRegistry,
    DeferredJobRegistry,
    FailedJobRegistry,
    FinishedJobRegistry,
    ScheduledJobRegistry,
    StartedJobRegistry,
)
from rq.results import Result
from rq.serializers import JSONSerializer
from rq.suspension import is_suspended, resume, suspend
from rq.worker import DequeueStrategy, WorkerStatus

connection = Redis.from_url(os.environ["PROGRAM_REDIS"])
folder = tempfile.mkdtemp()


def work(*queues, kind=SimpleWorker, **options):
    """Runs what is there, most often in this process: RQ's own advice for tests."""
    kind(list(queues), connection=connection, **options).work(burst=True, with_scheduler=True)


def work_until(done, *queues):
    """Runs until it is `done`, through waits for retries and schedules."""
    deadline = time.monotonic() + 40
    while not done():
        assert time.monotonic() < deadline, "it was not done in time"
        time.sleep(0.1)
        work(*queues)


def until(is_so):
    """Waits until it is so."""
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline, "it did not become so in time"
        time.sleep(0.05)


def path(name):
    return os.path.join(folder, name)


def queues():
    """Queues: enqueue with options, enqueue_call, args and kwargs apart, positions, counts"""
    queue = Queue("low", connection=connection, default_timeout=60)
    first = queue.enqueue(tasks.count_words, "one two")
    named = queue.enqueue(
        "tasks.count_words",
        text="one two three",
        job_timeout="2m",
        result_ttl=500,
        ttl=3600,
        failure_ttl=86400,
        job_id="named",
        description="counts",
        meta={"page": 1},
    )
    front = queue.enqueue(tasks.count_words, "one", at_front=True)
    called = queue.enqueue_call(func=tasks.count_words, args=("a b c d",), timeout=30)
    apart = queue.enqueue(tasks.count_words, args=("x",), kwargs={}, job_timeout=30)
    assert (queue.count, len(queue), queue.is_empty()) == (5, 5, False)
    assert queue.job_ids == [front.id, first.id, "named", called.id, apart.id]
    assert queue.get_job_ids(1, 2) == [first.id, "named"]
    assert [job.id for job in queue.get_jobs(0, 1)] == [front.id]
    assert queue.get_job_position(named) == 2
    assert queue.fetch_job("named").meta == {"page": 1}
    assert queue.fetch_job("nobody") is None
    assert queue in Queue.all(connection=connection)
    assert (named.origin, named.description, named.timeout, first.timeout) == (
        "low", "counts", 120, 60,
    )  # fmt: skip
    work(queue, kind=Worker)
    assert [job.return_value() for job in (first, named, front, called, apart)] == [2, 3, 1, 4, 1]
    queue.enqueue(tasks.count_words, "x")
    queue.empty()
    assert queue.is_empty()
    queue.delete(delete_jobs=True)


def jobs():
    """Jobs: create, fetch, fetch_many, exists, states, times, results, cancel, delete, requeue"""
    queue = Queue("jobs", connection=connection)
    made = Job.create(tasks.count_words, args=("a b",), id="made", connection=connection)
    queue.enqueue_job(made)
    created = queue.create_job(tasks.fail, args=("on purpose",))
    queue.enqueue_job(created)
    job = queue.enqueue(tasks.who_am_i)
    assert job.get_status() == JobStatus.QUEUED
    assert job.is_queued
    assert not job.is_finished
    work(queue)
    assert Job.exists("made", connection=connection)
    fetched = Job.fetch("made", connection=connection)
    assert (fetched.func_name, fetched.args, fetched.kwargs) == ("tasks.count_words", ("a b",), {})
    assert fetched.func is tasks.count_words
    assert fetched.enqueued_at <= fetched.started_at <= fetched.ended_at
    assert (fetched.return_value(), fetched.result) == (2, 2)
    assert Job.fetch_many(["made", "nobody"], connection=connection) == [fetched, None]
    assert job.return_value() == job.id
    assert job.get_meta() == {"seen": True}
    failed = Job.fetch(created.id, connection=connection)
    assert failed.is_failed
    assert failed.latest_result().type == Result.Type.FAILED
    assert failed.latest_result().exc_string.strip().endswith("ValueError: on purpose")
    assert [result.type for result in job.results()] == [Result.Type.SUCCESSFUL]
    failed.requeue()
    assert failed.get_status() == JobStatus.QUEUED
    work(queue)
    requeue_job(created.id, connection=connection)
    cancel_job(created.id, connection=connection)
    assert Job.fetch(created.id, connection=connection).is_canceled
    job.delete()
    try:
        Job.fetch(job.id, connection=connection)
    except NoSuchJobError:
        pass
    else:
        raise AssertionError("it was deleted")


def callables():
    """What can be enqueued: methods, static and class methods, callables, builtins, coroutines"""
    queue = Queue("callables", connection=connection)
    report = tasks.Report("July")
    enqueued = [
        queue.enqueue(report.render, 3),
        queue.enqueue(tasks.Report.empty),
        queue.enqueue(tasks.Report.first),
        queue.enqueue(report),
        queue.enqueue(len, "four"),
        queue.enqueue(tasks.count_words_later, "a b c"),
    ]
    work(queue)
    assert [job.return_value() for job in enqueued] == [
        "July, page 3", "nothing", "first, page 1", "July, called", 4, 3,
    ]  # fmt: skip


def many():
    """enqueue_many with prepare_data, in one round trip, and pipelines"""
    queue = Queue("many", connection=connection)
    datas = [Queue.prepare_data(tasks.count_words, [text], job_id=text) for text in "abc"]
    enqueued = queue.enqueue_many(datas)
    with connection.pipeline() as pipe:
        queue.enqueue(tasks.count_words, "d e", job_id="d", pipeline=pipe)
        assert queue.count == 3
        pipe.execute()
    assert queue.job_ids == ["a", "b", "c", "d"]
    work(queue)
    assert [job.return_value() for job in enqueued] == [1, 1, 1]


def decorated():
    """The job decorator: delay and enqueue"""
    queue = Queue("decorated", connection=connection)
    counted = job_decorator(queue, connection=connection, timeout=30, result_ttl=60)(
        tasks.count_words
    )
    job = counted.delay("one two three")
    assert (job.origin, job.timeout, job.result_ttl) == ("decorated", 30, 60)
    work(queue)
    assert job.return_value() == 3


def retries():
    """Retries: at once, with intervals, and by a job that returns a Retry"""
    queue = Queue("retries", connection=connection)
    at_once = queue.enqueue(tasks.fail_until, path("once"), 3, retry=Retry(max=3))
    later = queue.enqueue(tasks.fail_until, path("later"), 2, retry=Retry(max=3, interval=[1, 2]))
    asked = queue.enqueue(tasks.ask_again, path("asked"))
    assert (at_once.retries_left, later.retry_intervals) == (3, [1, 2])
    work_until(lambda: later.get_status() == "finished", queue)
    assert (at_once.return_value(), later.return_value()) == (3, 2)
    assert asked.return_value() == "enough"


def schedules():
    """Schedules: enqueue_at, enqueue_in, the scheduled registry, repeats"""
    queue = Queue("schedules", connection=connection)
    due = datetime.now(UTC) + timedelta(seconds=1)
    soon = queue.enqueue_in(timedelta(seconds=1), tasks.count_words, "a b")
    at = queue.enqueue_at(due, tasks.count_words, "a b c")
    far = queue.enqueue_at(datetime(2040, 1, 1, tzinfo=UTC), tasks.count_words, "a")
    repeated = queue.enqueue(
        tasks.note, path("repeated"), "again", repeat=Repeat(times=2, interval=1)
    )
    registry = ScheduledJobRegistry(queue=queue)
    assert far in registry
    assert registry.get_scheduled_time(far) == datetime(2040, 1, 1, tzinfo=UTC)
    assert queue.scheduled_job_registry.count >= 1

    def done():
        ended = soon.is_finished and at.is_finished
        return ended and Path(path("repeated")).read_text() == "again\n" * 3

    work_until(done, queue)
    assert (soon.return_value(), at.return_value(), far.is_scheduled) == (2, 3, True)
    assert repeated.get_status() == JobStatus.FINISHED


def dependencies():
    """Dependencies: on one job, on several, in spite of failure, across queues"""
    first, second = Queue("first", connection=connection), Queue("second", connection=connection)
    parents = [first.enqueue(tasks.count_words, text) for text in ("a", "a b")]
    child = second.enqueue(tasks.sum_of_parents, depends_on=parents)
    bad = first.enqueue(tasks.fail)
    in_spite = second.enqueue(
        tasks.count_words, "a b c", depends_on=Dependency(jobs=[bad], allow_failure=True)
    )
    never = second.enqueue(tasks.count_words, "a", depends_on=bad)
    assert child.get_status() == JobStatus.DEFERRED
    assert child.id in DeferredJobRegistry(queue=second)
    work(first)
    work(second)
    assert (child.return_value(), in_spite.return_value()) == (3, 3)
    assert never.get_status() == JobStatus.DEFERRED
    never.cancel()


def callbacks():
    """Callbacks: on_success, on_failure"""
    queue = Queue("callbacks", connection=connection)
    good = queue.enqueue(tasks.count_words, "a b", on_success=Callback(tasks.on_success, timeout=5))
    bad = queue.enqueue(tasks.fail, on_failure=Callback(tasks.on_failure))
    work(queue, kind=Worker)
    told = {line.decode() for line in connection.lrange("told", 0, -1)}
    assert told == {f"{good.id} succeeded: 2", f"{bad.id} failed: ValueError: no data"}
    connection.delete("told")


def registries():
    """Registries: finished, failed, canceled, started; ids, requeue, remove, cleanup"""
    queue = Queue("registries", connection=connection)
    good, bad, other = (
        queue.enqueue(tasks.count_words, "a"), queue.enqueue(tasks.fail), queue.enqueue(tasks.fail),
    )  # fmt: skip
    gone = queue.enqueue(tasks.count_words, "b")
    gone.cancel()
    work(queue)
    failed = FailedJobRegistry(queue=queue)
    assert FinishedJobRegistry("registries", connection=connection).get_job_ids() == [good.id]
    assert set(failed.get_job_ids()) == {bad.id, other.id}
    assert CanceledJobRegistry(queue=queue).get_job_ids() == [gone.id]
    assert StartedJobRegistry(queue=queue).count == 0
    assert (bad in failed, good.id in failed, failed.count) == (True, False, 2)
    failed.requeue(bad)
    assert (bad.get_status(), failed.count) == (JobStatus.QUEUED, 1)
    failed.remove(other, delete_job=True)
    assert not Job.exists(other.id, connection=connection)
    try:
        queue.finished_job_registry.requeue(good)
    except InvalidJobOperation:
        pass
    failed.cleanup()
    queue.empty()


def exceptions():
    """Exception handlers of a worker"""
    os.environ["HANDLED"] = path("handled")
    queue = Queue("exceptions", connection=connection)
    job = queue.enqueue(tasks.fail)
    work(queue, kind=Worker, exception_handlers=[tasks.handle_error])
    assert Path(path("handled")).read_text() == f"{job.id}: ValueError\n"


def testing():
    """Tests: is_async=False and SimpleWorker"""
    queue = Queue("testing", connection=connection, is_async=False)
    assert queue.enqueue(tasks.count_words, "a b").return_value() == 2
    assert queue.enqueue(tasks.fail).is_failed
    queue = Queue("testing", connection=connection)
    counted = [queue.enqueue(tasks.count_words, "a b c") for _ in range(3)]
    SimpleWorker([queue], connection=connection).work(burst=True, max_jobs=2)
    assert [job.is_finished for job in counted] == [True, True, False]
    Worker([queue], connection=connection).work(burst=True, max_jobs=1, logging_level="WARNING")
    assert counted[2].return_value() == 3


def serializers():
    """Serializers: JSON instead of pickle"""
    queue = Queue("json", connection=connection, serializer=JSONSerializer)
    job = queue.enqueue(tasks.count_words, "a b")
    work(queue, serializer=JSONSerializer)
    assert Job.fetch(job.id, connection=connection, serializer=JSONSerializer).return_value() == 2


def groups():
    """Groups: create, enqueue_many, fetch, get_jobs, all"""
    queue = Queue("groups", connection=connection)
    group = Group.create(connection=connection)
    datas = [Queue.prepare_data(tasks.count_words, [text]) for text in ("a", "a b")]
    enqueued = group.enqueue_many(queue=queue, job_datas=datas)
    assert {job.id for job in group.get_jobs()} == {job.id for job in enqueued}
    fetched = Group.fetch(name=group.name, connection=connection)
    assert len(fetched.get_jobs()) == 2
    assert group.name in [one.name for one in Group.all(connection=connection)]
    work(queue)
    assert sorted(job.return_value() for job in group.get_jobs()) == [1, 2]


def cron():
    """Cron: entries with an interval and with a cron string"""
    scheduler = CronScheduler(connection=connection)
    scheduler.register(tasks.count_words, "cron", args=("a",), interval=3600, job_timeout=30)
    scheduler.register(func=tasks.fail, queue_name="cron", cron="0 9 * * 1-5", name="mornings")
    entries = {entry.func_name: entry for entry in scheduler.get_jobs()}
    assert entries.keys() == {"tasks.count_words", "tasks.fail"}
    assert (entries["tasks.count_words"].interval, entries["tasks.count_words"].cron) == (
        3600,
        None,
    )
    assert (entries["tasks.fail"].cron, entries["tasks.fail"].queue_name) == ("0 9 * * 1-5", "cron")


def strategies():
    """Which queue comes next: in order of precedence, in turns"""
    high, low = (
        Queue("turns-high", connection=connection),
        Queue("turns-low", connection=connection),
    )
    for strategy, order in (
        (DequeueStrategy.DEFAULT, "high high low low"),
        (DequeueStrategy.ROUND_ROBIN, "high low high low"),
    ):
        name = path(f"turns-{strategy.value}")
        for queue, word in ((low, "low"), (low, "low"), (high, "high"), (high, "high")):
            queue.enqueue(tasks.note, name, word)
        Worker([high, low], connection=connection).work(burst=True, dequeue_strategy=strategy)
        assert Path(name).read_text().split() == order.split()


def limits():
    """Limits: how many jobs of a key run at a time, one job of an id"""
    queue = Queue("limits", connection=connection)
    limit = RateLimit(key="printer", concurrency=1)
    limited = [queue.enqueue(tasks.count_words, "a", rate_limit=limit) for _ in range(3)]
    work_until(lambda: all(job.is_finished for job in limited), queue)
    queue.enqueue(tasks.count_words, "a", job_id="only", unique=True)
    try:
        queue.enqueue(tasks.count_words, "b", job_id="only", unique=True)
    except DuplicateJobError:
        pass
    else:
        raise AssertionError("there is one already")
    queue.empty()


def webhooks():
    """Webhooks: told of a success and of a failure"""
    told = []

    class Endpoint(BaseHTTPRequestHandler):
        def do_POST(self):
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        queue = Queue("webhooks", connection=connection)
        good = queue.enqueue(
            tasks.count_words,
            "a b",
            webhooks=[Webhook(url, job_status=JobStatus.FINISHED, method="POST")],
        )
        bad = queue.enqueue(
            tasks.fail, webhooks=[Webhook(url, job_status=JobStatus.FAILED, method="POST")]
        )
        work(queue)
        until(lambda: len(told) == 2)
        server.shutdown()
    assert {one["job_id"]: one["status"] for one in told} == {
        good.id: "finished", bad.id: "failed",
    }  # fmt: skip


def suspension():
    """Suspension: suspend, is_suspended, resume"""
    suspend(connection, ttl=60)
    assert is_suspended(connection)
    resume(connection)
    assert not is_suspended(connection)


def control():
    """Workers and control: all, count, states, a running job stopped, on_stopped, a shutdown"""
    assert Worker.count(connection=connection) == 0
    assert Worker.all(connection=connection) == []
    queue = Queue("control", connection=connection)
    job = queue.enqueue(tasks.run_long, 60, on_stopped=Callback(tasks.on_stopped))
    after = queue.enqueue(tasks.run_long, 60)
    with open(path("worker.log"), "w") as log:
        started = subprocess.Popen([sys.executable, "run_worker.py"], stdout=log, stderr=log)
    try:
        until(lambda: job.is_started)
        assert Worker.count(queue=queue) == 1
        (worker,) = Worker.all(queue=queue)
        assert (worker.state, worker.get_current_job_id()) == ("busy", job.id)
        assert worker.queue_names() == ["control"]
        send_stop_job_command(connection, job.id)
        until(lambda: job.is_stopped)
        assert job.id in queue.failed_job_registry
        until(lambda: connection.lrange("told", 0, -1) == [f"{job.id} stopped".encode()])
        until(lambda: after.is_started)
        send_stop_job_command(connection, after.id)
        until(lambda: after.is_stopped)
        send_shutdown_command(connection, worker.name)
        assert started.wait(30) == 0
    finally:
        started.kill()


def habits():
    """As applications write it: older paths, the queue's and the job's own connection"""
    low, high = Queue("low", connection=connection), Queue("high", connection=connection)
    assert sorted([low, high]) == [high, low]
    assert low.connection.ping()
    retry = job_module.Retry(max=1)
    job = high.enqueue(
        tasks.count_up, "seen", retry=retry, on_success=job_module.Callback(tasks.noop)
    )
    later = low.enqueue_in(time_delta=timedelta(hours=1), func=tasks.count_up, key="seen")
    cancel_job(later.id, connection=connection, serializer=low.serializer)
    work(high, kind=Worker)
    assert job.return_value() == 1
    assert connection.get("seen") == b"1"
    assert later.is_canceled
    assert WorkerStatus.BUSY == "busy"
    try:
        requeue_job("nobody", connection=connection, serializer=None)
    except job_module.NoSuchJobError:
        pass
    else:
        raise AssertionError("requeued")


if __name__ == "__main__":
    wanted = sys.argv[1:]
    sections = [
        queues, jobs, callables, many, decorated, retries, schedules, dependencies, callbacks,
        registries, exceptions, testing, serializers, groups, cron, strategies, limits, webhooks,
        suspension, control, habits,
    ]  # fmt: skip
    print(rq.__name__)
    for section in sections:
        if not wanted or section.__name__ in wanted:
            section()
            print(section.__doc__, flush=True)
