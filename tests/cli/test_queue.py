"""`rqd queue`, and `rqd pause`, `rqd resume` of queues: what they do, show and refuse."""

import json
from datetime import UTC, datetime

import pytest

from rqd.client.connection import backend_for
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
    assert rqd("pause", "low", url=redis_url).out == "low: paused, until it is resumed\n"
    assert low.is_paused
    (row,) = json.loads(rqd("queue", "--json", url=redis_url).out)
    assert (row["name"], row["ready"], row["paused"], row["paused_until"]) == ("low", 2, True, None)

    (row,) = json.loads(rqd("pause", "low", "--for", "10m", "--json", url=redis_url).out)
    assert (row["name"], row["done"]) == ("low", "paused for 10m")
    assert row["paused_until"].endswith("+00:00")
    assert "paused until 20" in rqd("queue", "low", url=redis_url).out

    assert rqd("resume", "low", url=redis_url).out == "low: resumed\n"
    assert "open" in rqd("queue", url=redis_url).out


def test_a_pause_is_seen_wherever_one_looks(redis_url: str, low: Queue) -> None:
    typo = "lwo: paused, until it is resumed; it never had a job\n"
    assert rqd("pause", "lwo", url=redis_url).out == typo
    rqd("pause", "low", url=redis_url)
    job_id = low.get_job_ids()[0]

    told = json.loads(rqd("info", "--json", "-Q", url=redis_url).out)["queues"]
    assert [(row["name"], row["paused"]) for row in told] == [("low", True), ("lwo", True)]
    assert "low    paused" in rqd("info", "lwo", "low", url=redis_url).out
    assert "lwo" in rqd("queue", url=redis_url).out
    assert "queue:        low (paused)\n" in rqd("job", job_id, url=redis_url).out
    assert json.loads(rqd("job", job_id, "--json", url=redis_url).out)["paused"] is True


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_a_masters_name_in_place_of_a_queues_is_refused_with_the_option(
    verb: str, redis_url: str, low: Queue
) -> None:
    store = low.connection.store
    store.hello("vm.1", "boot", 60, {"queues": "low,vm.2"})
    store.hello("vm.2", "boot", 60, {"queues": "low"})

    ran = rqd(verb, "low", "vm.1", url=redis_url)

    assert (ran.status, ran.out) == (EX_USAGE, "")
    assert "did you mean --master vm.1?" in ran.err
    assert ran.err.count("\n") == 1
    assert low.connection.views.paused() == {}
    # A queue of this name exists, as it is served.
    assert rqd(verb, "vm.2", url=redis_url).status == 0


def test_a_queue_is_emptied(redis_url: str, low: Queue) -> None:
    told = json.loads(rqd("queue", "empty", "low", "--json", url=redis_url).out)
    assert (told["deleted"], told["queue"]["ready"]) == (2, 0)
    assert rqd("queue", "low", "empty", url=redis_url).out == "low: 0 jobs deleted\n"


def test_all_queues_are_paused_and_resumed(redis_url: str, low: Queue) -> None:
    assert rqd("pause", "--all", "--for", "1h", url=redis_url).out == "all queues: paused for 1h\n"
    assert low.is_paused
    assert is_suspended(redis_url)
    refused = "low: resumed, but all queues are paused (rqd resume --all)\n"
    assert rqd("resume", "low", url=redis_url).out == refused
    rqd("pause", "low", url=redis_url)

    told = rqd("resume", "--all", url=redis_url)
    assert (told.out, told.err) == ("all queues: resumed; still paused: low\n", "")
    assert not is_suspended(redis_url)


def test_a_time_that_was_typed_without_its_unit_is_told_with_it(redis_url: str, low: Queue) -> None:
    told = rqd("pause", "--all", "--for", "600", url=redis_url).out
    assert told == "all queues: paused for 600s\n"
    told = rqd("pause", low.name, "--for", "1.5 ", url=redis_url).out
    assert told == "low: paused for 1.5s\n"


def test_a_pause_of_all_queues_and_its_end_are_told_as_json(redis_url: str, low: Queue) -> None:
    told = json.loads(rqd("pause", "--all", "--json", "--for", "1h", url=redis_url).out)
    assert (told["done"], told["paused"]) == ("paused for 1h", True)
    assert told["paused_until"] > datetime.now(UTC).isoformat()
    told = json.loads(rqd("pause", "--all", "--json", url=redis_url).out)
    assert (told["done"], told["paused_until"]) == ("paused, until rqd resume --all", None)
    low.pause()

    told = json.loads(rqd("resume", "--all", "--json", url=redis_url).out)
    assert told == {"done": "resumed", "still_paused": ["low"]}


@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        (["queue", "lwo"], EX_NOINPUT, "no queue 'lwo' ever had a job"),
        (["queue", "low", "stop"], EX_USAGE, "'stop' is not one of"),
        (["queue", "low", "--for", "3"], EX_USAGE, "--for is an option of `pause`"),
        (["pause", "low", "--for", "soon"], EX_USAGE, "--for 'soon' is no duration"),
        (["pause", "--all", "--for", "0"], EX_USAGE, "--for 0 would be no pause"),
        (["pause", "low", "a b"], EX_USAGE, "queue name 'a b' must be"),
        (["pause"], EX_USAGE, "name queues or masters to pause: QUEUE.., --all, or --master NAME"),
        (["pause", "low", "--all"], EX_USAGE, "pause one kind at a time: QUEUE.., --all, or"),
        (["pause", "low", "--master", "m"], EX_USAGE, "pause one kind at a time"),
        (["pause", "--all", "--host", "h"], EX_USAGE, "pause one kind at a time"),
        (["pause", "low", "--all-masters"], EX_USAGE, "pause one kind at a time"),
        (["pause", "--all-masters", "--host", "h"], EX_USAGE, "leave out --master and --host"),
        (["pause", "--master", "m", "--for", "3"], EX_USAGE, "--for is for queues; a master is"),
        (["pause", "low", "--now"], EX_USAGE, "--now is for masters"),
        (["pause", "--all", "--no-wait"], EX_USAGE, "--no-wait is for masters"),
        (["resume", "low", "--all"], EX_USAGE, "resume one kind at a time"),
        (["resume", "low", "--timeout", "3"], EX_USAGE, "--timeout is for masters"),
    ],
)
def test_what_is_asked_wrongly_is_one_line(
    arguments: list[str], status: int, why: str, redis_url: str
) -> None:
    ran = rqd(*arguments, url=redis_url)

    assert (ran.status, ran.out) == (status, "")
    assert why in ran.err
    assert ran.err.count("\n") == 1
    assert backend_for(redis_url).views.paused() == {}
