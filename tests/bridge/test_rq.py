"""The bridge from RQ: unmodified rq 3.0.0 enqueues, rqd runs, and rq sees status and result."""

from __future__ import annotations

import json
import pickletools
import random
import signal
import subprocess
import sys
import zlib
from base64 import b64decode
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from rqd import Queue
from rqd.bridge.bridge import Bridge
from rqd.bridge.rq import RefusedJobError, name_of_call
from rqd.client.connection import Backend
from rqd.client.job import Job
from rqd.exceptions import ServerUnavailableError
from tests import jobs
from tests.bridge.conftest import Events
from tests.bridge.old_jobs import Counter, divide, multiply
from tests.daemons import ROOT, StartDaemon
from tests.lacking import needs_rq
from tests.servers import RedisServer
from tests.waiting import eventually

rq = needs_rq()
Settle = Callable[..., None]
OPEN = "{rqd}:bridge:rq"


def test_rq_sees_the_result_of_a_job_that_rqd_ran(
    rq_queue: Any, settle: Settle, start_daemon: StartDaemon, redis_client: redis.Redis
) -> None:
    start_daemon()
    job = rq_queue.enqueue(multiply, 6, y=7, result_ttl=100)

    settle(job, "finished")

    assert job.return_value() == 42
    assert job.latest_result().type.name == "SUCCESSFUL"
    assert job.latest_result(timeout=1).return_value == 42
    job.refresh()
    assert job.started_at <= job.ended_at
    assert job.worker_name == "rqd-bridge"
    assert rq_queue.finished_job_registry.get_job_ids() == [job.id]
    assert rq_queue.started_job_registry.get_job_ids() == []
    assert 0 < redis_client.ttl(job.key) <= 100
    assert 0 < redis_client.ttl(f"rq:results:{job.id}") <= 100
    assert not redis_client.exists(OPEN)


def test_each_kind_of_server_will_do(
    every_server: RedisServer, events: Events, start_daemon: StartDaemon
) -> None:
    start_daemon(url=every_server.url)
    bridge = Bridge(Backend(None, every_server.url), ["default"], events)
    queue = rq.Queue(connection=redis.Redis.from_url(every_server.url))
    good, bad = queue.enqueue(multiply, 6, 7), queue.enqueue(divide, 1, 0)

    eventually(lambda: (bridge.turn(), not bridge.has_work())[1], 15)

    assert good.return_value() == 42
    assert bad.get_status().value == "failed"


@pytest.mark.parametrize("ttl", [-1, 0])
def test_a_result_stays_for_ever_or_leaves_nothing(
    rq_queue: Any, bridge: Bridge, start_daemon: StartDaemon, redis_client: redis.Redis, ttl: int
) -> None:
    start_daemon()
    job = rq_queue.enqueue(multiply, 6, 7, result_ttl=ttl)

    eventually(lambda: (bridge.turn(), not bridge.has_work())[1], 15)

    if ttl == 0:
        assert not redis_client.exists(job.key, f"rq:results:{job.id}")
        assert len(rq_queue.finished_job_registry) == 0
    else:
        assert redis_client.ttl(job.key) == redis_client.ttl(f"rq:results:{job.id}") == -1
        assert redis_client.zscore("rq:finished:default", job.id) == float("inf")


def test_a_failure_has_its_traceback_and_is_in_rqs_failed_registry(
    rq_queue: Any, settle: Settle, start_daemon: StartDaemon, redis_client: redis.Redis
) -> None:
    start_daemon()
    job = rq_queue.enqueue(divide, 1, 0, failure_ttl=1000)

    settle(job, "failed")

    result = job.latest_result()
    assert result.type.name == "FAILED"
    assert "ZeroDivisionError: division by zero" in result.exc_string
    assert "old_jobs.py" in result.exc_string
    assert job.return_value() is None
    assert rq_queue.failed_job_registry.get_job_ids() == [job.id]
    assert 0 < redis_client.ttl(job.key) <= 1000


def test_a_crash_has_its_cause_where_rq_has_the_traceback(
    rq_queue: Any, settle: Settle, start_daemon: StartDaemon
) -> None:
    start_daemon()
    job = rq_queue.enqueue("tests.bridge.old_jobs.crash")

    settle(job, "failed")

    assert job.latest_result().exc_string.startswith("crashed: SIGSEGV")


def test_rq_requeues_what_has_failed_and_it_runs_again(
    rq_queue: Any, settle: Settle, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    start_daemon()
    job = rq_queue.enqueue("tests.bridge.old_jobs.fail_once", str(tmp_path / "ran"))
    settle(job, "failed")

    rq_queue.failed_job_registry.requeue(job.id)
    settle(job, "finished")

    assert job.return_value(refresh=True) == "the second time"
    assert rq_queue.finished_job_registry.get_job_ids() == [job.id]


def test_rq_sees_a_running_job_as_started(
    rq_queue: Any, settle: Settle, start_daemon: StartDaemon, fifo: str
) -> None:
    start_daemon()
    job = rq_queue.enqueue("tests.jobs.hold", fifo)

    settle(job, "started")

    assert rq_queue.started_job_registry.get_job_ids() == [job.id]
    rq_queue.started_job_registry.cleanup()  # as RQ's workers do: it must not take it for dead
    assert job.get_status().value == "started"
    open(fifo, "w").close()
    settle(job, "finished")
    assert rq_queue.started_job_registry.get_job_ids() == []


def test_rqd_shows_rqs_function_description_and_options(
    rq_queue: Any, bridge: Bridge, there: Backend
) -> None:
    job = rq_queue.enqueue(
        multiply, 2, 3, job_timeout=77, result_ttl=-1, failure_ttl=50, meta={"who": "me"}
    )
    method = rq_queue.enqueue(Counter(5).add, 1)
    bridge.turn()
    bridge.turn()

    mine = Job.fetch(job.id, there)
    assert mine.func_name == "tests.bridge.old_jobs.multiply"
    assert mine.description == job.description == "tests.bridge.old_jobs.multiply(2, 3)"
    assert (mine.timeout, mine.result_ttl) == (77, -1)
    assert mine.meta == {"who": "me"}
    assert mine.origin == "default"
    assert Job.fetch(method.id, there).func_name == "tests.bridge.old_jobs.Counter.add"


def test_methods_and_what_they_save_in_meta_come_back(
    rq_queue: Any, settle: Settle, start_daemon: StartDaemon
) -> None:
    start_daemon()
    job = rq_queue.enqueue(Counter(5).add, 37)
    noted = rq_queue.enqueue("tests.bridge.old_jobs.note_meta", meta={"a": 1})

    settle(job, "finished")
    settle(noted, "finished")

    assert job.return_value() == 42
    assert noted.get_meta() == {"a": 1, "b": 2}


def test_rqs_json_jobs_run_and_answer_in_json(
    redis_client: redis.Redis, settle: Settle, start_daemon: StartDaemon
) -> None:
    start_daemon()
    queue = rq.Queue(connection=redis_client, serializer="json")
    job = queue.enqueue(multiply, 6, 7)

    settle(job, "finished")

    assert job.return_value() == 42
    entry: Any = redis_client.xrevrange(f"rq:results:{job.id}")
    assert entry[0][1][b"return_value"] == b"NDI="  # 42 in JSON


def test_retries_wait_as_rq_has_them_and_count_down(
    rq_queue: Any, bridge: Bridge, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    start_daemon()
    history = tmp_path / "ran"
    job = rq_queue.enqueue(
        "tests.bridge.old_jobs.always_fail", str(history), retry=rq.Retry(max=2, interval=[1, 3600])
    )

    def waits_for_the_last() -> bool:
        bridge.turn()
        job.refresh()
        return bool(job.retries_left == 0 and job.get_status().value == "scheduled")

    # The second pause is an hour, so that the job stands still there.
    eventually(waits_for_the_last, 20)
    assert len(history.read_text()) == 2
    assert len(rq_queue.failed_job_registry) == 0


@pytest.mark.parametrize("interval", [0, 7, [10], [10, 20], [1, 2, 3], [1, 2, 3, 4, 5]])
def test_the_pauses_before_retries_are_those_of_rq(
    rq_queue: Any, bridge: Bridge, there: Backend, interval: Any
) -> None:
    job = rq_queue.enqueue(multiply, 1, 1, retry=rq.Retry(max=3, interval=interval))
    while bridge.turn():
        pass

    expected = []
    for left in (3, 2, 1):
        job.retries_left = left
        expected.append(job.get_retry_interval())
    record = there.views.job(job.id)
    assert record is not None
    assert record.retries_left == 3
    assert list(record.retry_intervals or (0, 0, 0)) == expected


def test_a_job_at_the_front_goes_before_what_waits_in_rq(
    rq_queue: Any, bridge: Bridge, there: Backend
) -> None:
    first = rq_queue.enqueue(multiply, 1, 1, job_timeout=-1)
    urgent = rq_queue.enqueue(multiply, 1, 1, at_front=True)
    while bridge.turn():
        pass

    assert there.views.ready_ids("default") == [urgent.id, first.id]
    record = there.views.job(first.id)
    assert record is not None
    assert record.timeout_s == -1


def test_the_last_failure_of_retries_is_a_failure(
    rq_queue: Any, settle: Settle, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    start_daemon()
    history = tmp_path / "ran"
    job = rq_queue.enqueue("tests.bridge.old_jobs.always_fail", str(history), retry=rq.Retry(max=2))

    settle(job, "failed")

    assert len(history.read_text()) == 3
    assert [one.type.name for one in job.results()] == ["FAILED"]


def test_a_job_that_returns_rqs_retry_is_no_success(
    rq_queue: Any, settle: Settle, start_daemon: StartDaemon
) -> None:
    start_daemon()
    job = rq_queue.enqueue("tests.bridge.old_jobs.ask_rq_for_a_retry")

    settle(job, "failed")

    assert "rqd.Retry" in job.latest_result().exc_string


def test_callbacks_of_rqs_signature_run(
    rq_queue: Any, settle: Settle, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    start_daemon(env={"RQD_TEST_HISTORY": str(tmp_path / "history")})
    good = rq_queue.enqueue(
        multiply, 2, 4, on_success=rq.Callback("tests.callbacks.on_success", timeout=20)
    )
    bad = rq_queue.enqueue(divide, 1, 0, on_failure=rq.Callback("tests.callbacks.on_failure"))

    settle(good, "finished")
    settle(bad, "failed")

    def noted() -> bool:
        text = (tmp_path / "history").read_text() if (tmp_path / "history").exists() else ""
        return f"success {good.id} finished 8" in text and f"failure {bad.id} failed" in text

    eventually(noted, 15, "both callbacks")


def test_a_job_that_rq_cancels_before_it_is_taken_never_comes(
    rq_queue: Any, bridge: Bridge, there: Backend
) -> None:
    job = rq_queue.enqueue(multiply, 1, 1)
    job.cancel()

    assert bridge.turn() == 0
    assert there.views.job(job.id) is None


def test_a_waiting_job_that_rq_cancels_or_deletes_is_canceled_in_rqd(
    rq_queue: Any, bridge: Bridge, there: Backend, redis_client: redis.Redis
) -> None:
    canceled, deleted = rq_queue.enqueue(multiply, 1, 1), rq_queue.enqueue(multiply, 1, 1)
    while bridge.turn():
        pass
    canceled.cancel()
    deleted.delete()
    while bridge.turn():
        pass

    for job in (canceled, deleted):
        record = there.views.job(job.id)
        assert record is not None
        assert record.status == "canceled"
    assert canceled.get_status().value == "canceled"
    assert rq_queue.canceled_job_registry.get_job_ids() == [canceled.id]
    assert not redis_client.exists(deleted.key, OPEN)


def test_a_job_whose_ttl_is_over_leaves_nothing_in_rq(
    rq_queue: Any, bridge: Bridge, redis_client: redis.Redis
) -> None:
    job = rq_queue.enqueue(multiply, 1, 1, ttl=1)
    while bridge.turn():
        pass
    assert redis_client.ttl(job.key) == -1  # it lives as long as rqd's

    eventually(lambda: (bridge.turn(), not redis_client.exists(job.key))[1], 10)

    assert not redis_client.exists(OPEN)


def test_rqs_own_command_stops_a_running_job(
    rq_queue: Any,
    settle: Settle,
    start_daemon: StartDaemon,
    redis_client: redis.Redis,
    bridge: Bridge,
    fifo: str,
) -> None:
    start_daemon()
    job = rq_queue.enqueue("tests.jobs.hold", fifo)
    settle(job, "started")
    for text in ("", "[]", "{", "[" * 100_000, '{"command": "stop-job", "job_id": 1}'):
        redis_client.publish("rq:pubsub:rqd-bridge", text)

    rq.command.send_stop_job_command(redis_client, job.id)
    settle(job, "stopped")

    assert rq_queue.failed_job_registry.get_job_ids() == [job.id]


def test_rqs_command_stops_no_other_job_of_rqd(
    bridge: Bridge,
    there: Backend,
    start_daemon: StartDaemon,
    redis_client: redis.Redis,
    fifo: str,
) -> None:
    start_daemon()
    bridge.turn()
    job = Queue(connection=there).enqueue("tests.jobs.hold", fifo)
    eventually(lambda: job.get_status() == "started", 15)
    order = json.dumps({"command": "stop-job", "job_id": job.id})
    redis_client.publish("rq:pubsub:rqd-bridge", order)
    bridge.turn()
    bridge.turn()
    open(fifo, "w").close()

    result = job.latest_result(timeout=10)
    assert result is not None
    assert result.type == "successful"


def test_a_job_stopped_in_rqd_is_stopped_in_rq(
    rq_queue: Any, settle: Settle, start_daemon: StartDaemon, there: Backend, fifo: str
) -> None:
    start_daemon()
    job = rq_queue.enqueue("tests.jobs.hold", fifo)
    settle(job, "started")

    Job.fetch(job.id, there).stop()
    settle(job, "stopped")

    assert job.is_stopped
    assert rq_queue.failed_job_registry.get_job_ids() == [job.id]
    assert job.latest_result().type.name == "FAILED"


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"repeat": rq.Repeat(times=2)}, "repeats itself"),
        ({"rate_limit": rq.RateLimit("crm", concurrency=1)}, "has a rate limit"),
        ({"webhooks": [rq.Webhook("http://x.example", "finished")]}, "has webhooks"),
        ({"on_success": rq.Callback("no_module")}, "no_module"),
        ({"retry": rq.Retry(max=1001)}, "1,000 at most"),
    ],
)
def test_unserved_jobs_are_refused_by_name_in_rqs_failed_registry(
    rq_queue: Any, bridge: Bridge, events: Events, options: dict[str, Any], why: str
) -> None:
    job = rq_queue.enqueue(multiply, 1, 1, **options)
    while bridge.turn():
        pass

    assert job.get_status().value == "failed"
    assert rq_queue.failed_job_registry.get_job_ids() == [job.id]
    assert job.latest_result().exc_string.startswith("refused by rqd: ")
    assert why in job.latest_result().exc_string
    assert bridge.counts.refused == 1
    warned = [fields["job_id"] for level, _, fields in events.events if level == "warning"]
    assert warned == [job.id]


def test_a_parent_is_refused_and_its_dependent_stays_deferred(
    rq_queue: Any, bridge: Bridge
) -> None:
    parent = rq_queue.enqueue(multiply, 1, 1)
    child = rq_queue.enqueue(multiply, 1, 1, depends_on=parent)
    while bridge.turn():
        pass

    assert parent.get_status().value == "failed"
    assert "depend on it" in parent.latest_result().exc_string
    assert child.get_status().value == "deferred"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"no pickle", "serializer is neither"),
        (zlib.compress(b"\x80\x05N."), "is no call that RQ"),
        (zlib.compress(b"\x80\x05" + b"(" * 60), "is no call that RQ"),
        (zlib.compress(b"[1,2]"), "no call in JSON"),
        (zlib.compress(b"[" * 100_000), "no call in JSON"),
        (zlib.compress(b'["", null, [], {}]'), "is no call that RQ"),
        (zlib.compress(b"\x80" * (65 * 1024 * 1024)), "store the data"),
    ],
)
def test_damaged_data_is_refused_and_its_neighbours_go_on(
    rq_queue: Any, bridge: Bridge, redis_client: redis.Redis, there: Backend, data: bytes, why: str
) -> None:
    bad, good = rq_queue.enqueue(multiply, 1, 1), rq_queue.enqueue(multiply, 1, 1)
    redis_client.hset(bad.key, "data", data)
    while bridge.turn():
        pass

    entry: Any = redis_client.xrevrange(f"rq:results:{bad.id}")
    assert why in zlib.decompress(b64decode(entry[0][1][b"exc_string"])).decode()
    assert there.views.job(good.id) is not None


@pytest.mark.parametrize("name", ["timeout", "result_ttl", "failure_ttl", "retries_left"])
def test_numbers_that_are_none_are_refused(
    rq_queue: Any, bridge: Bridge, redis_client: redis.Redis, name: str
) -> None:
    job = rq_queue.enqueue(multiply, 1, 1)
    redis_client.hset(job.key, name, "9" * 5000)
    while bridge.turn():
        pass

    assert redis_client.hget(job.key, "status") == b"failed"


def test_an_id_of_a_live_job_of_rqd_is_refused_and_that_job_stays(
    rq_queue: Any, bridge: Bridge, there: Backend
) -> None:
    Queue(connection=there).enqueue(jobs.multiply, 6, 7, job_id="mine")
    job = rq_queue.enqueue(multiply, 1, 1, job_id="mine")
    while bridge.turn():
        pass

    assert "from elsewhere" in job.latest_result().exc_string
    record = there.views.job("mine")
    assert record is not None
    assert (record.status, record.func_name) == ("queued", "tests.jobs.multiply")


def test_a_job_whose_record_rqd_lost_fails_in_rq(
    rq_queue: Any, bridge: Bridge, there: Backend
) -> None:
    job = rq_queue.enqueue(multiply, 1, 1)
    while bridge.turn():
        pass
    there.store.delete(job.id)
    while bridge.turn():
        pass

    assert job.get_status().value == "failed"
    assert "its record in rqd is gone" in job.latest_result().exc_string


@pytest.mark.parametrize("ttl", [-1, 0, 500])
def test_a_job_enqueued_again_while_open_runs_again_after_its_end(
    rq_queue: Any, start_daemon: StartDaemon, bridge: Bridge, tmp_path: Path, ttl: int
) -> None:
    history = tmp_path / "ran"
    job = rq_queue.enqueue("tests.bridge.old_jobs.append", str(history), result_ttl=ttl)
    while bridge.turn():
        pass
    rq_queue.enqueue_job(job)
    bridge.turn()
    start_daemon()

    eventually(lambda: (bridge.turn(), not bridge.has_work())[1], 15)

    assert history.read_text() == "xx"
    assert rq_queue.connection.exists(job.key) == (ttl != 0)


def test_no_more_than_200_jobs_of_a_queue_wait_in_rqd(
    rq_queue: Any, bridge: Bridge, there: Backend
) -> None:
    rq_queue.enqueue_many([rq.Queue.prepare_data(multiply, [1, 1]) for _ in range(405)])
    while bridge.turn():
        pass

    assert len(rq_queue) == 205
    assert there.views.queued_count("default") == 200
    low = rq.Queue("low", connection=rq_queue.connection).enqueue(multiply, 1, 1)
    while bridge.turn():
        pass
    assert there.views.job(low.id) is not None  # a full queue keeps out no other


def test_queues_are_taken_in_order_and_others_left(
    redis_client: redis.Redis, bridge: Bridge, there: Backend
) -> None:
    low = rq.Queue("low", connection=redis_client).enqueue(multiply, 1, 1)
    other = rq.Queue("other", connection=redis_client).enqueue(multiply, 1, 1)
    while bridge.turn():
        pass

    record = there.views.job(low.id)
    assert record is not None
    assert record.origin == "low"
    assert there.views.job(other.id) is None


def test_foreign_keys_and_damaged_entries_stop_no_bridge(
    rq_queue: Any, bridge: Bridge, redis_client: redis.Redis, there: Backend
) -> None:
    redis_client.set("rq:queue:low", "no list")
    redis_client.rpush("rq:queue:default", b"\xff", "gone", "a:b")
    for number, text in enumerate(["", "{", "[]", "1", json.dumps({"request": 1})]):
        redis_client.hset(OPEN, f"bad{number}", text)
    job = rq_queue.enqueue(multiply, 1, 1)
    while bridge.turn():
        pass

    assert there.views.job(job.id) is not None
    there.store.cancel(job.id)
    while bridge.turn():
        pass
    assert not bridge.has_work()


@pytest.mark.parametrize(
    "key", ["rq:job:{id}", "rq:results:{id}", "rq:wip:default", "rq:finished:default"]
)
def test_a_foreign_key_in_the_place_of_rqs_stops_no_other_job(
    rq_queue: Any,
    bridge: Bridge,
    start_daemon: StartDaemon,
    redis_client: redis.Redis,
    key: str,
) -> None:
    start_daemon()
    job, after = rq_queue.enqueue(multiply, 1, 1), rq_queue.enqueue(multiply, 6, 7)
    redis_client.delete(key.format(id=job.id))
    redis_client.set(key.format(id=job.id), "foreign")

    eventually(lambda: (bridge.turn(), not bridge.has_work())[1], 15)

    assert after.return_value() == 42
    assert redis_client.get(key.format(id=job.id)) == b"foreign"
    assert not redis_client.exists(OPEN)


def test_a_server_without_memory_loses_nothing(
    own_server: RedisServer, events: Events, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    client: Any = redis.Redis.from_url(own_server.url)
    bridge = Bridge(Backend(None, own_server.url), ["default"], events)
    history = tmp_path / "ran"
    job = rq.Queue(connection=client).enqueue("tests.bridge.old_jobs.append", str(history))

    def full(is_full: bool) -> None:
        client.config_set("maxmemory", 1 if is_full else 0)

    full(True)
    with pytest.raises(ServerUnavailableError):
        bridge.turn()
    assert client.lrange("rq:queue:default", 0, -1) == [job.id.encode()]
    full(False)
    bridge.turn()
    full(True)
    with pytest.raises(ServerUnavailableError):
        bridge.turn()
    full(False)
    bridge.turn()
    start_daemon(url=own_server.url)
    eventually(lambda: client.hget(f"{{rqd}}:job:{job.id}", "status") == b"finished", 15)
    full(True)
    with pytest.raises(ServerUnavailableError):
        bridge.turn()
    full(False)
    eventually(lambda: (bridge.turn(), not bridge.has_work())[1], 15)

    assert job.get_status().value == "finished"
    assert history.read_text() == "x"
    assert len(job.results()) == 1


def test_two_bridges_beside_each_other_lose_and_double_nothing(
    rq_queue: Any, there: Backend, start_daemon: StartDaemon, events: Events, tmp_path: Path
) -> None:
    first, second = (Bridge(there, ["default"], events) for _ in range(2))
    history = tmp_path / "ran"
    several = [rq_queue.enqueue("tests.bridge.old_jobs.append", str(history)) for _ in range(30)]
    start_daemon(workers=2)

    eventually(lambda: (first.turn(), second.turn(), not first.has_work())[2], 20)

    assert history.read_text() == "x" * 30
    assert {job.get_status().value for job in several} == {"finished"}
    assert first.counts.ended + second.counts.ended == 30


def test_an_rq_worker_beside_the_bridge_shares_the_queue(
    rq_queue: Any, bridge: Bridge, start_daemon: StartDaemon, redis_url: str, tmp_path: Path
) -> None:
    start_daemon()
    history = tmp_path / "ran"
    several = [rq_queue.enqueue("tests.bridge.old_jobs.append", str(history)) for _ in range(20)]
    command = [sys.executable, "-m", "rq.cli", "worker", "--burst", "-u", redis_url, "default"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as worker:
        try:
            eventually(lambda: rq_queue.finished_job_registry.count, 20)  # RQ has run one
            eventually(lambda: (bridge.turn(), not bridge.has_work())[1], 20)
            # RQ may still run its last one.
            eventually(lambda: rq_queue.finished_job_registry.count == 20, 20)
        finally:
            worker.kill()

    assert history.read_text() == "x" * 20
    assert {job.get_status().value for job in several} == {"finished"}


def test_large_arguments_and_results_pass_whole(
    rq_queue: Any, settle: Settle, start_daemon: StartDaemon
) -> None:
    start_daemon()
    noise = random.Random(1).randbytes(300_000)  # zlib makes nothing of it
    job = rq_queue.enqueue("tests.bridge.old_jobs.echo", noise)

    settle(job, "finished")

    assert job.return_value() == noise


def test_a_job_that_rqd_puts_back_is_queued_again_in_rq(
    rq_queue: Any, settle: Settle, start_daemon: StartDaemon, fifo: str
) -> None:
    daemon = start_daemon("--grace", "0")
    job = rq_queue.enqueue("tests.jobs.hold", fifo)
    settle(job, "started")

    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0
    settle(job, "queued")

    assert rq_queue.started_job_registry.get_job_ids() == []
    start_daemon()
    settle(job, "started")
    open(fifo, "w").close()
    settle(job, "finished")


def test_made_up_data_is_refused_by_no_other_error() -> None:
    drawn = random.Random(7)
    opcodes = [code.code.encode("latin-1") for code in pickletools.opcodes]
    for _ in range(5000):
        parts = [drawn.choice([*opcodes, drawn.randbytes(drawn.randrange(6))]) for _ in range(12)]
        with suppress(RefusedJobError):
            name_of_call(b"\x80\x05" + b"".join(parts), "pickle")
        with suppress(RefusedJobError):
            name_of_call(b"[" + b"".join(parts), "json")


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (multiply, "tests.bridge.old_jobs.multiply"),
        (Counter(1).add, "tests.bridge.old_jobs.Counter.add"),
        (Counter.of, "tests.bridge.old_jobs.Counter.of"),
    ],
)
def test_the_name_of_a_call_is_read_without_unpickling(function: Any, expected: str) -> None:
    payload = rq.job.Job.create(
        function, args=("x" * 300, Counter(2)), connection=redis.Redis()
    ).data

    assert name_of_call(payload, "pickle") == expected
