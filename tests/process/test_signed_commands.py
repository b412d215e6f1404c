"""What a master that insists on signatures is told through Redis, by whom."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from rqd import Queue
from rqd.client.connection import Backend
from rqd.command import send_kill_horse_command, send_shutdown_command
from rqd.exceptions import ConfigurationError, RqdError
from rqd.model.signing import Keyring
from rqd.stacks import live_stack
from rqd.store.live import ask
from tests import jobs
from tests.cli.running import rqd
from tests.daemons import StartDaemon
from tests.waiting import eventually

WAIT_S = 10.0
KEY, OTHER_KEY = "a-key-of-enough-characters", "another-key-of-enough-characters"
WITH_KEY = {"RQD_SIGNING_KEY": KEY}
WITH_OTHER = {"RQD_SIGNING_KEY": OTHER_KEY}
LACKS = "it obeys signed commands only: set RQD_SIGNING_KEY or RQD_SIGNING_KEY_FILE"


@pytest.fixture
def trusted(there: Backend) -> Backend:
    """The same server, for who has the key."""
    return Backend(there.store, there.url, Keyring([KEY]))


def commands_of(there: Backend) -> list[bytes]:
    redis: Any = there.store.redis
    return list(redis.lrange(f"{there.store.keys.prefix}control:alpha", 0, -1))


def test_each_command_is_obeyed_of_who_has_the_key(
    start_daemon: StartDaemon, trusted: Backend, fifo: str
) -> None:
    daemon = start_daemon("--name", "alpha", "--require-signed", env=WITH_KEY)
    job = Queue(connection=trusted).enqueue(jobs.hold, fifo)
    eventually(lambda: job.is_started, WAIT_S)
    for arguments in (
        ["scale", "3"],
        ["pause", "--all-masters", "--no-wait"],
        ["resume", "--all-masters"],
        ["reload"],
        ["stack", job.id],
        ["job", job.id, "extend", "--by", "60"],
        ["logs", job.id],
    ):
        ran = rqd(*arguments, url=trusted.url, env=WITH_KEY)
        assert (ran.status, ran.err) == (0, ""), arguments
    send_kill_horse_command(trusted, "alpha")
    assert job.wait(WAIT_S).cause == "crashed: SIGKILL"
    send_shutdown_command(trusted, "alpha")
    assert daemon.wait() == 0
    assert "refused" not in daemon.log()


def test_who_lacks_the_key_is_told_so_at_once_and_a_job_is_stopped_nevertheless(
    start_daemon: StartDaemon, there: Backend, trusted: Backend, fifo: str
) -> None:
    start_daemon("--name", "alpha", "--require-signed", env=WITH_KEY)
    job = Queue(connection=trusted).enqueue(jobs.hold, fifo)
    eventually(lambda: job.is_started, WAIT_S)
    lacks_it = f"it lacks the key {Keyring([OTHER_KEY]).key_ids[0]}, which signs here"
    for env, why in (({}, LACKS), (WITH_OTHER, lacks_it)):
        for arguments in (
            ["scale", "3"],
            ["stop"],
            ["reload"],
            ["pause", "--master", "alpha"],
        ):
            ran = rqd(*arguments, url=there.url, env=env)
            assert ran.status == 1, arguments
            assert f"refused: {why}" in ran.out, arguments
        for arguments in (["stack", job.id], ["logs", job.id]):
            ran = rqd(*arguments, url=there.url, env=env)
            assert ran.status != 0
            assert why in ran.err, arguments
            assert len(ran.err.splitlines()) == 1
    with pytest.raises(ConfigurationError, match="master 'alpha': it obeys signed commands only"):
        send_shutdown_command(there, "alpha")
    with pytest.raises(RqdError, match="has no stack: it obeys signed commands only"):
        live_stack(job.id, there)
    assert commands_of(there) == []

    job.stop(grace=0)  # is noted in its record, which whoever writes to Redis may delete as well
    assert (job.wait(WAIT_S).cause or "").startswith("stopped by")


def test_what_is_written_past_our_client_is_refused_in_the_log_and_the_answer(
    start_daemon: StartDaemon, there: Backend, trusted: Backend
) -> None:
    daemon = start_daemon("--name", "alpha", "--require-signed", env=WITH_KEY)
    redis: Any = there.store.redis
    control = f"{there.store.keys.prefix}control:alpha"
    for number in range(50):
        stop = {"id": f"s{number}", "do": "stop", "answer": True}
        redis.rpush(control, json.dumps(stop))
    redis.zadd(there.store.keys.wake_master("alpha"), {"command": 0})
    answers = there.store.keys.answers("s49")
    eventually(lambda: redis.exists(answers), WAIT_S)

    told = json.loads(redis.xrange(answers)[0][1][b"answer"])
    assert told["error"].startswith("it is not signed: set RQD_SIGNING_KEY")
    assert daemon.log().count("WARNING command refused") == 1
    assert ask(trusted.store, trusted.views, {"do": "resume"}, ["alpha"], 5, trusted.keyring)[
        "alpha"
    ] == {"state": "idle", "busy": 0, "workers": 1}


def test_a_command_is_not_obeyed_again_by_the_same_master_nor_after_its_restart(
    start_daemon: StartDaemon, there: Backend, trusted: Backend
) -> None:
    daemon = start_daemon("--name", "alpha", "--require-signed", env=WITH_KEY)
    redis: Any = there.store.redis
    control = f"{there.store.keys.prefix}control:alpha"
    daemon.signal(signal.SIGSTOP)
    assert ask(
        trusted.store, trusted.views, {"do": "scale", "by": 1}, ["alpha"], 0.01, trusted.keyring
    ) == {"alpha": None}
    (line,) = redis.lrange(control, 0, -1)
    daemon.signal(signal.SIGCONT)
    eventually(lambda: "workers resized workers=2" in daemon.log(), WAIT_S)

    def replay(seen: int) -> None:
        redis.rpush(control, b'{"id": "between", "do": "resume"}', line)
        redis.zadd(there.store.keys.wake_master("alpha"), {"command": 0})
        eventually(lambda: not redis.exists(control), WAIT_S)
        assert daemon.log().count("workers resized") == seen

    replay(1)
    daemon.signal(signal.SIGKILL)
    daemon.wait()
    daemon = start_daemon("--name", "alpha", "--require-signed", env=WITH_KEY)
    replay(0)


def test_without_require_signed_who_has_no_key_is_obeyed_as_jobs_run(
    start_daemon: StartDaemon, there: Backend
) -> None:
    daemon = start_daemon("--name", "alpha", env=WITH_KEY)
    assert rqd("scale", "2", url=there.url).status == 0
    assert rqd("scale", "3", url=there.url, env=WITH_KEY).status == 0
    refused = rqd("scale", "4", url=there.url, env=WITH_OTHER)
    assert (refused.status, "it lacks the key" in refused.out) == (1, True)
    assert rqd("stop", url=there.url).status == 0
    assert daemon.wait() == 0


def test_a_daemon_without_keys_obeys_who_signs(start_daemon: StartDaemon, there: Backend) -> None:
    daemon = start_daemon("--name", "alpha")
    assert rqd("scale", "2", url=there.url, env=WITH_KEY).status == 0
    assert rqd("stop", url=there.url, env=WITH_KEY).status == 0
    assert daemon.wait() == 0


def test_no_signal_and_no_command_goes_past_the_most_workers(
    start_daemon: StartDaemon, there: Backend
) -> None:
    daemon = start_daemon("--name", "alpha")
    for asked in (1000, 10**9, -1, 0):
        told = {"do": "scale", "by": asked} if asked > 0 else {"do": "scale", "to": asked}
        (answer,) = ask(there.store, there.views, told, ["alpha"]).values()
        assert answer is not None
        assert (answer["error"], answer["workers"]) == ("it can have 1 to 1,000 workers", 1)
    ran = rqd("scale", "1001", url=there.url)
    assert (ran.status != 0, len(ran.err.splitlines())) == (True, 1)
    assert "write 1 to 1,000" in ran.err
    assert daemon.stop() == 0
