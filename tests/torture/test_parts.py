"""The campaign's own parts: the plan, the proxy, and the judgement of rqd's keys."""

import os
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.daemons import ROOT
from tests.servers import RedisServer
from tests.torture.arena import Proxy
from tests.torture.cage import Cage
from tests.torture.faults import GROUPS, Lane, catalogue
from tests.torture.history import Event
from tests.torture.launch import Launched, processes_in
from tests.torture.plan import plan
from tests.torture.systems.rqd_state import final_state
from tests.waiting import eventually

FAULTS = catalogue().faults


def names(lane: Lane, seed: int, count: int, part: int = 0) -> list[str]:
    return [step.fault.name for step in islice(plan(FAULTS, lane, seed, part, 3), count)]


def test_a_seed_gives_the_same_plan_and_another_seed_another() -> None:
    first, again = (list(islice(plan(FAULTS, Lane.REDIS, 7), 60)) for _ in range(2))

    assert first == again
    assert names(Lane.REDIS, 7, 60) != names(Lane.REDIS, 8, 60)


@pytest.mark.parametrize("lane", list(Lane))
def test_the_first_round_has_each_fault_of_its_lane_once(lane: Lane) -> None:
    wanted = sorted(fault.name for fault in FAULTS if fault.lane is lane)

    assert sorted(names(lane, 7, len(wanted))) == wanted


def test_three_masters_come_through_the_first_round_together() -> None:
    wanted = {fault.name for fault in FAULTS if fault.lane is Lane.MASTER}
    third = -(-len(wanted) // 3)

    seen = {name for part in range(3) for name in names(Lane.MASTER, 7, third, part)}

    assert seen == wanted


def test_every_group_has_faults_and_no_name_stands_for_two() -> None:
    every = [fault.name for fault in FAULTS] + [one.name for one in catalogue().not_injected]

    assert {fault.group for fault in FAULTS} == set(GROUPS)
    assert len(set(every)) == len(every)


@pytest.fixture
def proxy(tmp_path_factory: pytest.TempPathFactory, server: RedisServer) -> Iterator[Proxy]:
    server.empty()
    between = Proxy(tmp_path_factory.mktemp("p"), server.socket_path)
    between.start()
    yield between
    between.stop()


def test_the_proxy_loses_the_answer_to_a_command_that_was_carried_out(
    proxy: Proxy, server: RedisServer
) -> None:
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    client = redis.Redis(unix_socket_path=str(proxy.listen), retry=Retry(NoBackoff(), 0))
    assert client.set("a", 1)
    proxy.cut({"set": "SET"}, times=1)

    with pytest.raises(redis.ConnectionError):
        client.set("b", 2)

    assert client.get("b") == b"2"
    assert client.set("c", 3)
    assert proxy.cut({}) == {"set": 1}


def test_what_a_program_started_is_found_by_its_folder_and_dies_with_its_starter(
    tmp_path: Path,
) -> None:
    """The starter is this test's own subprocess, which is killed."""
    program = (
        "import sys, time; from pathlib import Path; from tests.torture.launch import Launched;"
        "import os; here = Path(sys.argv[1]);"
        "Launched(['sleep', '1000'], here, here / 'log', os.environ);"
        "print('up', flush=True); time.sleep(1000)"
    )
    inner = tmp_path / "inner"
    inner.mkdir()
    command = [sys.executable, "-c", program, str(inner)]
    starter = Launched(command, ROOT, tmp_path / "log", os.environ)
    eventually(lambda: "up" in (tmp_path / "log").read_text(), 10.0, "the program runs")
    assert len(processes_in(inner)) == 1

    starter.kill()

    eventually(lambda: processes_in(inner) == [], 5.0, "it dies with its starter")
    starter.close()


def test_a_cage_makes_forks_fail_until_it_is_open_again(tmp_path: Path) -> None:
    cage = Cage(f"test-{os.getpid()}")
    if cage.lacks:
        pytest.skip(cage.lacks)
    program = (
        "import os, sys, time\n"
        "def fork():\n"
        "    try: pid = os.fork()\n"
        "    except BlockingIOError: return print('EAGAIN', flush=True)\n"
        "    if not pid: os._exit(0)\n"
        "    os.wait(); print('forked', flush=True)\n"
        "while True: fork(); time.sleep(0.02)\n"
    )
    log = tmp_path / "log"
    launched = Launched([sys.executable, "-c", program], tmp_path, log, os.environ)
    try:
        cage.hold(launched.pid)
        eventually(lambda: "forked" in log.read_text(), 10.0, "a fork")
        cage.close()
        eventually(lambda: log.read_text().endswith("EAGAIN\n"), 5.0, "a fork fails")
        cage.open()
        eventually(lambda: log.read_text().endswith("forked\n"), 5.0, "a fork again")
    finally:
        launched.kill()
        launched.close()
        cage.remove()


def state(client: redis.Redis) -> list[Event]:
    return list(final_state(client, "{rqd}:"))


def test_keys_that_nothing_leads_to_are_strays_and_those_that_go_by_themselves_are_not(
    redis_client: redis.Redis,
) -> None:
    client: Any = redis_client
    client.sadd("{rqd}:queues", "low")
    client.zadd("{rqd}:wake:queue:low", {"look": 0})
    client.set("{rqd}:turn:m1", "x", ex=60)
    for key in (
        "{rqd}:turn:m2",
        "{rqd}:wake:queue:gone",
        "{rqd}:job:j1:result",
        "other",
        "{rqd}:x",
    ):
        client.set(key, "x")
    client.zadd("{rqd}:leases", {"j2": 1})
    client.zadd("{rqd}:queue:low:scheduled", {"j3": 1})

    found = {event["key"] for event in state(client) if event["ev"] == "stray"}

    wanted = {"{rqd}:turn:m2", "{rqd}:wake:queue:gone", "{rqd}:job:j1:result", "other", "{rqd}:x"}
    assert found == wanted | {"j2", "j3"}


def test_a_job_is_told_with_its_records_its_place_and_whether_it_expires(
    redis_client: redis.Redis,
) -> None:
    client: Any = redis_client
    client.sadd("{rqd}:queues", "low")
    client.zadd("{rqd}:queue:low:finished", {"j1": 1})
    ended = {"status": "finished", "origin": "low", "settled": "7:x", "worker": "m1:2"}
    client.hset("{rqd}:job:j1", mapping=ended)
    client.hset("{rqd}:stats:low", "finished", 2)
    for kind in ("retried", "successful", "successful"):
        client.xadd("{rqd}:job:j1:results", {"type": kind, "pid": 5})

    told = {event["ev"]: event for event in state(client)}

    seen = {k: told["job"][k] for k in ("records", "settled_fence", "master", "expires", "pid")}
    assert seen == {"records": 2, "settled_fence": 7, "master": "m1", "expires": False, "pid": 5}
    assert told["job"]["misplaced"] == ""
    assert told["miscount"]["what"] == "2 counted as finished, 1 in the index"
