"""A server that takes no writes for a while: jobs run on, outcomes are kept, and settled after."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from rqd import Job, Queue
from rqd.cron import register
from rqd.exceptions import ServerUnavailableError
from tests import jobs
from tests.cli.running import Ran, rqd
from tests.daemons import Daemon, StartDaemon
from tests.servers import RedisServer
from tests.waiting import eventually, has_text

EX_UNAVAILABLE = 69
# The aim is a second; the machine that runs the tests may have other things to do.
BACK_S = 3.0


@dataclass(frozen=True)
class Fault:
    """How a server comes not to take writes, how it comes to again, and what it answers between."""

    begin: Callable[[RedisServer], Any]
    heal: Callable[[RedisServer], Any]
    says: str


def admin(server: RedisServer) -> Any:
    return redis.Redis.from_url(server.url, decode_responses=True)


def configure(name: str, value: str) -> Callable[[RedisServer], Any]:
    return lambda server: admin(server).config_set(name, value)


def fail_to_save(server: RedisServer) -> None:
    (server.folder / "dump.rdb").mkdir()  # no file can take this name now
    it = admin(server)
    it.config_set("save", "3600 1")
    it.bgsave()
    eventually(lambda: it.info("persistence")["rdb_last_bgsave_status"] == "err")


def save_again(server: RedisServer) -> None:
    (server.folder / "dump.rdb").rmdir()
    admin(server).bgsave()


def run_a_script_without_end(server: RedisServer) -> None:
    it = admin(server)
    it.config_set("lua-time-limit", 20)

    def forever() -> None:
        with suppress(redis.RedisError):
            it.eval("while true do end", 0)

    threading.Thread(target=forever, daemon=True).start()

    def is_busy() -> bool:
        try:
            return not admin(server).ping()
        except redis.ResponseError:
            return True

    eventually(is_busy)


def want_a_password(server: RedisServer) -> None:
    it = admin(server)
    it.config_set("requirepass", "pw")
    it.client_kill_filter(_type="normal", skipme=True)


def want_none(server: RedisServer) -> None:
    redis.Redis.from_url(server.url, password="pw").config_set("requirepass", "")


FAULTS = {
    "OOM": Fault(configure("maxmemory", "1"), configure("maxmemory", "0"), "maxmemory"),
    "READONLY": Fault(
        lambda server: admin(server).replicaof("127.0.0.1", 1),
        lambda server: admin(server).replicaof("NO", "ONE"),
        "",  # what blocks is told in other words than what writes
    ),
    "NOREPLICAS": Fault(
        configure("min-replicas-to-write", "1"),
        configure("min-replicas-to-write", "0"),
        "NOREPLICAS",
    ),
    "MISCONF": Fault(fail_to_save, save_again, "MISCONF"),
    "BUSY": Fault(run_a_script_without_end, lambda server: admin(server).script_kill(), "BUSY"),
    "NOAUTH": Fault(want_a_password, want_none, ""),
}


@dataclass(frozen=True)
class Held:
    """A job that runs until it is let go."""

    job: Job[Any]
    history: Path
    fifo: Path

    def let_go(self) -> None:
        self.fifo.write_text("")


def hold(queue: Queue, folder: Path) -> Held:
    history, fifo = folder / "history", folder / "fifo"
    os.mkfifo(fifo)
    job = queue.enqueue(jobs.note_and_hold, str(history), str(fifo))
    eventually(lambda: has_text(history), 10.0, "the job to start")
    return Held(job, history, fifo)


def settles_after(held: Held, daemon: Daemon, since: float) -> float:
    """Seconds until the job is recorded as finished, having run once."""

    def is_finished() -> bool:
        with suppress(redis.RedisError):
            return held.job.is_finished
        return False

    eventually(is_finished, 15.0, daemon.log)
    assert held.history.read_text() == "started\n"
    assert held.job.attempt == 1
    return time.monotonic() - since


@pytest.mark.parametrize("name", [name for name in FAULTS if name != "OOM"])
def test_an_outcome_is_kept_until_the_server_takes_it(
    own_server: RedisServer, start_daemon: StartDaemon, tmp_path: Path, name: str
) -> None:
    fault = FAULTS[name]
    daemon = start_daemon(url=own_server.url)
    held = hold(Queue(connection=own_server.url), tmp_path)

    fault.begin(own_server)
    held.let_go()
    eventually(lambda: "redis is gone, jobs run on" in daemon.log(), 10.0, daemon.log)
    eventually(lambda: fault.says in daemon.log(), 5.0, daemon.log)
    fault.heal(own_server)
    healed = time.monotonic()

    assert settles_after(held, daemon, healed) < BACK_S
    assert "can't be recorded" not in daemon.log()
    assert daemon.stop() == 0


def test_a_full_server_is_emptied_by_who_runs_what_waits_there(
    own_server: RedisServer, start_daemon: StartDaemon
) -> None:
    queue = Queue(connection=own_server.url)
    waiting = [queue.enqueue(jobs.multiply, n, 7) for n in range(20)]
    FAULTS["OOM"].begin(own_server)

    daemon = start_daemon(url=own_server.url)

    eventually(lambda: all(job.is_finished for job in waiting), 10.0, daemon.log)
    assert daemon.stop() == 0


def test_a_large_result_that_waits_for_room_holds_up_no_other_outcome_and_is_recorded_once(
    own_server: RedisServer, start_daemon: StartDaemon
) -> None:
    queue = Queue(connection=own_server.url)
    large = [queue.enqueue(jobs.multiply, "x", 100_000 + n) for n in range(3)]
    small = [queue.enqueue(jobs.multiply, n, 7) for n in range(20)]
    FAULTS["OOM"].begin(own_server)

    daemon = start_daemon("--workers", "4", url=own_server.url)

    eventually(lambda: all(job.is_finished for job in small), 10.0, daemon.log)
    it = admin(own_server)
    lease = it.zscore("{rqd}:leases", large[0].id)
    assert lease is not None
    eventually(lambda: (it.zscore("{rqd}:leases", large[0].id) or 0) > lease, 10.0, daemon.log)
    assert not it.keys("{rqd}:staged:*")
    FAULTS["OOM"].heal(own_server)
    eventually(lambda: all(job.is_finished for job in large), 10.0, daemon.log)
    for n, job in enumerate(large):
        assert job.attempt == 1
        assert [one.return_value for one in job.results()] == ["x" * (100_000 + n)]
    assert not it.keys("{rqd}:staged:*")
    assert daemon.stop() == 0


def test_an_outcome_is_recorded_by_a_full_server_whatever_that_has_refused(
    own_server: RedisServer, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    queue = Queue(connection=own_server.url)
    daemon = start_daemon("--name", "a", url=own_server.url)
    register(jobs.instant, "elsewhere", interval=1, name="tick", connection=own_server.url)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    job = queue.enqueue(jobs.progress_and_hold, str(fifo))
    eventually(lambda: job.is_started, 10.0, daemon.log)

    FAULTS["OOM"].begin(own_server)
    eventually(lambda: FAULTS["OOM"].says in daemon.log(), 10.0, daemon.log)
    it = admin(own_server)
    before = it.hget("{rqd}:master:a", "heartbeat")
    eventually(lambda: it.hget("{rqd}:master:a", "heartbeat") != before, 10.0, daemon.log)
    fifo.write_text("rows")

    eventually(lambda: job.is_finished, BACK_S, daemon.log)
    assert "redis is gone" not in daemon.log()
    assert daemon.stop() == 0


@pytest.mark.parametrize("name", ["OOM", "READONLY", "NOREPLICAS", "MISCONF", "BUSY"])
def test_a_client_is_told_in_one_line(own_server: RedisServer, name: str) -> None:
    fault = FAULTS[name]
    queue = Queue(connection=own_server.url)
    queue.enqueue(jobs.multiply, 1, 1)

    fault.begin(own_server)
    with pytest.raises(ServerUnavailableError, match="Redis accepts no writes") as caught:
        queue.enqueue(jobs.multiply, 6, 7)
    ran = rqd("enqueue", "tests.jobs.multiply", url=own_server.url)

    assert "\n" not in str(caught.value)
    assert ran.status == EX_UNAVAILABLE
    assert "accepts no writes" in ran.err
    assert ran.err.count("\n") == 1
    fault.heal(own_server)

    def takes_it() -> bool:
        with suppress(ServerUnavailableError):
            return bool(queue.enqueue(jobs.multiply, 6, 7))
        return False

    eventually(takes_it, 5.0, "the server to take writes again")


def test_a_server_that_loads_its_data_is_waited_for(
    own_server: RedisServer, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    it = admin(own_server)
    it.mset({f"other:{number}": "x" * 100 for number in range(300)})
    daemon = start_daemon(url=own_server.url)
    held = hold(Queue(connection=own_server.url), tmp_path)
    it.save()
    own_server.stop()
    own_server.options = (
        "--key-load-delay",
        "5000",
        "--loading-process-events-interval-bytes",
        "1024",
    )
    held.let_go()
    told: list[Ran] = []

    def ask() -> None:
        eventually(own_server.socket_path.exists)  # it is opened before the data is loaded
        told.append(rqd("info", url=own_server.url))

    asking = threading.Thread(target=ask)
    asking.start()
    own_server.start(keep_data=True)
    loaded = time.monotonic()
    asking.join()

    assert settles_after(held, daemon, loaded) < BACK_S
    assert "WARNING redis is gone" in daemon.log()
    assert told[0].status == EX_UNAVAILABLE
    assert "still loads its data" in told[0].err
    assert told[0].err.count("\n") == 1
    assert daemon.stop() == 0


def test_a_server_that_comes_back_gets_the_first_outcome_within_a_second(
    own_server: RedisServer, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon(url=own_server.url)
    held = hold(Queue(connection=own_server.url), tmp_path)
    admin(own_server).save()
    own_server.kill()
    held.let_go()
    eventually(lambda: "redis is gone" in daemon.log(), 10.0, daemon.log)
    # Long enough for the pauses between tries to have grown to their full length.
    begun = time.monotonic()
    eventually(lambda: time.monotonic() - begun > 2.5, 5.0)

    own_server.start(keep_data=True)

    took_s = settles_after(held, daemon, time.monotonic())
    print(f"first outcome {took_s:.2f} s after the server's return")
    assert took_s < BACK_S


def test_lost_scripts_and_killed_connections_delay_nothing(
    own_server: RedisServer, start_daemon: StartDaemon
) -> None:
    daemon = start_daemon("--preload", "tests.jobs", url=own_server.url)
    queue = Queue(connection=own_server.url)
    it = admin(own_server)
    took_s = []
    for number in range(5):
        it.script_flush()
        it.client_kill_filter(_type="normal", skipme=True)
        begun = time.monotonic()
        result = queue.enqueue(jobs.multiply, number, 2).latest_result(timeout=5)
        took_s.append(time.monotonic() - begun)
        assert result is not None
        assert result.return_value == number * 2
    # What wakes it is a marker, and not its look every second.
    assert sorted(took_s)[2] < 0.6, took_s
    assert daemon.stop() == 0


def test_the_log_says_why_a_server_that_was_gone_is_not_to_be_had_by_now(
    own_server: RedisServer, start_daemon: StartDaemon
) -> None:
    daemon = start_daemon(url=own_server.url)
    client = admin(own_server)
    client.config_set("requirepass", "other")
    client.client_kill_filter(_type="normal", skipme=True)

    # As it is told to who asks for little, or for much.
    told = ("Authentication required", "unauthenticated multibulk length")
    eventually(lambda: any(one in daemon.log() for one in told), 10.0, daemon.log)
    assert "WARNING redis is gone, jobs run on" in daemon.log()
    assert all(daemon.log().count(one) <= 1 for one in told)
