"""Who works now: `Worker.all` and `Worker.count`."""

from typing import Any

from rqd import Queue, Worker
from rqd.client.connection import Backend
from rqd.job import Job
from rqd.store.messages import Beat, Turn
from rqd.worker import WorkerStatus
from tests.client import work
from tests.client.performing import settle

LEASE_US = 15_000_000


def register(backend: Backend, master: str, queues: str, workers: int) -> None:
    row: dict[str, Any] = {"host": "h", "pid": 7, "workers": workers, "queues": queues}
    backend.store.hello(master, "boot", 15, row)
    rows: dict[int, dict[str, Any]] = {
        n: {"state": "idle", "pid": n, "worked_s": "1.500"} for n in range(1, workers + 1)
    }
    backend.store.beat(Beat(master, "boot", LEASE_US, 15, "", (), row, rows))


def test_live_workers_are_listed_with_state_job_and_counters(backend: Backend) -> None:
    assert (Worker.all(), Worker.count()) == ([], 0)
    register(backend, "m", "high,low", 2)
    register(backend, "n", "other", 1)
    queue = Queue("low")
    done, job = queue.enqueue(work.multiply, 2), queue.enqueue(work.multiply, 3)
    request = Turn(backend.store.request_id(), "m", LEASE_US, (), (1, 2), ("low",))
    settle(backend, backend.store.turn(request).claims[0], "finish")

    idle, busy, other = Worker.all()

    assert (idle.name, idle.state, idle.get_current_job()) == ("m:1", "idle", None)
    assert (busy.name, busy.get_state(), busy.get_current_job_id()) == ("m:2", "busy", job.id)
    assert busy.get_current_job() == job
    assert (idle.successful_job_count, idle.failed_job_count) == (1, 0)
    assert idle.total_working_time == 1.5
    assert (busy.hostname, other.pid, other.queue_names()) == ("h", 1, ["other"])
    assert [worker.state == WorkerStatus.BUSY for worker in (idle, busy)] == [False, True]
    assert busy.queues == [Queue("high"), queue]
    assert busy.birth_date is not None
    assert busy.last_heartbeat is not None
    assert Worker.count(queue=queue) == Worker.count(backend, queue="high") == 2
    heard = Job.fetch(job.id).last_heartbeat
    assert heard == busy.last_heartbeat
    assert Job.fetch(done.id).last_heartbeat is None


def test_a_damaged_row_is_shown_as_far_as_it_can_be(backend: Backend) -> None:
    register(backend, "m", "low", 1)
    rows: Any = {"pid": "x", "done": "9" * 30, "worked_s": "much"}
    backend.store.redis.hset(backend.store.keys.worker("m", 1), mapping=rows)

    (worker,) = Worker.all()

    told = (worker.pid, worker.successful_job_count, worker.total_working_time)
    assert told == (0, 0, 0.0)
