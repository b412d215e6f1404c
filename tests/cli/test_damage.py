"""`rqd job` and `rqd info` show what they can read of damaged records, without a traceback."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import pytest

from rqd import Queue
from rqd.cli.activity import screen
from rqd.client.activity import running_jobs
from rqd.client.connection import Backend
from rqd.store.connection import client_connection
from rqd.store.queries import Queries
from rqd.store.store import Store
from tests.cli.running import rqd

# The last one has more digits than Python reads as a number.
GARBAGE = (b"", b"x", b"nan", b"1e300", b"-1", b"9" * 30, b"\xff\x1b[31m", b"9" * 5000)
NUMBERS = (
    "timeout", "result_ttl", "failure_ttl", "ttl", "created_at", "enqueued_at", "started_at",
    "ended_at", "attempt", "losses", "retries_left", "retry_intervals", "priority", "lease",
    "payload_bytes",
)  # fmt: skip
ROW = (
    "pid",
    "workers",
    "wanted",
    "rss_bytes",
    "cpu_percent",
    "heartbeat",
    "started",
    "since",
    "queues",
    "job",
    "memory_bytes",
    "measured",
)


@pytest.mark.parametrize("garbage", GARBAGE)
def test_a_damaged_job_is_shown(redis_url: str, redis_client: Any, garbage: bytes) -> None:
    queue = Queue(connection=Backend(Store(client_connection(redis_url)), redis_url))
    job = queue.enqueue("tasks.f", job_id="damaged")
    redis_client.hset(f"{{rqd}}:job:{job.id}", mapping=dict.fromkeys(NUMBERS, garbage))
    for entry in ({"type": garbage}, {"a": garbage}, {"type": "failed", "attempt": garbage}):
        redis_client.xadd(f"{{rqd}}:job:{job.id}:results", entry)
    redis_client.xadd(
        f"{{rqd}}:job:{job.id}:results",
        {"type": "failed", "attempt": "1", "pid": garbage, "wall_s": garbage, "cause": "why"},
    )
    shown = rqd("job", job.id, "--json", url=redis_url)
    assert (shown.status, shown.err) == (0, "")
    told = json.loads(shown.out)
    assert (told["status"], told["function"]) == ("queued", "tasks.f")
    assert "why" in [attempt["cause"] for attempt in told["attempts"]]
    assert rqd("job", job.id, url=redis_url).status == 0
    redis_client.hset(f"{{rqd}}:job:{job.id}", "status", garbage)
    assert job.get_status() == "failed"
    job.delete()
    assert not redis_client.exists(f"{{rqd}}:job:{job.id}")


@pytest.mark.parametrize("garbage", GARBAGE)
def test_damaged_rows_are_shown(redis_url: str, redis_client: Any, garbage: bytes) -> None:
    row = dict.fromkeys(ROW, garbage)
    redis_client.sadd("{rqd}:queues", garbage or "q")
    redis_client.zadd("{rqd}:masters", {b"m": 1, b"\xff": 2, b"w": 3})
    redis_client.hset("{rqd}:master:w", mapping=row)
    redis_client.hset("{rqd}:master:m", mapping={**row, "workers": "1"})
    redis_client.hset(b"{rqd}:master:\xff", mapping=row)
    redis_client.hset("{rqd}:worker:m:1", mapping={**row, "state": garbage, "done": garbage})
    shown = rqd("info", "--json", url=redis_url)
    assert (shown.status, shown.err) == (0, "")
    assert "m" in {master["name"] for master in json.loads(shown.out)["masters"]}
    assert rqd("info", url=redis_url).status == 0
    views = Queries(Store(client_connection(redis_url)))
    running = running_jobs(views)
    assert len(screen(running, "cpu", 80, 24)) == 24
    assert json.dumps(list(map(asdict, running)), allow_nan=False)


@pytest.mark.parametrize("garbage", GARBAGE)
def test_what_a_damaged_group_and_a_damaged_lease_count_is_nothing(
    redis_url: str, redis_client: Any, garbage: bytes
) -> None:
    redis_client.hset("{rqd}:group:g", mapping={"created_at": "1", "failed": garbage})
    redis_client.hset("{rqd}:job:a", mapping={"progress": "1 1 0.5 x", "lease": garbage or "x"})
    views = Queries(Store(client_connection(redis_url)))
    group = views.group_counts("g")
    assert group is not None
    assert group.failed == 0
    assert views.progress(["a"]) == {}


@pytest.mark.parametrize("garbage", GARBAGE)
def test_masters_with_damaged_rows_are_told_to_stop_and_to_reload(
    redis_url: str, redis_client: Any, garbage: bytes
) -> None:
    row = dict.fromkeys(ROW, garbage) | {"busy": garbage, "wanted": garbage, "host": "h"}
    redis_client.zadd("{rqd}:masters", {b"m": 1})
    redis_client.hset("{rqd}:master:m", mapping=row)
    stopped = rqd("stop", "--timeout", "0.1", url=redis_url)
    assert (stopped.status, stopped.out.splitlines()[-1]) == (1, "m: not done in time")

    with ThreadPoolExecutor(1) as aside:
        reloading = aside.submit(rqd, "reload", "--json", url=redis_url)
        redis_client.delete("{rqd}:control:m")
        command = json.loads(redis_client.blpop("{rqd}:control:m", 15)[1])
        done = {"reload": "done", "reload_requests": command["id"]}
        redis_client.hset("{rqd}:master:m", mapping=done)
        reloaded = reloading.result()
    assert reloaded.status == 0, reloaded
    assert json.loads(reloaded.out)[0]["answer"]["busy"] == 0


@pytest.mark.parametrize("key", ["queues", "masters", "job:a"])
def test_a_key_of_another_type_is_one_line(redis_url: str, redis_client: Any, key: str) -> None:
    redis_client.rpush(f"{{rqd}}:{key}", "not rqd's")
    ran = rqd(*(["job", "a"] if key == "job:a" else ["info"]), url=redis_url)
    assert ran.status == 64
    assert ran.err.count("\n") == 1
    assert "holds something else: choose another --namespace, or delete that key" in ran.err
