"""Whatever stands in Redis, and whatever a job does to its process: the master goes on, and the
jobs beside it complete.
"""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rqd import Queue, Retry
from rqd.command import send_stop_job_command
from rqd.daemon.zygote import protocol
from rqd.daemon.zygote.protocol import encode_frame
from rqd.job import Job
from rqd.results import Result
from tests import hostile_jobs, jobs
from tests.daemons import Daemon, StartDaemon
from tests.lacking import ROOT_ALONE
from tests.waiting import eventually

WAIT_S = 10.0
MEGABYTE = 1024 * 1024
P = "{rqd}:"


def ended(job: Job[Any]) -> Result:
    result = job.latest_result(timeout=WAIT_S)
    assert result is not None, f"{job} is {job.get_status()}"
    return result


def works(queue: Queue) -> bool:
    """The jobs beside the bad one complete."""
    return bool(ended(queue.enqueue(jobs.multiply, 2, 3)).return_value == 6)


def is_well(daemon: Daemon) -> bool:
    """It ends as it should, and nothing in its log is a traceback of its own."""
    assert daemon.stop() == 0
    assert "rqd/daemon/master.py" not in daemon.log()
    return True


# -- what stands in Redis


def test_a_payload_or_serializer_that_is_none_fails_its_job(
    start_daemon: StartDaemon, queue: Queue, redis_client: Any
) -> None:
    damage = [("payload", data) for data in (b"", b"no pickle", pickle.dumps(7), b"\x80\x05\xff")]
    damage += [
        ("serializer", name) for name in (b"none such", b"os.system", b"\xff", b"tests.jobs")
    ]
    damaged = [queue.enqueue(jobs.multiply, 1, 1) for _ in damage]
    for job, (field, value) in zip(damaged, damage, strict=True):
        redis_client.hset(f"{P}job:{job.id}", field, value)
    daemon = start_daemon()
    for job, what in zip(damaged, damage, strict=True):
        assert ended(job).type == "failed", what
    assert works(queue)
    assert is_well(daemon)


def test_a_function_or_module_that_is_not_there_fails_its_job_with_its_name(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    start_daemon()
    for name in ("tests.jobs.nothing", "no_such_module.f", "tests.jobs.calls", "os.path"):
        result = ended(queue.enqueue(name))
        assert "InvalidCallError" in (result.cause or ""), result.cause
        assert name.rpartition(".")[2] in (result.cause or "") or name in (result.cause or "")
    assert works(queue)


def test_a_module_that_breaks_at_its_import_fails_its_job(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path
) -> None:
    breaking = {
        "raise RuntimeError('not today')": "raised RuntimeError: not today",
        "def f(: pass": "raised SyntaxError",
        "import no_such_thing": "raised ModuleNotFoundError: No module named 'no_such_thing'",
        "import sys; sys.exit(3)": "raised SystemExit: 3",
        "import os; os._exit(3)": "crashed: exit status 3",
        "import os; os.kill(os.getpid(), 9)": "crashed: SIGKILL",
        "import time\nwhile True: time.sleep(0.01)": "timed out after 0.5 s",
    }
    for number, source in enumerate(breaking):
        (tmp_path / f"breaking_{number}.py").write_text(source)
    start_daemon("--path", str(tmp_path), "--path", ".")
    for number, (source, cause) in enumerate(breaking.items()):
        result = ended(queue.enqueue(f"breaking_{number}.f", job_timeout=0.5))
        assert (result.cause or "").startswith(cause), source
        assert works(queue), source


def test_ids_without_jobs_and_jobs_of_another_type_are_passed_over(
    start_daemon: StartDaemon, queue: Queue, redis_client: Any
) -> None:
    gone, other = queue.enqueue(jobs.multiply, 1, 1), queue.enqueue(jobs.multiply, 1, 1)
    redis_client.delete(f"{P}job:{gone.id}", f"{P}job:{other.id}")
    redis_client.set(f"{P}job:{other.id}", "no hash")
    redis_client.zadd(f"{P}queue:default", {"never": -5, b"\xff\x00": -4, "a b": -3})
    redis_client.hset(f"{P}job:a b", mapping={"status": "queued", "origin": "default"})
    redis_client.zadd(f"{P}leases", {"never": 1, other.id: 1, b"\xff": 1})
    redis_client.zadd(f"{P}scheduled", {"never": 1, b"\xff": 1, "endless": float("inf")})
    daemon = start_daemon()
    assert works(queue)
    assert redis_client.zcard(f"{P}queue:default") == 0
    eventually(lambda: redis_client.zcard(f"{P}leases") == 0)
    assert is_well(daemon)


def test_jobs_with_damaged_numbers_fail_at_once_and_say_so(
    start_daemon: StartDaemon, queue: Queue, redis_client: Any
) -> None:
    damage = [
        ("timeout", "0x10"),
        ("timeout", "nan"),
        ("retries_left", "1.5"),
        ("retries_used", "-5"),
        ("attempt", "x"),
        ("losses", "inf"),
    ]
    # Some of its numbers are read only of a job that has retries.
    damaged = [queue.enqueue(jobs.multiply, 1, 1, retry=Retry(1)) for _ in damage]
    for job, (field, value) in zip(damaged, damage, strict=True):
        # As of jobs that were started before: a first start has no use for the others.
        fields = {"started_at": "1", field: value}
        redis_client.hset(f"{P}job:{job.id}", mapping=fields)
    daemon = start_daemon()
    for job, what in zip(damaged, damage, strict=True):
        assert (ended(job).cause or "").startswith("damaged: "), what
    assert works(queue)
    for job in damaged:
        told = f"ERROR job failed job_id={job.id} queue=default cause='damaged: "
        assert daemon.log().count(told) == 1, daemon.log()
    assert is_well(daemon)


def test_damaged_retry_intervals_are_none(
    start_daemon: StartDaemon, queue: Queue, redis_client: Any
) -> None:
    every = ("nan", "inf", "-5", "1e300", "x", "1,,2", ",")
    damaged = [queue.enqueue(jobs.fail, retry=Retry(1, 1000)) for _ in every]
    for job, intervals in zip(damaged, every, strict=True):
        redis_client.hset(f"{P}job:{job.id}", "retry_intervals", intervals)
    daemon = start_daemon()
    for job, intervals in zip(damaged, every, strict=True):
        eventually(lambda job=job: job.is_failed, WAIT_S, intervals)  # type: ignore[misc]  # bound now
    assert works(queue)
    assert is_well(daemon)


def test_a_payload_beyond_the_clients_limit_is_refused_unless_the_daemon_takes_it(
    start_daemon: StartDaemon, queue: Queue, redis_client: Any
) -> None:
    huge = pickle.dumps(("tests.hostile_jobs.length", None, (bytes(100 * MEGABYTE),), {}))

    def planted(where: str) -> Job[Any]:
        job = queue.enqueue(hostile_jobs.length, b"x" * 70_000)
        if where == "beside":
            redis_client.set(f"{P}job:{job.id}:payload", huge)
        else:
            redis_client.hset(f"{P}job:{job.id}", mapping={"payload": huge})
        return job

    beside, inside = planted("beside"), planted("inside")
    daemon = start_daemon()
    for job in (beside, inside):
        assert (ended(job).cause or "").startswith("refused: ")
    assert works(queue)
    assert is_well(daemon)
    beside = planted("beside")
    generous = start_daemon("--payload-limit", "200M")
    assert ended(beside).return_value == 100 * MEGABYTE
    assert works(queue)
    assert is_well(generous)


def test_a_large_payload_that_is_gone_or_none_fails_its_job(
    start_daemon: StartDaemon, queue: Queue, redis_client: Any
) -> None:
    gone, other = (queue.enqueue(hostile_jobs.length, b"x" * 70_000) for _ in range(2))
    redis_client.delete(f"{P}job:{other.id}:payload", f"{P}job:{gone.id}:payload")
    redis_client.rpush(f"{P}job:{other.id}:payload", "no string")
    daemon = start_daemon()
    for job in (gone, other):
        assert "its payload is gone from Redis" in (ended(job).cause or "")
    assert works(queue)
    assert is_well(daemon)


def test_values_that_were_staged_long_ago_are_left_to_expire(
    start_daemon: StartDaemon, queue: Queue, redis_client: Any
) -> None:
    redis_client.set(f"{P}staged:old", "x" * 100, ex=600)
    redis_client.rpush(f"{P}staged:other", "no string")
    daemon = start_daemon()
    assert ended(queue.enqueue(hostile_jobs.large_result, 70_000)).return_value == bytes(70_000)
    assert works(queue)
    assert is_well(daemon)


@pytest.mark.parametrize(
    "key", ["queues", "nonempty", "counters", "leases", "scheduled", "masters", "master:alpha"]
)
def test_a_shared_key_of_another_type_is_told_of_and_all_goes_on_once_it_is_gone(
    start_daemon: StartDaemon, queue: Queue, redis_client: Any, key: str, fifo: str
) -> None:
    daemon = start_daemon("--name", "alpha", workers=2)
    held = queue.enqueue(jobs.hold, fifo)
    eventually(lambda: held.is_started)
    ready = queue.enqueue(jobs.multiply, 2, 2)
    ended(ready)
    redis_client.delete(P + key)
    redis_client.set(P + key, "not rqd's")
    daemon.signal(signal.SIGCONT)  # a heartbeat at once: some of them nothing else looks at
    Path(fifo).write_text("")
    eventually(lambda: f"{P}{key} holds something that is not rqd's" in daemon.log(), 8.0)
    assert daemon.log().count("holds something") < 10
    redis_client.delete(P + key)
    assert ended(held).return_value == "done"
    assert held.attempt == 1
    assert works(queue)
    assert is_well(daemon)


@pytest.mark.parametrize(
    "key", ["control:alpha", "wake:master:alpha", "wake:queue:default", "turn:alpha",
            "worker:alpha:1", "stats:default", "queue:default:finished"],
)  # fmt: skip
def test_a_masters_or_queues_key_of_another_type_does_not_stop_jobs(
    start_daemon: StartDaemon, queue: Queue, redis_client: Any, key: str
) -> None:
    daemon = start_daemon("--name", "alpha")
    waiting = [queue.enqueue(jobs.multiply, n, 1) for n in range(5)]
    redis_client.delete(P + key)
    redis_client.set(P + key, "not rqd's")
    assert [ended(job).return_value for job in waiting] == [0, 1, 2, 3, 4]
    assert daemon.log().count("wake") <= 3
    redis_client.delete(P + key)
    assert works(queue)
    assert is_well(daemon)


def test_garbage_in_the_markers_and_among_the_commands_ends_no_master(
    start_daemon: StartDaemon, queue: Queue, redis_client: Any
) -> None:
    daemon = start_daemon("--name", "alpha")
    garbage = [b"[" * 100_000, b'{"id": "\\ud800"}', b'{"id": "\xff"}', b'{"id": 1e999}', b"\xff"]
    redis_client.rpush(f"{P}control:alpha", *garbage * 50, b'{"id": "s", "do": "stop"}')
    redis_client.zadd(f"{P}wake:queue:default", {b"\xff": 0})
    redis_client.zadd(f"{P}wake:master:alpha", {b"\xfe": 0, "command": 1})
    assert daemon.wait(15.0) == 0
    assert "rqd/daemon" not in daemon.log()


# -- what a job does


def test_a_poison_job_uses_up_its_retries_and_its_neighbours_complete(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path
) -> None:
    path = tmp_path / "deaths"
    poison = queue.enqueue(hostile_jobs.die_each_time, str(path), retry=Retry(3))
    others = [queue.enqueue(jobs.multiply, n, 1) for n in range(10)]
    daemon = start_daemon(workers=2)
    assert [ended(job).return_value for job in others] == list(range(10))
    eventually(lambda: poison.is_failed, WAIT_S)
    assert path.read_text() == "xxxx"
    assert poison.cause == "crashed: SIGKILL"
    assert is_well(daemon)


def test_a_result_beyond_the_limit_fails_its_job_and_says_so(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    daemon = start_daemon()
    result = ended(queue.enqueue(hostile_jobs.large_result, 100 * MEGABYTE))
    assert "PayloadTooLargeError: the result takes 104,8" in (result.cause or "")
    assert works(queue)
    assert is_well(daemon)


FORGED = pickle.dumps("forged"), b"forged", *[b"1"] * 4


BREAKING = (
    b"\xff" * 20,
    b"\x00" * 20,
    encode_frame(protocol.SUCCEEDED, b"x"),
    encode_frame(99, *[b"1"] * 6),
    encode_frame(protocol.RAISED, b"a", b"b", b"c", *[b"9" * 400] * 4),
    encode_frame(protocol.SUCCEEDED, *FORGED),
)


@pytest.mark.parametrize("per_child", [1, 100])
def test_a_job_that_breaks_its_channel_is_killed_and_fails(
    start_daemon: StartDaemon, queue: Queue, fifo: str, per_child: int
) -> None:
    daemon = start_daemon("--jobs-per-child", str(per_child))
    for data in BREAKING:
        # It would wait at the pipe for ever.
        result = ended(queue.enqueue(hostile_jobs.write_to_channel, data, fifo))
        assert "the job broke its channel" in (result.cause or ""), data
        assert works(queue), data
    assert is_well(daemon)


def test_a_child_that_has_answered_and_stays_is_killed(
    start_daemon: StartDaemon, queue: Queue, fifo: str
) -> None:
    daemon = start_daemon()
    forged = queue.enqueue(hostile_jobs.answer_from_a_grandchild, FORGED, fifo)
    assert ended(forged).return_value == "forged"  # who can write there is the job
    assert works(queue)
    assert is_well(daemon)


@pytest.mark.parametrize("per_child", [1, 100])
def test_a_grandchild_that_returns_before_the_job_answers_nothing(
    start_daemon: StartDaemon, queue: Queue, per_child: int
) -> None:
    start_daemon("--jobs-per-child", str(per_child))
    for value in (7, 8):
        job = queue.enqueue(hostile_jobs.return_in_a_grandchild_first, value)
        assert ended(job).return_value == value
    assert works(queue)


@pytest.mark.parametrize("per_child", [1, 100])
def test_a_job_that_closes_every_descriptor_fails_as_a_crash(
    start_daemon: StartDaemon, queue: Queue, per_child: int
) -> None:
    daemon = start_daemon("--jobs-per-child", str(per_child))
    assert (ended(queue.enqueue(hostile_jobs.close_every_descriptor)).cause or "") == (
        "crashed: exit status 70"
    )
    assert works(queue)
    assert is_well(daemon)


@pytest.mark.parametrize("per_child", [1, 2, 100])
@pytest.mark.parametrize("timeout", [-1, 60])
def test_a_job_that_turns_its_channel_fails_as_a_crash_once_it_returns(
    start_daemon: StartDaemon, queue: Queue, per_child: int, timeout: int
) -> None:
    daemon = start_daemon("--jobs-per-child", str(per_child))
    result = ended(queue.enqueue(hostile_jobs.turn_the_channel, job_timeout=timeout))
    assert result.cause == "crashed: exit status 70"
    assert "the job has put something else in the place of its channel" in result.output
    assert works(queue)
    assert is_well(daemon)


@pytest.mark.parametrize(
    ("function", "word"),
    [(hostile_jobs.turn_the_mailbox, "turned"), (hostile_jobs.close_the_mailbox, "closed")],
)
def test_a_job_that_breaks_what_brings_the_next_one_holds_up_nobody(
    start_daemon: StartDaemon, queue: Queue, function: Callable[[], str], word: str
) -> None:
    daemon = start_daemon("--jobs-per-child", "100")
    assert ended(queue.enqueue(function, job_timeout=-1)).return_value == word
    assert works(queue)
    assert is_well(daemon)


@pytest.mark.skipif(os.geteuid() != 0, reason=ROOT_ALONE)
def test_a_job_that_became_another_user_is_killed_at_its_timeout(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    daemon = start_daemon("--preload", "tests.hostile_jobs")
    # Time enough to become nobody; then it hears of no timeout.
    result = ended(queue.enqueue(hostile_jobs.become_nobody, job_timeout=1))
    assert result.cause == "timed out after 1 s, killed as it did not stop"
    assert "user 65534" in result.output
    assert works(queue)
    assert is_well(daemon)


@pytest.mark.skipif(os.geteuid() != 0, reason=ROOT_ALONE)
def test_a_job_of_another_user_whom_the_daemon_may_not_kill_ends_no_other_and_dies_with_it(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    daemon = start_daemon(
        *("--preload", "tests.hostile_jobs", "--grace", "1"),
        workers=2,
        within=("setpriv", "--bounding-set=-kill", "--inh-caps=-kill"),
    )
    zygote = daemon.zygote()
    job = queue.enqueue(hostile_jobs.become_nobody, job_timeout=-1)
    eventually(lambda: "user 65534" in daemon.log(), WAIT_S, daemon.log)
    send_stop_job_command(queue.connection, job.id, grace=0)
    eventually(lambda: "job is to stop" in daemon.log(), WAIT_S, daemon.log)

    for _ in range(3):  # for each but the first one the zygote forks after it has heard of the kill
        assert works(queue)

    assert daemon.zygote() == zygote
    assert daemon.stop() == 75  # that one job's end is not recorded
    assert not daemon.leftovers()
