"""A namespace in a cluster: its slot moves, its owner goes, and no transition is half done."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import redis

from rqd import Queue
from rqd.client.connection import Backend, backend_for
from rqd.exceptions import ServerUnavailableError
from rqd.model.records import Claim
from rqd.store.connection import client_connection, daemon_connection, url_of
from rqd.store.messages import Turn
from rqd.store.scripts import load_script
from rqd.store.store import Store
from rqd.store.wire import turn_argument
from tests import jobs
from tests.daemons import StartDaemon
from tests.store.driving import Driver, job
from tests.topology.networks import Move, Node, RedisCluster, nodes
from tests.waiting import eventually

SETTLED_S = 30.0


def queue_on(url: str | redis.RedisCluster) -> Queue:
    return Queue(connection=backend_for(url))


def contents(*nodes: Node) -> dict[str, bytes]:
    """Every key's value, also of keys that have just come over."""
    found: dict[str, bytes] = {}
    for node in nodes:
        raw: Any = redis.Redis("127.0.0.1", node.port)
        for key in raw.scan_iter(count=1000):
            with raw.pipeline(transaction=False) as pipe:
                pipe.execute_command("ASKING")
                pipe.dump(key)
                found[key.decode()] = pipe.execute()[1]
    return found


def test_a_daemon_and_a_client_find_the_owner_from_any_node(
    cluster: RedisCluster, start_daemon: StartDaemon
) -> None:
    stranger = next(node for node in cluster.nodes if node is not cluster.owner("{rqd}:queues"))
    url = f"redis+cluster://{stranger.address}"
    daemon = start_daemon(url=url)

    done = queue_on(url).enqueue(jobs.multiply, 6, 7)

    result = done.latest_result(timeout=10)
    assert result is not None
    assert result.return_value == 42
    assert daemon.stop() == 0


def test_a_users_cluster_client_is_read(cluster: RedisCluster, start_daemon: StartDaemon) -> None:
    first = cluster.nodes[0]
    with redis.RedisCluster(host="127.0.0.1", port=first.port) as theirs:
        queue = Queue(connection=theirs)
        assert queue.connection.url.startswith("redis+cluster://127.0.0.1:")
        start_daemon(url=url_of(theirs))
        result = queue.enqueue(jobs.multiply, 6, 7).latest_result(timeout=10)
        assert result is not None
        assert result.return_value == 42


def test_a_moved_slot_is_followed_at_once(cluster: RedisCluster) -> None:
    driver = Driver(cluster.url)
    driver.enqueue("a")

    cluster.begin_move("{rqd}:queues").finish()

    driver.enqueue("b")
    assert driver.ready() == ["a", "b"]


def slot_half_moved(cluster: RedisCluster, driver: Driver, *moved: str) -> Move:
    """The slot on its way, with these keys at the other node."""
    move = cluster.begin_move(driver.store.keys.queues)
    if moved:
        move.keys(*moved)
    return move


TRANSITIONS: dict[str, Callable[[Driver, Claim], Any]] = {
    "enqueue": lambda rqd, _: rqd.enqueue("new"),
    "claim": lambda rqd, _: rqd.claim(2),
    "settle": lambda rqd, held: rqd.settle(held),
    "beat": lambda rqd, held: rqd.beat(held),
    "cancel": lambda rqd, _: rqd.store.cancel("a"),
    "delete": lambda rqd, _: rqd.store.delete("a"),
    "empty": lambda rqd, _: rqd.store.empty("low"),
    "requeue": lambda rqd, _: rqd.store.requeue("failed"),
    "save_meta": lambda rqd, _: rqd.store.save_meta("a", b"x"),
    "hello": lambda rqd, _: rqd.store.hello("n", "boot", 15, {"state": "idle"}),
    "bye": lambda rqd, _: rqd.store.bye("m", "b", 1),
    "command": lambda rqd, _: rqd.store.command({"id": "1", "do": "stop"}, ["m"]),
}


@pytest.mark.parametrize("name", TRANSITIONS)
@pytest.mark.parametrize("moved", [[], ["{rqd}:job:b"], ["{rqd}:leases"], ["{rqd}:queues"]])
def test_nothing_is_done_by_halves_while_the_slot_moves(
    cluster: RedisCluster, name: str, moved: list[str]
) -> None:
    driver = Driver(cluster.url)
    driver.enqueue("failed", "held", "a", "b", "c")
    driver.settle(driver.claim_one(), "fail")
    held = driver.claim_one()
    driver.beat(held)
    driver.store = Store(daemon_connection(cluster.url))  # asks once, as the daemon does
    move = slot_half_moved(cluster, driver, *moved)
    before = contents(move.source, move.target)

    with pytest.raises(redis.ConnectionError, match="is being moved to another node"):
        TRANSITIONS[name](driver, held)

    assert contents(move.source, move.target) == before
    move.finish()
    driver.store = Store(client_connection(cluster.url))
    TRANSITIONS[name](driver, held)
    assert contents(move.target) != before


def test_without_the_guard_a_claim_would_be_done_by_halves(cluster: RedisCluster) -> None:
    """What the guard is for: this fails where servers come to do better by themselves."""
    driver = Driver(cluster.url)
    driver.enqueue("held", job("later", delay_us=10**9), "a")
    driver.claim_one()
    move = slot_half_moved(cluster, driver)
    before = contents(move.source)
    raw = redis.Redis("127.0.0.1", move.source.port)

    (precedence,) = (key for key in before if ":precedence:" in key)
    packed, _ = turn_argument(Turn("request", "m", 15_000_000, free_workers=(7,)))
    arguments: list[Any] = ["request", "m", 15_000_000, "", packed]
    arguments += [precedence.rpartition(":")[2], 0]
    with pytest.raises(redis.ResponseError, match="non local key"):
        raw.eval(load_script("turn").source, 1, "{rqd}:queues", *arguments)

    left = contents(move.source)
    assert "{rqd}:queue:low" in before
    assert "{rqd}:queue:low" not in left  # it is to be claimed no more, and nobody has it
    assert driver.status("a") == "started"
    move.finish()


def test_a_client_waits_for_the_end_of_a_move(cluster: RedisCluster) -> None:
    driver = Driver(cluster.url)
    driver.enqueue("a")
    move = slot_half_moved(cluster, driver, "{rqd}:job:a")
    finishing = threading.Timer(0.5, move.finish)
    finishing.start()

    driver.enqueue("b")  # as soon as it can

    finishing.join()
    assert driver.ready() == ["a", "b"]


def test_a_client_does_not_wait_for_ever(
    cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rqd.store.connection._CLIENT_PATIENCE_S", 0.3)
    driver = Driver(cluster.url)
    driver.enqueue("a")
    move = slot_half_moved(cluster, driver)

    with pytest.raises(ServerUnavailableError, match="is being moved") as caught:
        driver.enqueue("b")

    assert "\n" not in str(caught.value)
    move.finish()


def has_grown(made: list[Any], count: int) -> bool:
    return len(made) > count


def test_jobs_run_on_while_their_slot_is_moved(
    cluster: RedisCluster, start_daemon: StartDaemon
) -> None:
    daemon = start_daemon("--jobs-per-child", "50", url=cluster.url, workers=4)
    queue = queue_on(cluster.url)
    made: list[Any] = []
    enough = threading.Event()

    def produce() -> None:
        while not enough.is_set():
            made.append(queue.enqueue(jobs.multiply, len(made), 2))

    producer = threading.Thread(target=produce)
    producer.start()
    try:
        for _ in range(2):  # there, and on
            eventually(partial(has_grown, made, len(made) + 100), 20.0, "jobs to be made")
            move = cluster.begin_move("{rqd}:queues")
            move.some(20)
            eventually(lambda: "is being moved" in daemon.log(), 10.0, daemon.log)
            move.finish()
    finally:
        enough.set()
        producer.join()

    registry = queue.finished_job_registry
    eventually(lambda: registry.count == len(made), SETTLED_S, lambda: f"{registry.count} done")
    assert all(len(job.results()) == 1 for job in made)
    assert [job.return_value() for job in made] == [2 * number for number in range(len(made))]
    assert "can't be recorded" not in daemon.log()
    assert daemon.stop() == 0


def test_a_lost_owner_is_waited_for(cluster: RedisCluster, start_daemon: StartDaemon) -> None:
    daemon = start_daemon(url=cluster.url)
    owner = cluster.owner("{rqd}:queues")
    owner.server.freeze()
    try:
        eventually(lambda: "redis is gone" in daemon.log(), 10.0, daemon.log)
        assert daemon.running
    finally:
        owner.server.thaw()
    result = queue_on(cluster.url).enqueue(jobs.multiply, 6, 7).latest_result(timeout=10)
    assert result is not None
    assert result.return_value == 42


def test_a_server_without_cluster_mode_is_told_in_one_line() -> None:
    with (
        nodes(1) as (plain,),
        pytest.raises(ServerUnavailableError, match=r"no cluster mode: write redis://") as caught,
    ):
        client_connection(f"redis+cluster://{plain.address}").ping()
    assert "is the URL right?" not in str(caught.value)  # it is known what is wrong


def test_a_namespace_of_another_slot_is_on_its_own_owner(cluster: RedisCluster) -> None:
    for namespace in ("rqd", "billing", "mail"):
        store = Store(client_connection(cluster.url), namespace)
        backend = Backend(store, cluster.url)
        store.enqueue([job("a")], store.request_id())
        assert backend.views.ready_ids("low") == ["a"]
        owner = cluster.owner(store.keys.queues)
        assert owner.admin.exists(store.keys.job("a"))
