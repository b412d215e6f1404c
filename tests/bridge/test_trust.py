"""Who may run code by way of a bridge: it vouches for what it takes, and the child's rules hold."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import pytest
import redis

from rqd.bridge.bridge import Bridge
from rqd.client.connection import Backend
from rqd.model.signing import Keyring
from tests.bridge.conftest import Events
from tests.bridge.old_jobs import multiply
from tests.cli.running import rqd
from tests.daemons import StartDaemon
from tests.lacking import needs_rq
from tests.pickles import pickle_that_touches
from tests.servers import RedisServer
from tests.topology.test_acl import printed_for
from tests.waiting import eventually

rq = needs_rq()
KEY = "a-key-of-enough-characters"
WITH_KEY = {"RQD_SIGNING_KEY": KEY}


@pytest.fixture
def signing_bridge(redis_url: str, events: Events) -> Bridge:
    return Bridge(Backend(None, redis_url, Keyring([KEY])), ["default"], events)


def serve_to_the_end(bridge: Bridge) -> None:
    eventually(lambda: (bridge.turn(), not bridge.has_work())[1], 15)


def test_a_bridge_with_keys_vouches_for_what_it_takes(
    rq_queue: Any, signing_bridge: Bridge, start_daemon: StartDaemon
) -> None:
    start_daemon("--require-signed", env=WITH_KEY)
    job = rq_queue.enqueue(multiply, 6, 7, meta={"page": 1})

    serve_to_the_end(signing_bridge)

    assert job.return_value() == 42
    assert job.get_meta() == {"page": 1}


def test_a_bridge_without_keys_has_its_jobs_refused_where_signatures_are_required(
    rq_queue: Any, bridge: Bridge, start_daemon: StartDaemon
) -> None:
    start_daemon("--require-signed", env=WITH_KEY)
    job = rq_queue.enqueue(multiply, 6, 7)

    serve_to_the_end(bridge)

    assert "not signed" in job.latest_result().exc_string


@pytest.mark.parametrize("field", ["result", "meta"])
def test_a_forged_result_or_meta_never_reaches_rq(
    rq_queue: Any,
    signing_bridge: Bridge,
    start_daemon: StartDaemon,
    redis_client: redis.Redis,
    tmp_path: Path,
    field: str,
) -> None:
    job = rq_queue.enqueue(multiply, 6, 7, meta={"page": 1})
    while signing_bridge.turn():
        pass
    daemon = start_daemon(env=WITH_KEY)  # not before: a turn must not see the job's end
    key = f"{{rqd}}:job:{job.id}"
    eventually(lambda: redis_client.hget(key, "status") == b"finished", 15, daemon.log)
    forged = pickle_that_touches(tmp_path / "touched")
    if field == "meta":
        redis_client.hset(key, "meta", forged)
    else:
        entries: Any = redis_client.xrange(f"{key}:results")
        ((entry_id, fields),) = entries
        redis_client.xtrim(f"{key}:results", 0)
        redis_client.xadd(
            f"{key}:results", {**fields, b"result": forged}, id=f"{entry_id.decode()}1"
        )

    serve_to_the_end(signing_bridge)

    assert job.get_status().value == "failed"
    assert "wrong signature" in job.latest_result().exc_string
    assert not (tmp_path / "touched").exists()


def test_the_allowlist_holds_for_the_function_within(
    rq_queue: Any, bridge: Bridge, start_daemon: StartDaemon
) -> None:
    start_daemon("--allow", "tests.bridge.old_jobs.multiply")
    good, bad = rq_queue.enqueue(multiply, 6, 7), rq_queue.enqueue("os.system", "true")

    serve_to_the_end(bridge)

    assert good.return_value() == 42
    assert "os.system is not allowed" in bad.latest_result().exc_string


@pytest.mark.parametrize("allow", [(), ("--allow", "tests.*")])
def test_a_bridge_never_unpickles_and_a_child_only_what_is_allowed(
    rq_queue: Any,
    bridge: Bridge,
    start_daemon: StartDaemon,
    redis_client: redis.Redis,
    tmp_path: Path,
    allow: tuple[str, ...],
) -> None:
    job = rq_queue.enqueue(multiply, 6, 7)
    touched = tmp_path / "touched"
    redis_client.hset(job.key, "data", zlib.compress(pickle_that_touches(touched)))
    while bridge.turn():
        pass
    assert not touched.exists()
    if allow:
        start_daemon(*allow)
        serve_to_the_end(bridge)
        assert not touched.exists()


def test_the_printed_user_of_a_bridge_can_run_it_and_no_other_can(
    server: RedisServer, redis_url: str, redis_client: redis.Redis, rq_queue: Any
) -> None:
    admin: Any = redis_client
    printed = rqd("acl", "--bridge", "--user", "bridge", url=redis_url)
    words = [word.replace(">PASSWORD", ">pw") for word in printed.out.split()]
    try:
        admin.execute_command(*words)
        admin.execute_command(*printed_for(redis_url))
        job = rq_queue.enqueue(multiply, 1, 1, repeat=rq.Repeat(times=1))
        as_user = redis_url.replace("unix://", "unix://bridge:pw@")
        ran = rqd("bridge", "rq", "-q", "default", "--burst", url=as_user)
        denied = rqd(
            "bridge", "rq", "-q", "default", url=redis_url.replace("unix://", "unix://rqd:pw@")
        )
    finally:
        admin.acl_deluser("bridge", "rqd")

    assert (ran.status, ran.out) == (0, "taken 1, refused 1, ended 0\n"), ran.err
    assert job.get_status().value == "failed"
    assert denied.status != 0
    assert "rqd acl --bridge" in denied.err
