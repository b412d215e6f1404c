"""What `rqd job ACTION ID` does and says."""

import json

import pytest

from rqd.client.connection import backend_for
from rqd.job import Job
from tests.cli.running import rqd
from tests.client.performing import claim, settle

EX_USAGE, EX_UNAVAILABLE = 64, 69


def enqueue(url: str) -> None:
    assert rqd("enqueue", "--job-id", "a", "tests.client.work.fail", url=url).status == 0


def test_a_job_is_canceled_requeued_and_deleted(redis_url: str) -> None:
    enqueue(redis_url)

    assert rqd("job", "a", "cancel", url=redis_url).out == "a: canceled\n"
    requeued = rqd("job", "a", "requeue", "--at-front", "--json", url=redis_url)
    assert json.loads(requeued.out) == {"id": "a", "was": "canceled", "status": "queued"}
    assert rqd("job", "a", "delete", url=redis_url).out == "a: deleted\n"

    assert not Job.exists("a", redis_url)


def test_a_running_job_is_stopped_and_waited_for(redis_url: str) -> None:
    backend = backend_for(redis_url)
    enqueue(redis_url)
    (held,) = claim(backend)

    told = rqd("job", "a", "stop", "--no-wait", "--grace", "1m", url=redis_url)
    assert (told.status, told.out) == (0, "a: asked to stop\n")
    settle(backend, held, "put_back")  # what its daemon does at its own stop, say

    assert Job.fetch("a", redis_url).is_stopped
    again = rqd("job", "a", "stop", url=redis_url)
    assert (again.status, again.out) == (EX_UNAVAILABLE, "")
    assert again.err == "rqd: job a is stopped: only a running job can be stopped\n"


def test_a_job_is_told_to_have_more_time(redis_url: str) -> None:
    backend = backend_for(redis_url)
    backend.store.hello("m", "boot", 60, {"host": "h"})
    enqueue(redis_url)
    claim(backend)

    assert rqd("job", "a", "extend", "--by", "10m", url=redis_url).out == "a: extended by 10m\n"
    assert rqd("job", "a", "extend", "--by", "60", url=redis_url).out == "a: extended by 60s\n"


@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        (["stop"], EX_UNAVAILABLE, "job a is queued: only a running job can be stopped; cancel"),
        (["requeue"], EX_UNAVAILABLE, "job a is queued: only a failed, stopped or canceled job"),
        (["stop", "--grace", "soon"], EX_USAGE, "--grace 'soon' is no duration"),
        (["stop", "--grace", "-1"], EX_USAGE, "grace -1.0: write seconds, 0 to kill at once"),
        (["cancel", "--grace", "3"], EX_USAGE, "--grace is an option of `stop`"),
        (["stop", "--at-front"], EX_USAGE, "--at-front is an option of `requeue`"),
        (["--no-wait"], EX_USAGE, "--no-wait is an option of `stop`"),
        (["destroy"], EX_USAGE, "'destroy' is not one of"),
    ],
)
def test_what_is_asked_wrongly_is_one_line(
    arguments: list[str], status: int, why: str, redis_url: str
) -> None:
    enqueue(redis_url)

    ran = rqd("job", "a", *arguments, url=redis_url)

    assert (ran.status, ran.out) == (status, "")
    assert why in ran.err
    assert ran.err.count("\n") == 1
    assert Job.fetch("a", redis_url).is_queued
