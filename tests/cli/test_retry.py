"""`rqd retry`: which jobs run again, and what it says of it."""

import json

import pytest

from rqd.client.connection import backend_for
from rqd.job import Job
from tests.cli.running import rqd
from tests.client.performing import claim, settle

EX_USAGE = 64


@pytest.fixture(autouse=True)
def _failed(redis_url: str) -> None:
    """Failed jobs: `a` and `b` of the queue low, `c` of high."""
    backend = backend_for(redis_url)
    for job_id, queue, cause in (("a", "low", "x"), ("b", "low", "y"), ("c", "high", "x")):
        rqd("enqueue", "-q", queue, "--job-id", job_id, "tests.client.work.fail", url=redis_url)
        settle(backend, claim(backend, queue)[0], "fail", cause=f"crashed: {cause}")


def queued(redis_url: str) -> list[str]:
    return [one for one in "abc" if Job.fetch(one, redis_url).is_queued]


def test_jobs_run_again_by_queue_and_cause(redis_url: str) -> None:
    looked = rqd("retry", "--cause", "crashed: x", "--dry-run", url=redis_url)
    assert (looked.status, sorted(looked.out.split())) == (0, ["a", "c"])
    assert queued(redis_url) == []

    ran = rqd("retry", "-q", "low", "--cause", "crashed: x", "--since", "1h", url=redis_url)

    assert (ran.status, ran.out) == (0, "low: 1 job put in the queue again\n")
    assert queued(redis_url) == ["a"]


def test_all_jobs_run_again_and_json_names_them(redis_url: str) -> None:
    told = json.loads(rqd("retry", "--all", "--json", url=redis_url).out)

    assert (told["dry_run"], told["jobs"], told["queues"]["high"]) == (False, 3, ["c"])
    assert queued(redis_url) == ["a", "b", "c"]
    again = rqd("retry", "--function", "tests.client.*", url=redis_url)
    assert (again.status, again.err) == (0, "no failed job matches\n")


def test_jobs_run_again_by_id_and_what_is_none_is_said(redis_url: str) -> None:
    ran = rqd("retry", "b", "nobody", "c", url=redis_url)

    assert (ran.status, ran.out) == (1, "b: requeued\nc: requeued\n")
    assert ran.err.startswith("rqd: no job 'nobody'")
    assert queued(redis_url) == ["b", "c"]
    assert rqd("retry", "nobody", url=redis_url).status == 66


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (
            [],
            "choose jobs: IDs, words such as cause:crashed, --queue, --function, --cause, --since,",
        ),
        (["a", "--queue", "low"], "IDs choose the jobs"),
        (["--since", "soon"], "--since 'soon' is no time: write 90, 30m, 2h"),
        (["-q", "a b"], "queue name 'a b' must be"),
    ],
)
def test_what_is_asked_wrongly_is_one_line(arguments: list[str], why: str, redis_url: str) -> None:
    ran = rqd("retry", *arguments, url=redis_url)

    assert (ran.status, ran.out, ran.err.count("\n")) == (EX_USAGE, "", 1)
    assert why in ran.err
