"""`rqd queue`, `rqd suspend`, `rqd resume`: what they do, show and refuse."""

import json
from datetime import UTC, datetime

import pytest

from rqd.queue import Queue
from rqd.suspension import is_suspended
from tests.cli.running import rqd
from tests.client import work

EX_USAGE, EX_NOINPUT = 64, 66


@pytest.fixture
def low(redis_url: str) -> Queue:
    """A queue with two jobs."""
    queue = Queue("low", redis_url)
    queue.enqueue_many([Queue.prepare_data(work.multiply, [n]) for n in range(2)])
    return queue


def test_a_queue_is_paused_shown_and_resumed(redis_url: str, low: Queue) -> None:
    assert rqd("queue", "low", "pause", url=redis_url).out == "low: paused, until it is resumed\n"
    assert low.is_paused
    (row,) = json.loads(rqd("queue", "--json", url=redis_url).out)
    assert (row["name"], row["ready"], row["paused"], row["paused_until"]) == ("low", 2, True, None)

    told = rqd("queue", "low", "pause", "--for", "10m", "--json", url=redis_url)
    assert json.loads(told.out)["queue"]["paused_until"].endswith("+00:00")
    assert "paused until 20" in rqd("queue", "low", url=redis_url).out

    assert rqd("queue", "low", "resume", url=redis_url).out == "low: resumed\n"
    assert "open" in rqd("queue", url=redis_url).out


def test_a_pause_is_seen_wherever_one_looks(redis_url: str, low: Queue) -> None:
    typo = "lwo: paused, until it is resumed; it never had a job\n"
    assert rqd("queue", "lwo", "pause", url=redis_url).out == typo
    rqd("queue", "low", "pause", url=redis_url)
    job_id = low.get_job_ids()[0]

    told = json.loads(rqd("info", "--json", "-Q", url=redis_url).out)["queues"]
    assert [(row["name"], row["paused"]) for row in told] == [("low", True), ("lwo", True)]
    assert "low    paused" in rqd("info", "lwo", "low", url=redis_url).out
    assert "lwo" in rqd("queue", url=redis_url).out
    assert "queue:        low (paused)\n" in rqd("job", job_id, url=redis_url).out
    assert json.loads(rqd("job", job_id, "--json", url=redis_url).out)["paused"] is True


def test_a_queue_is_emptied(redis_url: str, low: Queue) -> None:
    told = json.loads(rqd("queue", "low", "empty", "--json", url=redis_url).out)
    assert (told["deleted"], told["queue"]["ready"]) == (2, 0)
    assert rqd("queue", "low", "empty", url=redis_url).out == "low: 0 jobs deleted\n"


def test_everything_is_suspended_and_resumed(redis_url: str, low: Queue) -> None:
    assert rqd("suspend", "--for", "1h", url=redis_url).out == "suspended for 1h\n"
    assert low.is_paused
    assert is_suspended(redis_url)
    refused = "low: resumed, but everything is suspended (rqd resume)\n"
    assert rqd("queue", "low", "resume", url=redis_url).out == refused
    rqd("queue", "low", "pause", url=redis_url)

    assert rqd("resume", url=redis_url).out == "resumed; still paused: low\n"
    assert not is_suspended(redis_url)


def test_a_time_that_was_typed_without_its_unit_is_told_with_it(redis_url: str, low: Queue) -> None:
    assert rqd("suspend", "--for", "600", url=redis_url).out == "suspended for 600s\n"
    told = rqd("queue", low.name, "pause", "--for", "1.5 ", url=redis_url).out
    assert told == "low: paused for 1.5s\n"


def test_a_suspension_and_its_end_are_told_as_json(redis_url: str, low: Queue) -> None:
    told = json.loads(rqd("suspend", "--json", "--for", "1h", url=redis_url).out)
    assert (told["done"], told["paused"]) == ("suspended for 1h", True)
    assert told["paused_until"] > datetime.now(UTC).isoformat()
    told = json.loads(rqd("suspend", "--json", url=redis_url).out)
    assert (told["done"], told["paused_until"]) == ("suspended, until rqd resume", None)
    low.pause()

    told = json.loads(rqd("resume", "--json", url=redis_url).out)
    assert told == {"done": "resumed", "still_paused": ["low"]}


@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        (["queue", "lwo"], EX_NOINPUT, "no queue 'lwo' ever had a job"),
        (["queue", "low", "stop"], EX_USAGE, "'stop' is not one of"),
        (["queue", "low", "--for", "3"], EX_USAGE, "--for is of `pause`"),
        (["queue", "low", "pause", "--for", "soon"], EX_USAGE, "--for 'soon' is no duration"),
        (["queue", "a b", "pause"], EX_USAGE, "queue name 'a b' must be"),
        (["suspend", "--for", "0"], EX_USAGE, "--for 0 would be no pause"),
    ],
)
def test_what_is_asked_wrongly_is_one_line(
    arguments: list[str], status: int, why: str, redis_url: str
) -> None:
    ran = rqd(*arguments, url=redis_url)

    assert (ran.status, ran.out) == (status, "")
    assert why in ran.err
    assert ran.err.count("\n") == 1
