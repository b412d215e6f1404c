"""`rqd jobs`: which jobs it lists, in which order, and what it says of them."""

import json
from typing import Any

import pytest

from rqd import Job, Queue
from rqd.client.connection import backend_for
from rqd.store.messages import Beat
from tests.cli.running import rqd
from tests.client import work
from tests.client.performing import claim, settle
from tests.waiting import eventually

EX_USAGE = 64


@pytest.fixture(autouse=True)
def _jobs(redis_url: str) -> None:
    """Failed `a` and `b` of low and then `c` of high; queued `d`; `e`, due in an hour."""
    backend = backend_for(redis_url)
    for job_id, queue in (("a", "low"), ("b", "low"), ("c", "high")):
        rqd("enqueue", "-q", queue, "--job-id", job_id, "tests.client.work.fail", url=redis_url)
        settle(backend, claim(backend, queue)[0], "fail", cause=f"raised ValueError: {job_id}")
    rqd("enqueue", "-q", "low", "--job-id", "d", "tests.client.work.fail", url=redis_url)
    later = ("--schedule-in", "1h", "--job-id", "e", "tests.client.work.fail")
    rqd("enqueue", "-q", "low", *later, url=redis_url)


def listed(redis_url: str, *arguments: str) -> list[dict[str, Any]]:
    ran = rqd("jobs", "--json", *arguments, url=redis_url)
    assert ran.status == 0, ran
    found: list[dict[str, Any]] = json.loads(ran.out)
    return found


def ids(redis_url: str, *arguments: str) -> str:
    return "".join(one["id"] for one in listed(redis_url, *arguments))


def test_failed_jobs_come_latest_first_with_their_causes(redis_url: str) -> None:
    first, *others = listed(redis_url)

    assert (first["id"], first["queue"], first["status"]) == ("c", "high", "failed")
    assert (first["cause"], first["attempt"]) == ("raised ValueError: c", 1)
    assert first["function"] == "tests.client.work.fail"
    assert first["ended"] > first["started"] >= first["enqueued"] > ""
    assert [one["id"] for one in others] == ["b", "a"]


def test_the_other_states_are_listed_and_a_queue_alone(redis_url: str) -> None:
    asked = (("queued",), ("scheduled",), ("finished",), ("-q", "low"), ("-q", "high", "queued"))
    assert [ids(redis_url, *one) for one in asked] == ["d", "e", "", "ba", ""]
    assert listed(redis_url, "scheduled")[0]["due"] > listed(redis_url, "queued")[0]["enqueued"]


def test_the_table_says_when_and_how_many_more_there_are(redis_url: str) -> None:
    ran = rqd("jobs", "--limit", "2", url=redis_url)

    title, heads, first, second, more = ran.out.splitlines()
    assert (title, heads.split()) == (
        "Failed jobs",
        ["job", "function", "queue", "status", "when", "attempt", "cause"],
    )
    assert first.split()[0] == "c"
    assert " s ago " in first
    assert second.endswith("raised ValueError: b")
    assert more.startswith("  and 1 more: --limit, or --after ")
    rest = rqd("jobs", "--after", more.split()[-1], url=redis_url)
    assert [line.split()[0] for line in rest.out.splitlines()[2:]] == ["a"]
    assert " in 59:" in rqd("jobs", "scheduled", url=redis_url).out
    assert rqd("jobs", "deferred", url=redis_url).out == "Deferred jobs\n  none\n"


def test_one_whose_wait_was_too_long_is_not_said_to_be_one_more(redis_url: str) -> None:
    job = Queue("late", redis_url).enqueue(work.echo, ttl=0.001)
    eventually(lambda: not Job.exists(job.id, redis_url))

    assert rqd("jobs", "queued", "-q", "late", url=redis_url).out == "Queued jobs\n  none\n"


def test_a_state_or_queue_that_there_is_not_is_said(redis_url: str) -> None:
    wrong = rqd("jobs", "broken", url=redis_url)
    assert (wrong.status, wrong.out) == (EX_USAGE, "")
    assert "'broken' is not one of 'failed'" in wrong.err
    assert "no queue 'lo'" in rqd("jobs", "-q", "lo", url=redis_url).err


def test_what_stands_in_redis_forges_no_line_and_reaches_no_terminal_raw(redis_url: str) -> None:
    backend = backend_for(redis_url)
    evil = "x\nstatus:       finished\x1b[2J\r\u2028\u202eid: d"
    fields: dict[Any, Any] = {
        "description": evil,
        "func_name": evil,
        "cause": evil,
        "worker": f"{evil}:1",
    }
    backend.redis.hset(backend.store.keys.job("d"), mapping=fields)
    backend.redis.sadd(backend.store.keys.queues, evil)
    backend.redis.zadd(backend.store.keys.ready(evil), {"d": 1})
    backend.redis.zadd(backend.store.keys.paused, {evil: "inf"})
    row: dict[str, Any] = {"host": evil, "state": "idle", "workers": 1, "queues": evil}
    row |= {"why_no_zygote": evil, "reload": "refused", "reload_error": evil}
    backend.store.hello(evil, "boot", 600, row)
    backend.store.beat(Beat(evil, "boot", 15_000_000, 600, "", (), row, {1: {"last_error": evil}}))

    for words in (
        *(["job", "d"], ["jobs", "queued"], ["info"], ["queue"], ["workers"], ["ps"], ["resume"]),
        *(["info", "nobody"], ["workers", f"{evil}:1"], ["enqueue", "-q", evil, "tasks.f"]),
        *(["doctor"], ["job", evil], ["stop", "--master", "nobody"]),
    ):
        ran = rqd(*words, url=redis_url)
        told = ran.out + ran.err
        assert not [c for c in told if not c.isprintable() and c != "\n"], (words, told)
        lines = [line for line in told.splitlines() if line.startswith("status:")]
        assert lines == (["status:       queued"] if words == ["job", "d"] else []), (words, told)
