"""What a daemon shows of itself in Redis, and how `rqd` tells it to stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis

from rqd import Queue
from rqd.client.connection import Backend
from tests import jobs
from tests.daemons import ROOT, StartDaemon
from tests.waiting import eventually

WAIT_S = 10.0
COMMAND_LIMIT_S = 20.0


def rqd(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rqd", *arguments],
        env={**os.environ, "RQD_URL": url},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=COMMAND_LIMIT_S,
        check=False,
    )


def info(url: str) -> dict[str, Any]:
    told = rqd(url, "info", "--json")
    assert told.returncode == 0, told.stderr
    found: dict[str, Any] = json.loads(told.stdout)
    return found


def busy_info(url: str) -> dict[str, Any]:
    """Empty until the master is busy, and a worker whose process is known."""
    found = info(url)
    shows = any(worker["state"] == "busy" and worker["pid"] for worker in found["workers"])
    return found if shows and found["masters"][0]["state"] == "busy" else {}


def test_info_shows_queues_masters_and_workers(
    start_daemon: StartDaemon, redis_url: str, queue: Queue, fifo: str
) -> None:
    daemon = start_daemon("--name", "alpha", workers=2)
    done = queue.enqueue(jobs.multiply, 1, 1)
    failed = queue.enqueue(jobs.fail, "no such luck")
    for job in (done, failed):
        assert job.latest_result(timeout=WAIT_S)
    running = queue.enqueue(jobs.hold, fifo)
    eventually(lambda: running.is_started)
    # A job that was claimed before its process was there shows it with the next heartbeat.
    found = eventually(lambda: busy_info(redis_url), 8.0)
    assert set(found) == {"queues", "masters", "workers"}
    (shown,) = found["queues"]
    counts = {name: shown[name] for name in ("ready", "started", "scheduled", "finished", "failed")}
    assert counts == {"ready": 0, "started": 1, "scheduled": 0, "finished": 1, "failed": 1}
    (master,) = found["masters"]
    assert master["name"] == "alpha"
    assert master["pid"] == daemon.pid
    assert master["queues"] == ["default"]
    assert master["version"]
    assert master["host"]
    assert master["rss_bytes"] > 1_000_000
    assert master["heartbeat"]
    assert [worker["number"] for worker in found["workers"]] == [1, 2]
    busy = next(worker for worker in found["workers"] if worker["state"] == "busy")
    assert busy["job"] == running.id
    assert busy["func_name"] == "tests.jobs.hold"
    assert busy["queue"] == "default"
    assert busy["since"]
    assert busy["pid"] == daemon.titled(f"rqd: worker {busy['number']} tests.jobs.hold").pid
    assert sum(worker.get("done", 0) for worker in found["workers"]) == 1
    assert sum(worker.get("failed", 0) for worker in found["workers"]) == 1
    errors = [worker["last_error"] for worker in found["workers"]]
    assert "raised ValueError: no such luck" in errors


def test_a_claim_shows_at_once_with_the_pid_that_runs_it(
    start_daemon: StartDaemon, redis_url: str, queue: Queue, fifo: str
) -> None:
    daemon = start_daemon()
    for _ in range(3):  # each has a process of its own
        assert queue.enqueue(jobs.multiply, 1, 1).latest_result(timeout=WAIT_S)
    daemon.titled("rqd: worker 1 idle")  # the next one waits by now
    job = queue.enqueue(jobs.hold, fifo)
    child = daemon.titled("rqd: worker 1 tests.jobs.hold")
    (worker,) = info(redis_url)["workers"]
    assert (worker["state"], worker["job"], worker["pid"]) == ("busy", job.id, child.pid)


def test_a_job_claimed_before_its_process_was_forked_soon_shows_the_pid(
    start_daemon: StartDaemon, there: Backend, queue: Queue, fifo: str
) -> None:
    daemon = start_daemon()
    # With a backlog, a turn settles one job and claims the next while its process is still forked.
    for _ in range(5):
        queue.enqueue(jobs.multiply, 1, 1)
    job = queue.enqueue(jobs.hold, fifo)
    child = daemon.titled("rqd: worker 1 tests.jobs.hold")

    def shown() -> tuple[str, str]:
        (worker,) = there.views.workers(there.views.masters())
        return worker["job"], worker["pid"]

    # Before the next heartbeat, which is five seconds away.
    expected = job.id, str(child.pid)
    eventually(lambda: shown() == expected, 4.0, lambda: str((shown(), expected)))


def test_a_ready_daemon_shows_idle_workers_at_once(
    start_daemon: StartDaemon, redis_url: str
) -> None:
    start_daemon(workers=2)
    eventually(
        lambda: [worker["state"] for worker in info(redis_url)["workers"]] == ["idle", "idle"], 2.0
    )
    assert info(redis_url)["masters"][0]["state"] == "idle"


def test_a_dead_masters_rows_vanish_by_themselves(
    start_daemon: StartDaemon, redis_client: redis.Redis
) -> None:
    daemon = start_daemon("--name", "mortal", workers=2)
    keys = ["{rqd}:master:mortal", "{rqd}:worker:mortal:1", "{rqd}:worker:mortal:2"]
    eventually(lambda: redis_client.exists(*keys) == 3)
    daemon.signal(signal.SIGKILL)
    daemon.wait()
    assert all(0 < redis_client.pttl(key) <= 15_000 for key in keys)


def test_a_master_that_stops_takes_its_rows_with_it(
    start_daemon: StartDaemon, redis_url: str, redis_client: redis.Redis
) -> None:
    daemon = start_daemon(workers=2)
    assert daemon.stop() == 0
    assert info(redis_url) == {"queues": [], "masters": [], "workers": []}
    left: Any = [key for key in redis_client.scan_iter() if redis_client.ttl(key) == -1]
    assert left in ([], [b"{rqd}:counters"])


def test_stop_tells_every_master_and_waits_for_them(
    start_daemon: StartDaemon, redis_url: str, queue: Queue
) -> None:
    first, second = start_daemon("--name", "one"), start_daemon("--name", "two")
    told = rqd(redis_url, "stop")
    assert told.returncode == 0, told.stderr
    assert set(told.stdout.splitlines()) >= {"one: stopped", "two: stopped"}
    assert told.stdout.count("stopping, 0 running") == 2
    assert (first.wait(), second.wait()) == (0, 0)


def test_stop_by_name_leaves_the_others_alone(start_daemon: StartDaemon, redis_url: str) -> None:
    first, second = start_daemon("--name", "one"), start_daemon("--name", "two")
    assert rqd(redis_url, "stop", "--master", "one").returncode == 0
    assert first.wait() == 0
    assert second.running
    unknown = rqd(redis_url, "stop", "--master", "three")
    assert unknown.returncode == 66
    assert "no master named 'three' is alive" in unknown.stderr


def test_stop_now_puts_the_running_job_back(
    start_daemon: StartDaemon, redis_url: str, queue: Queue, fifo: str
) -> None:
    daemon = start_daemon()
    job = queue.enqueue(jobs.hold, fifo)
    eventually(lambda: job.is_started)
    assert rqd(redis_url, "stop", "--now").returncode == 0
    assert daemon.wait() == 0
    assert job.is_queued
    assert job.attempt == 0


def test_two_masters_share_the_work_and_one_name_is_one_masters(
    start_daemon: StartDaemon, redis_url: str, queue: Queue
) -> None:
    # One zygote a master to the end, by which their jobs are told apart.
    first = start_daemon("--name", "alpha", "--no-preload-learn", workers=2)
    start_daemon("--name", "beta", "--no-preload-learn", workers=2)
    refused = start_daemon("--name", "alpha")
    assert refused.wait() == 69
    assert f"a master named 'alpha' is alive (host {os.uname().nodename}, pid {first.pid})" in (
        refused.log()
    )
    many = [queue.enqueue(jobs.process_ids) for _ in range(40)]
    parents = {job.wait(WAIT_S).return_value()["ppid"] for job in many}  # type: ignore[index]  # it is there
    assert len(parents) == 2


def test_a_gentle_client_needs_three_commands_a_job_at_most(
    start_daemon: StartDaemon, queue: Queue, redis_client: redis.Redis
) -> None:
    start_daemon()
    queue.enqueue(jobs.multiply, 1, 1).latest_result(timeout=WAIT_S)
    redis_client.config_resetstat()
    count = 50
    for _ in range(count):
        # It works for long enough that the next one is there before it is settled.
        queue.enqueue(jobs.nap, 0.02)
        eventually(queue.is_empty)
    eventually(lambda: redis_client.zcard("{rqd}:queue:default:finished") == count + 1)
    stats = redis_client.info("commandstats")
    sent = sum(
        stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("evalsha", "bzpopmin")
    )
    # One EVALSHA of these is the client's enqueue.
    assert sent / count <= 3.5


def test_a_master_that_slept_until_its_name_was_given_away_leaves(
    start_daemon: StartDaemon, queue: Queue, redis_client: redis.Redis, fifo: str, tmp_path: Path
) -> None:
    first = start_daemon("--name", "alpha")
    job = queue.enqueue(jobs.hold, fifo)
    eventually(lambda: job.is_started)
    first.signal(signal.SIGSTOP)
    redis_client.delete("{rqd}:master:alpha")  # as if it had stood still for its row's 15 s
    # On its own host the lock would keep the name for it.
    second = start_daemon("--name", "alpha", env={"XDG_STATE_HOME": str(tmp_path / "elsewhere")})
    first.signal(signal.SIGCONT)
    assert first.wait() == 75
    assert "another master has this name by now" in first.log()
    assert second.running
    assert not first.leftovers()


def test_a_daemon_tells_a_forgetful_server_its_queues_and_scripts_again(
    start_daemon: StartDaemon, queue: Queue, redis_client: redis.Redis
) -> None:
    # A zygote that has learnt the jobs' module would replace the first, which is gone then.
    daemon = start_daemon("--no-preload-learn")
    for number in range(3):
        assert queue.enqueue(jobs.multiply, number, 1).latest_result(timeout=WAIT_S)
        redis_client.script_flush()
        forgotten: Any = redis_client.keys("*precedence*")
        assert redis_client.delete(*forgotten) == 1
    assert "gone" not in daemon.log()


def test_garbage_in_redis_does_not_end_a_master(
    start_daemon: StartDaemon, queue: Queue, redis_client: redis.Redis, redis_url: str
) -> None:
    daemon = start_daemon("--name", "alpha")
    for garbage in ("no json", '"x"', "[]", '{"id": 7}', '{"do": "stop"}'):
        redis_client.rpush("{rqd}:control:alpha", garbage)
    redis_client.zadd("{rqd}:wake:master:alpha", {"command": 0})
    assert queue.enqueue(jobs.multiply, 2, 3).latest_result(timeout=WAIT_S)
    assert rqd(redis_url, "stop").returncode == 0
    assert daemon.wait() == 0


@pytest.mark.parametrize(
    ("field", "value"), [("retries_left", "1.5"), ("timeout", "0x10"), ("retries_used", "x")]
)
def test_a_job_with_damaged_numbers_does_not_end_a_master(
    start_daemon: StartDaemon,
    queue: Queue,
    redis_client: redis.Redis,
    field: str,
    value: str,
) -> None:
    damaged = queue.enqueue(jobs.multiply, 1, 1)
    redis_client.hset(f"{{rqd}}:job:{damaged.id}", field, value)
    daemon = start_daemon()
    result = queue.enqueue(jobs.multiply, 2, 3).latest_result(timeout=WAIT_S)
    assert result is not None
    assert result.return_value == 6
    assert daemon.stop() == 0


def test_a_backlog_does_not_keep_a_master_from_its_heartbeats(
    start_daemon: StartDaemon, queue: Queue, redis_client: redis.Redis, fifo: str
) -> None:
    start_daemon("--name", "alpha", "--jobs-per-child", "1000", workers=3)
    held = queue.enqueue(jobs.hold, fifo)
    eventually(lambda: held.is_started)

    def until_us() -> float:
        return redis_client.zscore("{rqd}:leases", held.id) or 0

    def is_soon_renewed() -> bool:
        seconds, us = redis_client.time()
        return until_us() - (seconds * 1_000_000 + us) < 11_500_000

    # The load begins a good second before the heartbeat, and goes on until that has come.
    eventually(is_soon_renewed, 9.0)
    begun_us = until_us()

    def renewed() -> bool:
        if queue.count < 3000:
            queue.enqueue_many([Queue.prepare_data(jobs.multiply, (1, 1)) for _ in range(3000)])
        return until_us() > begun_us

    eventually(renewed, 9.0, "the lease to be renewed under load")
