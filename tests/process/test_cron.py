"""Cron entries through real daemons: each run once, however many there are and whoever dies."""

from __future__ import annotations

import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rqd import Queue
from rqd.client.connection import Backend, use_redis
from rqd.cron import CronJob, entries, fetch, register
from rqd.job import Job
from rqd.store.queries import Queries
from tests import jobs
from tests.cli.running import rqd
from tests.daemons import StartDaemon
from tests.servers import RedisServer
from tests.waiting import eventually

KEY = "a-signing-key-of-the-tests"
FILE = """
[tick]
func = "tests.jobs.instant"
interval = 1
queue = "default"
timeout = "10s"

[yearly]
func = "tests.jobs.echo"
args = ["happy new year"]
cron = "@yearly"
timezone = "Europe/Berlin"
meta = {sender = "cron"}
"""


def runs_of(entry: CronJob, queue: Queue) -> list[str]:
    prefix = f"cron-{entry.name}-2"
    found = [*queue.finished_job_registry.get_job_ids(), *queue.started_job_registry.get_job_ids()]
    return sorted(name for name in {*found, *queue.job_ids} if name.startswith(prefix))


def after_runs(name: str, count: int, there: Backend) -> Callable[[], bool]:
    return lambda: fetch(name, there).runs >= count


def test_each_run_is_made_once_by_two_masters_of_which_one_is_killed(
    start_daemon: StartDaemon, there: Backend, queue: Queue
) -> None:
    first, second = start_daemon("--name", "a"), start_daemon("--name", "b")
    entry = register(jobs.instant, "default", interval=1, name="tick", connection=there)
    eventually(after_runs("tick", 2, there))

    first.signal(signal.SIGKILL)
    eventually(after_runs("tick", 4, there))
    fetch("tick", there).pause()

    seen = fetch("tick", there)
    eventually(lambda: len(runs_of(entry, queue)) == seen.runs)
    made = runs_of(entry, queue)
    times = [datetime.strptime(name[10:], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) for name in made]
    assert times == [times[0] + n * timedelta(seconds=1) for n in range(seen.runs)]
    assert (seen.last_run, seen.last_job_id) == (times[-1], made[-1])
    # The first line of the function ran soon after the time it was for.
    late_s = []
    for name, at in zip(made, times, strict=True):
        result = Job.fetch(name, there).latest_result(timeout=20)
        assert result is not None
        late_s.append(result.return_value - at.timestamp())
    assert min(late_s) >= 0
    assert sorted(late_s)[len(late_s) // 2] < 0.3, late_s
    assert second.running


def test_however_many_entries_are_refused_the_ones_behind_them_run(
    start_daemon: StartDaemon, there: Backend
) -> None:
    redis, keys = there.store.redis, there.store.keys
    redis.set(keys.ready("broken"), "not ours")
    for n in range(45):
        register(jobs.instant, "broken", cron="@yearly", name=f"broken-{n}", connection=there)
        redis.zadd(keys.crons, {f"broken-{n}": 1})
    register(jobs.instant, "default", interval=1, name="tick", connection=there)

    start_daemon()

    eventually(after_runs("tick", 2, there))
    redis.delete(keys.ready("broken"))
    eventually(lambda: redis.zcount(keys.crons, 1, 1) == 0)


def test_a_daemon_loads_a_file_and_runs_what_is_signed_there(
    start_daemon: StartDaemon, there: Backend, tmp_path: Path
) -> None:
    use_redis(there.url, signing_keys=[KEY])
    path = tmp_path / "cron.toml"
    path.write_text(FILE)
    start_daemon("--require-signed", "--cron", str(path), env={"RQD_SIGNING_KEY": KEY})
    assert [(one.name, one.state) for one in entries()] == [
        ("tick", "active"),
        ("yearly", "active"),
    ]
    eventually(after_runs("tick", 1, there))
    run = fetch("tick").last_job_id
    assert run is not None

    by_hand = fetch("yearly").run()

    for job in (Job.fetch(run), by_hand):
        job.latest_result(timeout=10)
        assert job.is_finished, job.exc_info
    assert (by_hand.return_value(), by_hand.meta) == ("happy new year", {"sender": "cron"})
    # Moved to a job of another name, a run's signature is none.
    redis, keys = there.store.redis, there.store.keys
    redis.copy(keys.job(by_hand.id), keys.job("moved"))
    redis.hset(keys.job("moved"), mapping={"status": "queued", "score": 1})
    redis.zadd(keys.ready("default"), {"moved": 1})
    redis.sadd(f"{keys.prefix}nonempty", "default")
    redis.zadd(keys.wake_queue("default"), {"look": 0})
    moved = Job.fetch("moved")
    eventually(lambda: moved.is_failed)
    assert moved.cause == "refused: its signature is wrong"


def test_a_reload_reads_the_file_again_and_a_broken_one_leaves_all_as_it_was(
    start_daemon: StartDaemon, there: Backend, tmp_path: Path
) -> None:
    path = tmp_path / "cron.toml"
    path.write_text(FILE)
    daemon = start_daemon("--cron", str(path), "--name", "m")
    reload = ("reload", "--url", there.url)
    assert {one.name for one in entries(there)} == {"tick", "yearly"}

    path.write_text(FILE.replace("interval = 1", "intervall = 1"))
    refused = rqd(*reload)
    assert (refused.status, "m: refused, the old code serves on:" in refused.out) == (1, True)
    assert "[tick]: there is no intervall = .. (did you mean interval?)" in refused.out
    assert {one.name for one in entries(there)} == {"tick", "yearly"}

    path.write_text(FILE.replace("[yearly]", "[each-year]"))
    assert rqd(*reload).status == 0
    eventually(lambda: {one.name for one in entries(there)} == {"tick", "each-year"})
    assert daemon.running


def test_a_reload_brings_back_what_was_removed_and_leaves_paused_what_was_paused(
    start_daemon: StartDaemon, there: Backend, tmp_path: Path
) -> None:
    path = tmp_path / "cron.toml"
    path.write_text(FILE)
    start_daemon("--cron", str(path))
    fetch("tick", there).remove()
    fetch("yearly", there).pause()

    assert rqd("reload", "--url", there.url).status == 0

    eventually(lambda: {one.name for one in entries(there)} == {"tick", "yearly"})
    eventually(after_runs("tick", 1, there))
    assert fetch("yearly", there).is_paused


def test_a_redis_emptied_under_its_daemons_gets_each_ones_entries_again_and_once(
    start_daemon: StartDaemon, there: Backend, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    first.write_text(FILE)
    second.write_text(FILE.replace("[tick]", "[tock]").replace("[yearly]", "[each-year]"))
    for name, path in (("a", first), ("b", first), ("c", second)):
        start_daemon("--cron", str(path), "--name", name)

    there.store.redis.flushdb()
    # Not alone: that there are entries again is not that all are.
    register(jobs.instant, "default", cron="@yearly", name="of-a-script", connection=there)

    names = {"of-a-script", "tick", "yearly", "tock", "each-year"}
    eventually(lambda: {one.name for one in entries(there)} == names, timeout_s=10)
    eventually(after_runs("tick", 2, there))
    fetch("tock", there).remove()
    at_us = Queries(there.store).now_us()
    eventually(lambda: (Queries(there.store).heartbeat_us("c") or 0) > at_us, timeout_s=10)
    assert "tock" not in {one.name for one in entries(there)}  # once, until the next reload


def test_a_redis_that_comes_back_empty_gets_the_files_entries_again(
    start_daemon: StartDaemon, own_server: RedisServer, tmp_path: Path
) -> None:
    path = tmp_path / "cron.toml"
    path.write_text(FILE)
    start_daemon("--cron", str(path), url=own_server.url)
    assert {one.name for one in entries(own_server.url)} == {"tick", "yearly"}

    own_server.restart(keep_data=False)

    eventually(lambda: {one.name for one in entries(own_server.url)} == {"tick", "yearly"})
    eventually(lambda: fetch("tick", own_server.url).runs >= 1)
