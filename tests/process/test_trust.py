"""Who may run code in a daemon: signatures, an allowlist, serializers and sizes."""

from __future__ import annotations

import pickle
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from rqd import Job, Queue, Retry
from rqd.client.connection import Backend
from rqd.exceptions import DeserializationError, SignatureError
from rqd.job import JobStatus
from rqd.model.signing import Keyring
from rqd.results import Result
from tests import callbacks, jobs, minimal_jobs, trusted
from tests.cli.running import rqd
from tests.client.performing import claim, settle
from tests.daemons import StartDaemon
from tests.pickles import call_that_renames, call_that_touches, pickle_that_touches
from tests.waiting import eventually

WAIT_S = 10.0
KEY, NEW_KEY = "a-key-of-enough-characters", "a-newer-key-of-enough-characters"
WITH_KEY = {"RQD_SIGNING_KEY": KEY}


@pytest.fixture
def signed(there: Backend) -> Queue:
    """The queue `default`, of a client with a key."""
    return Queue(connection=Backend(there.store, there.url, Keyring([KEY])))


def ended(job: Job[Any]) -> Result:
    result = job.latest_result(timeout=WAIT_S)
    assert result is not None, f"{job} is {job.get_status()}"
    return result


def change(job: Job[Any], backend: Backend, **fields: str | bytes | int) -> None:
    redis: Any = backend.store.redis
    redis.hset(backend.store.keys.job(job.id), mapping=fields)


# -- signatures


@pytest.mark.parametrize("size", [10, 300_000], ids=["small", "large"])
def test_a_signed_job_runs_and_its_result_is_signed(
    start_daemon: StartDaemon, signed: Queue, size: int
) -> None:
    start_daemon("--require-signed", env=WITH_KEY)
    text = "x" * size
    job = signed.enqueue(trusted.echo, text, ttl=600, retry=Retry(max=2, interval=[0.1, 1e6]))
    assert ended(job).return_value == text
    assert Job.fetch(job.id, signed.connection).args == (text,)


def test_a_changed_job_is_refused_for_good_and_its_neighbour_runs(
    start_daemon: StartDaemon, there: Backend, signed: Queue, tmp_path: Path
) -> None:
    planted = tmp_path / "planted"
    changed = signed.enqueue(trusted.echo, 1, retry=Retry(max=3))
    neighbour = signed.enqueue(trusted.echo, 2)
    change(changed, there, payload=call_that_touches("tests.trusted.echo", planted))
    daemon = start_daemon(env=WITH_KEY)
    result = ended(changed)
    assert (result.type, result.cause) == ("failed", "refused: its signature is wrong")
    assert result.attempt == 1
    assert ended(neighbour).return_value == 2
    changed.refresh()
    assert (changed.is_failed, changed.retries_left, changed.attempt) == (True, 3, 1)
    assert not planted.exists()
    assert "cause='refused: its signature is wrong'" in daemon.log()


def test_no_field_that_decides_can_be_changed(
    start_daemon: StartDaemon, there: Backend, signed: Queue
) -> None:
    changes: list[tuple[str, Any]] = [
        ("func_name", "os.abort"),
        ("serializer", "json"),
        ("timeout", -1),
        ("result_ttl", -1),
        ("failure_ttl", 10**9),
        ("ttl", 10**9),
        ("retries_left", 5),
        ("retry_intervals", "1,1"),
        ("priority", 4000),
        ("signature", "rubbish"),
        ("signature", b"\xff\xfe"),
    ]
    changed = [signed.enqueue(trusted.echo, 1) for _ in changes]
    for job, (field, value) in zip(changed, changes, strict=True):
        change(job, there, **{field: value})
    start_daemon("--burst", env=WITH_KEY).wait()
    for job, what in zip(changed, changes, strict=True):
        assert ended(job).cause == "refused: its signature is wrong", what


def test_a_job_cant_be_moved_to_another_queue_nor_another_id(
    start_daemon: StartDaemon, there: Backend, signed: Queue
) -> None:
    redis, keys = there.store.redis, there.store.keys
    moved, copied = signed.enqueue(trusted.echo, 1), signed.enqueue(trusted.echo, 2)
    change(moved, there, origin="high")
    redis.zadd(keys.ready("high"), {moved.id: 0})
    redis.sadd(f"{keys.prefix}nonempty", "high")
    redis.copy(keys.job(copied.id), keys.job("copy"))
    redis.zadd(keys.ready("default"), {"copy": 0})
    start_daemon("--burst", queues="high,default", env=WITH_KEY).wait()
    for job_id in (moved.id, "copy"):
        job = Job.fetch(job_id, there)
        assert job.cause == "refused: its signature is wrong"
    assert ended(copied).return_value == 2


def test_unsigned_jobs_run_until_signatures_are_required(
    start_daemon: StartDaemon, there: Backend, queue: Queue, signed: Queue
) -> None:
    during = queue.enqueue(trusted.echo, 1)
    start_daemon("--burst", env=WITH_KEY).wait()
    assert during.is_finished
    after = queue.enqueue(trusted.echo, 2)
    start_daemon("--burst", "--require-signed", env=WITH_KEY).wait()
    assert ended(after).cause == "refused: not signed"
    # Its result is the child's, and signed, whoever enqueued it.
    assert Job.fetch(during.id, signed.connection).return_value() == 1
    with pytest.raises(SignatureError):
        _ = Job.fetch(during.id, signed.connection).args


def test_an_unknown_key_parks_the_job_until_the_rotation_has_come(
    start_daemon: StartDaemon, there: Backend, redis_url: str
) -> None:
    new = Keyring([NEW_KEY])
    job = Queue(connection=Backend(there.store, there.url, new)).enqueue(trusted.echo, 7)
    daemon = start_daemon("--require-signed", env=WITH_KEY)
    eventually(lambda: job.get_status() is JobStatus.SCHEDULED, WAIT_S)
    cause = f"parked: signed with key {new.key_ids[0]}, which this daemon lacks"
    assert (job.cause, job.attempt, job.results()) == (cause, 0, [])
    eventually(lambda: "WARNING job parked" in daemon.log(), WAIT_S)
    assert cause in rqd("job", job.id, url=redis_url).out
    daemon.stop()
    # As if its time had come; else it takes half a minute.
    there.store.redis.zadd(there.store.keys.scheduled, {job.id: 1})
    start_daemon("--burst", "--require-signed", env={"RQD_SIGNING_KEY": f"{KEY},{NEW_KEY}"}).wait()
    assert (job.get_status(), job.cause, job.attempt) == (JobStatus.FINISHED, None, 1)
    # The daemon signs with its first key, the producer knows its own only.
    with pytest.raises(SignatureError, match="not ours"):
        job.return_value()


def test_retries_and_requeues_keep_the_signature_valid(
    start_daemon: StartDaemon, signed: Queue, tmp_path: Path
) -> None:
    start_daemon("--require-signed", env=WITH_KEY)
    path = str(tmp_path / "attempts")
    job = signed.enqueue(jobs.fail_until, path, 3, retry=Retry(max=1))
    eventually(lambda: job.is_failed, WAIT_S)
    job.requeue()
    assert eventually(job.return_value, WAIT_S) == "after 3"


def test_a_job_of_a_reused_child_is_signed_and_enqueues_signed_jobs(
    start_daemon: StartDaemon, signed: Queue
) -> None:
    start_daemon("--require-signed", "--jobs-per-child", "5", queues="default,other", env=WITH_KEY)
    for value in (1, 2):
        other = ended(signed.enqueue(trusted.enqueue_signed, value)).return_value
        assert ended(Job.fetch(other, signed.connection)).return_value == value


@pytest.mark.parametrize("env", [{}, WITH_KEY], ids=["no key", "a key"])
def test_only_a_daemon_with_keys_loads_what_signs_and_before_the_fork(
    start_daemon: StartDaemon, there: Backend, env: dict[str, str]
) -> None:
    start_daemon(env=env)
    keyring = Keyring([KEY]) if env else None
    queue = Queue(connection=Backend(there.store, there.url, keyring))
    result = ended(queue.enqueue(minimal_jobs.loaded, "hmac", "hashlib", "rqd.model.allowlist"))
    assert result.return_value == (["hmac", "hashlib"] if env else [])


def test_a_key_in_a_file_serves_and_no_process_shows_a_key(
    start_daemon: StartDaemon, signed: Queue, tmp_path: Path, redis_url: str
) -> None:
    file = tmp_path / "keys"
    file.write_text(f"{NEW_KEY}\n{KEY}\n")
    file.chmod(0o600)
    daemon = start_daemon(env={"RQD_SIGNING_KEY_FILE": str(file)})
    job = signed.enqueue(trusted.what_others_see)
    shown = pickle.loads(raw_result(job, signed.connection))
    assert "rqd: zygote" in shown
    shown += daemon.log() + rqd("info", "--json", url=redis_url).out
    shown += rqd("job", job.id, url=redis_url).out
    assert KEY not in shown
    assert NEW_KEY not in shown


def raw_result(job: Job[Any], backend: Backend) -> bytes:
    """The result as it lies in Redis: its signer is a key that the client lacks."""
    ended(job)
    (attempt,) = backend.views.attempts(job.id)
    data = backend.views.result_bytes(job.id, attempt)
    assert data is not None
    return data


# -- the allowlist


def test_what_a_pattern_covers_runs(start_daemon: StartDaemon, queue: Queue) -> None:
    start_daemon("--allow", "tests.trusted.*,shop.*", "--preload", "tests.trusted")
    covered: list[tuple[Any, tuple[Any, ...], Any]] = [
        ("tests.trusted.echo", (5,), 5),
        (trusted.Order(5).ship, ("Oslo",), "5 to Oslo"),
        (trusted.Order.count, (), "Order"),
        (trusted.Order, (5,), trusted.Order(5)),
        (trusted.echo, (trusted.Order(7),), trusted.Order(7)),
    ]
    for function, args, value in covered:
        assert ended(queue.enqueue(function, *args)).return_value == value, function


def test_plain_values_need_no_pattern(start_daemon: StartDaemon, queue: Queue) -> None:
    start_daemon("--allow", "tests.trusted.echo")
    values = [datetime(2026, 1, 2), timedelta(1), uuid4(), {1, 2}, 1 + 2j, b"x"]  # noqa: DTZ001 - as plain as others
    assert ended(queue.enqueue(trusted.echo, values)).return_value == values


def test_what_no_pattern_covers_is_refused_before_it_is_imported(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    start_daemon("--allow", "tests.trusted.*", "--preload", "tests.trusted")
    uncovered: list[tuple[Any, tuple[Any, ...], str]] = [
        (jobs.multiply, (2, 3), "tests.jobs.multiply is not allowed by --allow"),
        ("no_such_module.f", (), "no_such_module.f is not allowed by --allow"),
        (jobs.Callable(), (), "tests.jobs.Callable is not allowed"),
        (
            "tests.trusted.os.system",
            ("true",),
            "os.system is not allowed by --allow: os is no class",
        ),
        ("tests.trusted.system", ("true",), "system is not allowed by --allow: it is posix.system"),
        ("tests.trusted.Queue.all", (), "it is rqd.client.queue.Queue.all"),
        (trusted.echo, (jobs.multiply,), "tests.jobs.multiply is not allowed by --allow"),
        (trusted.half, (), "functools.partial is not allowed"),
        ("abc".upper, (), "builtins.str.upper is not allowed"),
    ]
    for function, args, why in uncovered:
        job = queue.enqueue(function, *args, retry=Retry(max=2))
        result = ended(job)
        assert (result.type, result.attempt) == ("failed", 1), why
        assert (result.cause or "").startswith("refused: "), why
        assert why in (result.cause or "")
        assert job.get_status() is JobStatus.FAILED, why
        assert ended(queue.enqueue(trusted.echo, 1)).return_value == 1, why


@pytest.mark.parametrize("described", ["tests.trusted.echo", "tests.jobs.echo"])
def test_the_allowlist_binds_what_a_pickle_calls_and_not_what_the_record_says(
    start_daemon: StartDaemon, there: Backend, queue: Queue, tmp_path: Path, described: str
) -> None:
    planted = tmp_path / "planted"
    job = queue.enqueue(trusted.echo, 1)
    change(
        job, there, func_name=described, payload=call_that_touches("tests.trusted.echo", planted)
    )
    other = queue.enqueue(trusted.echo, 1)
    change(other, there, payload=pickle.dumps(("tests.jobs.echo", None, (1,), {})))
    start_daemon("--allow", "tests.trusted.*")
    for refused in (job, other):
        assert (ended(refused).cause or "").startswith("refused: ")
    assert not planted.exists()


def test_no_class_is_renamed_into_the_allowlist(
    start_daemon: StartDaemon, there: Backend, queue: Queue, tmp_path: Path
) -> None:
    planted = tmp_path / "planted"
    job = queue.enqueue(trusted.echo, 1)
    change(job, there, payload=call_that_renames(planted, "tests.trusted"))
    by_path = queue.enqueue(trusted.echo, planted)
    start_daemon("--allow", "tests.trusted.*")
    home = type(planted).__module__
    for refused in (job, by_path):
        assert ended(refused).cause == (
            f"refused: {home}.PosixPath is not allowed by --allow: pass str(path), or allow this"
            " name"
        )
    assert not planted.exists()


def test_a_job_imports_no_serializer_that_its_record_names_meanwhile(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    start_daemon("--allow", "tests.trusted.*")
    job = queue.enqueue(trusted.read_as, "this")
    assert ended(job).return_value == ("this is not allowed by --allow", False)


def test_a_callback_reads_no_result_past_the_allowlist(
    start_daemon: StartDaemon, there: Backend, queue: Queue, tmp_path: Path
) -> None:
    planted = tmp_path / "planted"
    job = queue.enqueue(trusted.echo, 1, on_success=callbacks.on_success)
    (held,) = claim(there)
    settle(there, held, "finish", pickle_that_touches(planted))
    start_daemon("--allow", "tests.callbacks.*", "--preload", "rqd.callbacks")
    job.refresh()
    told = ended(Job.fetch(job.callback_ids[0], there)).cause or ""
    touch = f"{Path.__module__}.Path.touch"
    assert f"{touch} is not allowed by --allow" in told
    assert not planted.exists()


def test_a_foreign_serializer_is_not_imported_past_the_allowlist(
    start_daemon: StartDaemon, there: Backend, queue: Queue
) -> None:
    job = queue.enqueue(trusted.echo, 1)
    change(job, there, serializer="antigravity.loads")
    start_daemon("--allow", "tests.trusted.*")
    assert ended(job).cause == "refused: antigravity.loads is not allowed by --allow"


# -- serializers and sizes


def test_a_daemon_of_json_unpickles_nothing(
    start_daemon: StartDaemon, there: Backend, queue: Queue, tmp_path: Path
) -> None:
    planted = tmp_path / "planted"
    as_json = Queue(connection=there, serializer="json")
    good = as_json.enqueue(trusted.echo, {"a": [1, 2.5, None, "ü"]}, meta={"page": 1})
    bad = queue.enqueue(trusted.echo, 1)
    forged = as_json.enqueue(trusted.echo, 1)
    change(forged, there, payload=call_that_touches("tests.trusted.echo", planted))
    start_daemon("--serializers", "json")
    assert ended(good).return_value == {"a": [1, 2.5, None, "ü"]}
    assert (good.args, good.meta) == (({"a": [1, 2.5, None, "ü"]},), {"page": 1})
    assert ended(bad).cause == "refused: its serializer pickle is not among --serializers json"
    assert ended(forged).type == "failed"
    assert not planted.exists()


def test_a_payload_over_the_daemons_limit_fails_its_job_and_no_other(
    start_daemon: StartDaemon, there: Backend, queue: Queue
) -> None:
    inside = queue.enqueue(trusted.echo, "x")
    large = queue.enqueue(trusted.echo, "x" * 300_000)
    hundred = queue.enqueue(trusted.echo, "x" * 70_000)
    there.store.redis.set(there.store.keys.payload(hundred.id), b"x" * 100 * 1024 * 1024)
    last = queue.enqueue(trusted.echo, "y" * 70_000)
    daemon = start_daemon("--payload-limit", "200K")
    why = "refused: its payload has more than 204,800 bytes, the daemon's --payload-limit"
    for job in (large, hundred):
        assert ended(job).cause == why
    assert ended(inside).return_value == "x"
    assert ended(last).return_value == "y" * 70_000
    assert daemon.running


def test_a_payload_of_100_megabytes_in_a_hash_fails_its_job_and_no_other(
    start_daemon: StartDaemon, there: Backend, queue: Queue
) -> None:
    huge, neighbour = queue.enqueue(trusted.echo, 1), queue.enqueue(trusted.echo, 2)
    change(huge, there, payload=b"x" * 100 * 1024 * 1024)
    daemon = start_daemon()
    eventually(lambda: neighbour.is_finished, WAIT_S)
    assert huge.get_status() is JobStatus.FAILED
    assert (huge.cause or "").startswith("refused: its payload lies in its hash, where 104857600")
    assert daemon.running


# -- who unpickles


def test_only_the_child_ever_unpickles(
    start_daemon: StartDaemon, there: Backend, queue: Queue, redis_url: str, tmp_path: Path
) -> None:
    by_call, by_meta, by_result = (tmp_path / name for name in ("call", "meta", "result"))
    job = queue.enqueue(trusted.echo, 1, job_id="planted", meta={"a": 1})
    call = call_that_touches("tests.trusted.echo", by_call)
    change(job, there, payload=call, meta=pickle_that_touches(by_meta))
    shown = [("job", "planted"), ("job", "planted", "--json"), ("info",), ("info", "--json")]

    def look() -> None:
        for command in shown:
            assert rqd(*command, url=redis_url).status == 0

    look()
    start_daemon("--serializers", "json", "--burst").wait()
    look()
    assert job.is_failed
    assert not by_call.exists()
    job.requeue()
    start_daemon()
    assert ended(job).type == "successful"
    assert by_call.exists()  # the child did: the plant is live
    (latest, *_) = there.views.attempts("planted")
    fields: Any = {**latest.fields, "result": pickle_that_touches(by_result)}
    there.store.redis.xadd(there.store.keys.results("planted"), fields)
    look()
    waited = rqd("enqueue", "--wait", "tests.trusted.echo", ":1", url=redis_url)
    assert (waited.status, waited.out) == (0, "1\n")
    assert not by_meta.exists()
    assert not by_result.exists()
    job.return_value()
    assert by_result.exists()
    with pytest.raises((DeserializationError, TypeError)):
        _ = job.meta["a"]
    assert by_meta.exists()
