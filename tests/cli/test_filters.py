"""Words that choose jobs: in lists, in groups of failures, and for what changes many jobs."""

import json
import os
import pty
import subprocess
import sys

import pytest

from rqd.client.connection import Backend, backend_for
from rqd.job import Job
from tests.cli.running import LIMIT_S, ROOT, rqd
from tests.client.performing import claim, settle

EX_USAGE, EX_NOINPUT = 64, 66


@pytest.fixture(autouse=True)
def backend(redis_url: str) -> Backend:
    """Failed jobs: `a`, `b` of low, `c` of high; `s` was stopped; `q` waits."""
    backend = backend_for(redis_url)
    for job_id, queue, cause, frame in (
        ("a", "low", "crashed: SIGSEGV", "tasks.py:3 f"),
        ("b", "low", "raised ValueError: full", "tasks.py:9 g"),
        ("c", "high", "crashed: SIGSEGV", "tasks.py:3 f"),
        ("s", "low", "stopped by ops", ""),
    ):
        rqd("enqueue", "-q", queue, "--job-id", job_id, "tests.client.work.fail", url=redis_url)
        how = "stop" if job_id == "s" else "fail"
        held = claim(backend, queue)[0]
        settle(backend, held, how, cause=cause, frame=frame, host="web1")
    rqd("enqueue", "-q", "low", "--job-id", "q", "tests.client.work.fail", url=redis_url)
    return backend


def ids(redis_url: str, *words: str) -> str:
    ran = rqd("jobs", "--json", *words, url=redis_url)
    assert (ran.status, ran.err) == (0, ""), ran
    return "".join(sorted(one["id"] for one in json.loads(ran.out)))


def left(redis_url: str) -> str:
    return "".join(one for one in "abcsq" if Job.exists(one, redis_url))


# -- lists


def test_a_list_has_the_jobs_that_match_all_words_and_options(redis_url: str) -> None:
    asked = (
        (("cause:crashed",), "ac"),
        (("failed", "cause:crashed", "queue:low"), "a"),
        (("-q", "low", "cause:crashed"), "a"),
        (("-q", "low", "-q", "high", "function:tests.*.fail"), "abcs"),
        (("state:stopped",), "s"),
        (("queued", "since:1h"), "q"),
        (("frame:tasks.py:*", "host:web1", "type:ValueError"), "b"),
        (("cause:no such",), ""),
    )
    assert [ids(redis_url, *words) for words, _ in asked] == [found for _, found in asked]


def test_a_list_goes_on_behind_its_cursor(redis_url: str) -> None:
    first = rqd("jobs", "--limit", "1", "cause:crashed", url=redis_url)
    note = first.out.splitlines()[-1]
    assert "looked at: --limit, or --after " in note
    cursor = note.split("--after ")[1].split()[0]

    rest = rqd("jobs", "--json", "cause:crashed", "--after", cursor, url=redis_url)

    assert rest.err == ""
    listed = first.out.splitlines()[2].split()[0]
    assert {listed, *(one["id"] for one in json.loads(rest.out))} == {"a", "c"}
    as_json = rqd("jobs", "--limit", "1", "--json", url=redis_url)
    assert len(json.loads(as_json.out)) == 1
    assert as_json.err.startswith("and 3 more: --limit, or --after ")


@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        (["jobs", "quue:low"], EX_USAGE, "'quue:low' is no filter word: write state:, queue:,"),
        (["jobs", "broken"], EX_USAGE, "'broken' is not one of 'failed'"),
        (["jobs", "failed", "low"], EX_USAGE, "'low' is no filter word"),
        (["jobs", "failed", "state:queued"], EX_USAGE, "filter word state: stands twice"),
        (["jobs", "queue:lo"], EX_NOINPUT, "no queue 'lo': did you mean low?"),
        (["jobs", "since:soon"], EX_USAGE, "since 'soon' is no time: write 90, 30m, 2h or 3d"),
        (["jobs", "--after", "x"], EX_USAGE, "cursor 'x' is none of a search: begin again"),
        (["failures", "state:"], EX_USAGE, "filter word state: has no value"),
        (["delete"], EX_USAGE, "choose jobs: IDs, words such as cause:crashed, --queue, or --all"),
        (["delete", "a", "cause:crashed"], EX_USAGE, "IDs choose the jobs: leave out the words"),
        (["delete", "cause:crashed"], EX_USAGE, "2 jobs would be deleted: write --yes, or --dry"),
        (["delete", "state:started"], EX_USAGE, "delete can't be done to started jobs: write"),
        (["retry", "state:queued"], EX_USAGE, "retry can't be done to queued jobs: write failed"),
        (["cancel", "cause:x", "state:failed"], EX_USAGE, "cancel can't be done to failed jobs"),
        (["cancel", "nobody"], EX_NOINPUT, "no job 'nobody'"),
    ],
)
def test_what_is_asked_wrongly_is_one_line(
    arguments: list[str], status: int, why: str, redis_url: str
) -> None:
    ran = rqd(*arguments, url=redis_url)

    assert (ran.status, ran.out, ran.err.count("\n")) == (status, "", 1), ran
    assert why in ran.err
    assert left(redis_url) == "abcsq"


# -- groups


def test_failures_stand_in_groups_the_largest_first(redis_url: str) -> None:
    found = json.loads(rqd("failures", "--json", url=redis_url).out)

    assert [(one["jobs"], one["cause"], one["frame"]) for one in found] == [
        (2, "crashed", "tasks.py:3 f"),
        (1, "stopped", ""),
        (1, "raised", "tasks.py:9 g"),
    ]
    assert (found[0]["function"], found[0]["example"]) == ("tests.client.work.fail", "c")
    assert found[0]["last"] > found[0]["first"] > ""
    title, heads, first, *_ = rqd("failures", "queue:high", url=redis_url).out.splitlines()
    assert (title, heads.split()[:4]) == ("Failures", ["jobs", "cause", "function", "frame"])
    assert first.split()[:3] == ["1", "crashed", "tests.client.work.fail"]
    more = rqd("failures", "--limit", "1", url=redis_url).out.splitlines()[-1]
    assert more == "  and 2 more groups, of 2 jobs: --limit"
    assert rqd("failures", "cause:lost", url=redis_url).out == "Failures\n  none\n"


def test_a_group_is_retried_by_its_words(redis_url: str) -> None:
    ran = rqd("retry", "cause:crashed", "frame:tasks.py:3 f", url=redis_url)

    lines = ["high: 1 job put in the queue again", "low: 1 job put in the queue again"]
    assert (ran.status, ran.out.splitlines(), ran.err) == (0, lines, "")
    assert ids(redis_url, "queued") == "acq"


# -- many at once


def test_deleted_jobs_are_those_that_match(redis_url: str) -> None:
    looked = rqd("delete", "cause:crashed", "--dry-run", url=redis_url)
    assert (looked.status, sorted(looked.out.split())) == (0, ["a", "c"])
    assert "low: 1 job would be deleted" in looked.err
    assert left(redis_url) == "abcsq"

    ran = rqd("delete", "cause:crashed", "--yes", "--json", url=redis_url)

    assert json.loads(ran.out) == {
        "dry_run": False,
        "jobs": 2,
        "changed": 0,
        "refused": {},
        "queues": {"low": ["a"], "high": ["c"]},
    }
    assert left(redis_url) == "bsq"
    again = rqd("delete", "cause:crashed", "--yes", url=redis_url)
    assert (again.status, again.out, again.err) == (0, "", "no failed job matches\n")


def test_waiting_jobs_are_canceled_and_jobs_by_their_ids(redis_url: str) -> None:
    ran = rqd("cancel", "--all", "--yes", url=redis_url)
    assert (ran.status, ran.out) == (0, "low: 1 job canceled\n")
    assert ids(redis_url, "canceled") == "q"

    ran = rqd("delete", "a", "q", "nobody", url=redis_url)

    assert (ran.status, ran.out) == (1, "a: deleted\nq: deleted\n")
    assert ran.err.startswith("rqd: no job 'nobody'")
    assert left(redis_url) == "bcs"


def test_refused_jobs_are_counted_with_their_reason(redis_url: str, backend: Backend) -> None:
    key = backend.store.keys.ready("high")
    backend.redis.set(key, "x")

    ran = rqd("retry", "cause:crashed", url=redis_url)

    assert (ran.status, ran.out) == (1, "low: 1 job put in the queue again\n")
    assert "refused: 1: WRONGTYPE" in ran.err


@pytest.mark.parametrize(("typed", "left_over"), [("y\n", "bsq"), ("n\n", "abcsq")])
def test_a_person_at_a_terminal_is_asked_first(redis_url: str, typed: str, left_over: str) -> None:
    ours, theirs = pty.openpty()
    env = os.environ | {"RQD_URL": redis_url}
    command = [sys.executable, "-m", "rqd", "delete", "cause:crashed"]
    with subprocess.Popen(
        command, cwd=ROOT, env=env, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True
    ) as asked:
        os.close(theirs)
        os.write(ours, typed.encode())
        asked.wait(LIMIT_S)
    told = os.read(ours, 4096).decode()
    os.close(ours)

    assert "2 jobs would be deleted: go on? [y/N]" in told
    assert left(redis_url) == left_over
